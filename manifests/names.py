"""Which keys are manifests, which belong to gpudrop, and what the documents beside a drop are called.

A drop is a manifest ("a/talk.job.yaml", whose name is "talk") or bare media ("a/talk.mp3", which keeps its full name).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Literal

from manifests.keys import OWN_FOLDERS

MANIFEST_SUFFIXES = (".job.json", ".job.yaml", ".job.yml", ".job.csv")
DEFAULTS_NAME = "_gpudrop.yaml"
"""Folder defaults: fields for the manifests of a folder and of all below it."""

CANCEL_SUFFIX = ".cancel"

Sidecar = Literal["status", "done", "error"]

_KINDS: tuple[Sidecar, ...] = ("status", "done", "error")
SIDECAR_SUFFIXES = tuple(f".{kind}.json" for kind in _KINDS)


def is_manifest(key: str) -> bool:
    """Whether `key` is named like a manifest; its suffix counts in any case, its name may not be empty."""
    return not is_reserved(key) and _stem(key) != _base(key)


def is_reserved(key: str) -> bool:
    """Whether an event for `key` starts nothing: our own documents and folders, defaults, folder markers.

    NAME.cancel is not among them; see `cancel_target`.
    """
    base = _base(key)
    return (
        not base
        or base == DEFAULTS_NAME
        or base.lower().endswith(SIDECAR_SUFFIXES)
        or key.partition("/")[0] in OWN_FOLDERS
        or ".gpudrop" in key.split("/")[:-1]
    )


def cancel_target(key: str) -> str | None:
    """ "a/talk" for "a/talk.cancel": the `drop_path` of the drop to cancel. None when `key` cancels nothing."""
    if is_reserved(key) or not _base(key).lower().endswith(CANCEL_SUFFIX):
        return None
    target = key[: -len(CANCEL_SUFFIX)]
    return target if _base(target) else None


def drop_name(key: str) -> str:
    """ "talk" for "a/talk.job.yaml", "talk.mp3" for "a/talk.mp3"."""
    return _stem(key)


def drop_folder(key: str) -> str:
    """The folder `key` lies in: "" or ending in "/"."""
    return key[: len(key) - len(_base(key))]


def drop_path(key: str) -> str:
    """Folder and name of a drop: what its sidecars' keys begin with."""
    return drop_folder(key) + drop_name(key)


def sidecar_key(key: str, kind: Sidecar) -> str:
    """Where the `kind` of sidecar of the drop at `key` lies, unless another drop of that name was there before."""
    return f"{drop_path(key)}.{kind}.json"


def sidecar_parts(key: str) -> tuple[str, Sidecar] | None:
    """What a sidecar's key begins with, and its kind: ("a/talk", "done") for "a/talk.done.json"; None for others."""
    for kind in _KINDS:
        path = key.removesuffix(f".{kind}.json")
        if path != key and _base(path) and key.partition("/")[0] not in OWN_FOLDERS:
            return path, kind
    return None


def sidecar_names(key: str) -> Iterator[str]:
    """What the keys of a drop's sidecars may begin with, the best first, without end.

    "a/w.job.yaml" has "a/w", or its full key where another drop has that, or that with a number.
    """
    if drop_path(key) != key:
        yield drop_path(key)
    yield key
    yield from (f"{key}.{n}" for n in count(2))


def namesakes(key: str) -> tuple[str, ...]:
    """Other drops whose sidecars would have the names of those of `key`, as far as their keys can be guessed."""
    path = drop_path(key)
    return tuple(other for other in (path, *(path + suffix for suffix in MANIFEST_SUFFIXES)) if other != key)


def dlq_key(run_id: str, when: datetime) -> str:
    """Where the dead letter of a run that failed `when` lies; the day is UTC's."""
    return f"_dlq/{when.astimezone(UTC):%Y/%m/%d}/{run_id}.json"


def defaults_keys(key: str) -> tuple[str, ...]:
    """Where defaults for the drop at `key` may lie: the bucket's root first, its own folder last."""
    folders = drop_folder(key).split("/")[:-1]
    return tuple("".join(f"{f}/" for f in folders[:depth]) + DEFAULTS_NAME for depth in range(len(folders) + 1))


def _base(key: str) -> str:
    return key.rpartition("/")[2]


def _stem(key: str) -> str:
    base = _base(key)
    for suffix in MANIFEST_SUFFIXES:
        if base.lower().endswith(suffix) and len(base) > len(suffix):
            return base[: -len(suffix)]
    return base
