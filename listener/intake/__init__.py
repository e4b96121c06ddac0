"""Intake: turns events into recorded runs, by a durable inbox and its processor."""
