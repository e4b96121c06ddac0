"""Which keys are manifests, which belong to gpudrop, and the names of the documents beside a drop.

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
    """Returns whether `key` is named like a manifest: its suffix in any case, its name not empty."""
    return not is_reserved(key) and _stem(key) != _base(key)


def is_reserved(key: str) -> bool:
    """Returns whether an event for `key` starts nothing: gpudrop's documents and folders, defaults, folder markers.

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
    """Returns the `drop_path` of the drop to cancel: "a/talk" for "a/talk.cancel"; None for any other key."""
    if is_reserved(key) or not _base(key).lower().endswith(CANCEL_SUFFIX):
        return None
    target = key[: -len(CANCEL_SUFFIX)]
    return target if _base(target) else None


def drop_name(key: str) -> str:
    """Returns "talk" for "a/talk.job.yaml", "talk.mp3" for "a/talk.mp3"."""
    return _stem(key)


def drop_folder(key: str) -> str:
    """Returns the folder of `key`: "", or ending in "/"."""
    return key[: len(key) - len(_base(key))]


def drop_path(key: str) -> str:
    """Returns folder and name of a drop, with which its sidecars' keys begin."""
    return drop_folder(key) + drop_name(key)


def sidecar_key(key: str, kind: Sidecar) -> str:
    """Returns the key of the drop's sidecar of this `kind`, unless an earlier drop of that name has it."""
    return f"{drop_path(key)}.{kind}.json"


def sidecar_parts(key: str) -> tuple[str, Sidecar] | None:
    """Splits a sidecar's key: ("a/talk", "done") for "a/talk.done.json"; None for any other key."""
    for kind in _KINDS:
        path = key.removesuffix(f".{kind}.json")
        if path != key and _base(path) and key.partition("/")[0] not in OWN_FOLDERS:
            return path, kind
    return None


def sidecar_names(key: str) -> Iterator[str]:
    """Yields what the keys of a drop's sidecars may begin with, the preferred one first, without end.

    For "a/w.job.yaml" that is "a/w", or its full key where another drop has that, or that with a number.
    """
    if drop_path(key) != key:
        yield drop_path(key)
    yield key
    yield from (f"{key}.{n}" for n in count(2))


def namesakes(key: str) -> tuple[str, ...]:
    """Returns the other drops whose sidecars would have the same names, as far as their keys can be guessed."""
    path = drop_path(key)
    return tuple(other for other in (path, *(path + suffix for suffix in MANIFEST_SUFFIXES)) if other != key)


def dlq_key(run_id: str, when: datetime) -> str:
    """Returns the key of the dead letter of a run that failed `when`; its day is in UTC."""
    return f"_dlq/{when.astimezone(UTC):%Y/%m/%d}/{run_id}.json"


def defaults_keys(key: str) -> tuple[str, ...]:
    """Returns the keys of possible defaults for the drop at `key`: the bucket's root first, its own folder last."""
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
