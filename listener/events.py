"""What happened in a bucket, whoever told us."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ObjectCreated:
    """An object appeared or was overwritten. `key` is raw. What the object is now, only a HEAD can tell."""

    bucket: str
    key: str
    source: str
    """Name of the source that told: for logs and counts."""
    moment: int = field(default=0, compare=False)
    """When it was last modified, in nanoseconds since the epoch, as far as its sequencer tells; 0: unknown."""
    etag: str = field(default="", compare=False)
    """Of what was written then, without quotes; "": unknown."""


@dataclass(frozen=True, slots=True)
class ObjectRemoved:
    bucket: str
    key: str
    source: str


ObjectEvent = ObjectCreated | ObjectRemoved
