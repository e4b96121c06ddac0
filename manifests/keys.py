"""Names of buckets and keys of objects: which ones every store can hold, and how a path resolves from a folder."""

from __future__ import annotations

import re

from manifests.errors import InvalidPath, UnusableKey
from manifests.text import without_secrets_in

MAX_KEY_BYTES = 1024
"""Longest object key that S3 permits, in bytes of UTF-8."""

_ODD = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

OWN_FOLDERS = (".gpudrop", "_dlq")
"""Folders at a bucket's root that gpudrop reserves: its state, and dead letters."""


def join_key(folder: str, path: str, *, where: str = "") -> str:
    """Resolves `path` from `folder`, "." and ".." included. Raises InvalidPath when it leaves the bucket."""
    parts = [] if path.startswith("/") else folder.split("/")[:-1]
    segments = path.removeprefix("/").split("/")
    for i, segment in enumerate(segments):
        if segment == "..":
            if not parts:
                raise InvalidPath(
                    f"{path[:200]!r} leads out of the bucket.", hint="Stay inside the bucket.", where=where
                )
            parts.pop()
        elif segment == "." or (segment == "" and i == len(segments) - 1):
            continue
        else:
            parts.append(segment)
    is_folder = segments[-1] in ("", ".", "..")
    return "/".join(parts) + ("/" if is_folder and parts else "")


def check_key(key: str, *, where: str = "") -> str:
    """Returns `key` when every store can hold it; raises UnusableKey otherwise."""
    problem = key_problem(key)
    if problem:
        start = key if len(key) <= 200 else key[:200] + "…"
        raise UnusableKey(
            f"The key {start!r} {problem}.",
            hint="Rename the object: no empty, '.' or '..' segments, no control characters, at most 1024 bytes.",
            where=where,
        )
    return key


def key_problem(key: str) -> str:
    """Returns why `key` is unusable, as the end of a sentence; "" when it is usable."""
    if not key:
        return "is empty"
    if len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        return "is longer than 1024 bytes"
    if odd := _ODD.search(key):
        return "holds a control character" if odd[0] < "\ud800" else "holds half of a surrogate pair, no character"
    segments = key.removesuffix("/").split("/")
    if any(s == "" for s in segments):
        return "has an empty segment ('//', or a '/' at its start)"
    if any(s in (".", "..") for s in segments):
        return "has a '.' or '..' segment"
    return ""


def output_folder(path: str | None, *, folder: str, allow_parent: bool = False, where: str = "path") -> str:
    """Returns the folder for outputs: `path` resolved from the drop's `folder`, or that folder itself.

    "/…" starts at the bucket's root. `allow_parent` (the operator's own triggers) permits ".."; it never leaves the
    bucket. The result is "" or ends in "/". Raises InvalidPath or UnusableKey.
    """
    if path is None or path in ("", "."):
        return folder
    if "://" in path:
        raise InvalidPath(
            f"The output path {without_secrets_in(path)!r} is an address.",
            hint="Name a folder of the same bucket, relative to the manifest or from the root with a leading '/'.",
            where=where,
        )
    if not allow_parent and has_parent_segment(path):
        raise InvalidPath(
            f"The output path {path[:200]!r} holds '..'.",
            hint="Name a folder below the manifest, or start with '/' to count from the bucket's root.",
            where=where,
        )
    inner = path.rstrip("/")
    joined = join_key(folder, inner + "/", where=where) if inner else ""
    if joined:
        check_key(joined, where=where)
    if joined.partition("/")[0] in OWN_FOLDERS:
        raise InvalidPath(f"The folder {joined!r} is gpudrop's own.", hint="Choose another folder.", where=where)
    return joined


def has_parent_segment(path: str) -> bool:
    """Returns whether `path` has a ".." segment, with either kind of slash."""
    return ".." in path.replace("\\", "/").split("/")


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{1,61}[A-Za-z0-9]")
"""As MinIO accepts them, and Amazon once did; new buckets have no capitals, no "_" and no ":"."""
_ADDRESS = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9.-]+")

RULES = "3 to 63 of a-z, 0-9, '-' and '.', with a letter or digit at both ends"


def bucket_name_problem(name: str) -> str:
    """Returns why no bucket can be called `name`, as a clause with the remedy; "" when one can."""
    if _NAME.fullmatch(name) and ".." not in name and not _ADDRESS.fullmatch(name):
        return ""
    return f"no bucket can be called {name[:100]!r}: {suggestion(name)}"


def suggestion(name: str) -> str:
    """Returns what to write instead of `name`."""
    bare = name.strip().partition("://")[2] if "://" in name else name.strip()
    bucket, slash, folder = bare.partition("/")
    if slash and "://" not in name and folder.strip("/"):
        return f"write {bucket!r}, and {folder.strip('/') + '/'!r} as the `prefix` of a trigger or of `manifests`"
    meant = re.sub(r"\.{2,}", ".", _NOT_IN_NAMES.sub("-", bucket.lower())).strip("-.")[:63].strip("-.")
    if _NAME.fullmatch(meant) and meant != name and not _ADDRESS.fullmatch(meant):
        return f"did you mean {meant!r}? A name has {RULES}"
    return f"a name has {RULES}"
