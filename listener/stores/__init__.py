"""Stores of objects: S3, and a folder on this machine used like a bucket."""
