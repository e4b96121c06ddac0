"""Where a listing begins and ends, and which keys obstore can be given. Pure."""

from __future__ import annotations

from manifests.keys import key_problem

REPLACED = "\ufffd"
"""What servers put where XML cannot carry a character: a key that holds it may be another one."""


def holds(key: str) -> bool:
    """Whether obstore can be given `key` (or the beginning of one) and sends it as it is; "" it can."""
    return not key or (not key_problem(key) and REPLACED not in key)


def before(prefix: str) -> str | None:
    """A text that comes before every key that starts with `prefix`, and behind most that come before those.

    None where there is none, and where none is needed: a folder is listed from its start.
    """
    if not prefix or prefix.endswith("/"):
        return None
    text = f"{prefix[:-1]}{chr(max(ord(prefix[-1]) - 1, 0))}~"
    return text if holds(text) else None


def is_past(key: str, folder: str, name: str) -> bool:
    """Whether no key that starts with `folder`/`name` comes behind `key`.

    True only where it is so both for servers that order keys by their bytes and for those that walk a tree of folders.
    """
    if not name:
        return False
    first = key[len(folder) + 1 if folder else 0 :].partition("/")[0]
    return first[: len(name)] > name
