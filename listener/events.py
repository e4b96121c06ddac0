"""What happened in a bucket, whoever told us."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ObjectCreated:
    """An object appeared or was overwritten. `key` is raw. What the object is now, only a HEAD can tell."""

    bucket: str
    key: str
    source: str
    """Name of the source that told: for logs and counts."""


@dataclass(frozen=True, slots=True)
class ObjectRemoved:
    bucket: str
    key: str
    source: str


ObjectEvent = ObjectCreated | ObjectRemoved
