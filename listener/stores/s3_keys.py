"""Keys an S3 store does not work with, and objects too large to be read."""

from __future__ import annotations

from manifests.errors import InputTooLarge, UnusableKey


def is_marker(key: str) -> bool:
    return key.endswith("/")


def refuse_marker(key: str) -> None:
    if is_marker(key):
        raise UnusableKey(f"The key {key!r} names a folder.", hint="Name an object: a key that does not end in '/'.")


def too_large(key: str, size: int, max_bytes: int) -> InputTooLarge:
    return InputTooLarge(
        f"{key!r} has {size} bytes; at most {max_bytes} are read.", hint="Make it smaller, or split it.", where=key
    )
