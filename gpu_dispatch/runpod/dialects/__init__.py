"""Dialects: translate a task into the `input` of a worker's job, and the worker's output into a result."""
