"""What a bucket can be called, and what somebody probably meant who wrote something else. Pure."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{1,61}[A-Za-z0-9]")
"""As MinIO takes them, and Amazon once did; new buckets have no capitals, no "_" and no ":"."""
_ADDRESS = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9.-]+")

RULES = "3 to 63 of a-z, 0-9, '-' and '.', with a letter or digit at both ends"


def bucket_name_problem(name: str) -> str:
    """Why no bucket is called `name`, as a clause with the remedy; "" when one may be."""
    if _NAME.fullmatch(name) and ".." not in name and not _ADDRESS.fullmatch(name):
        return ""
    return f"no bucket can be called {name[:100]!r}: {remedy(name)}"


def remedy(name: str) -> str:
    """What to write instead of `name`."""
    bare = name.strip().partition("://")[2] if "://" in name else name.strip()
    bucket, slash, folder = bare.partition("/")
    if slash and "://" not in name and folder.strip("/"):
        return f"write {bucket!r}, and {folder.strip('/') + '/'!r} as the `prefix` of a trigger or of `manifests`"
    meant = re.sub(r"\.{2,}", ".", _NOT_IN_NAMES.sub("-", bucket.lower())).strip("-.")[:63].strip("-.")
    if _NAME.fullmatch(meant) and meant != name and not _ADDRESS.fullmatch(meant):
        return f"did you mean {meant!r}? A name has {RULES}"
    return f"a name has {RULES}"
