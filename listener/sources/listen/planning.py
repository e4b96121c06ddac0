"""Which streams to ask the server for: few, each as narrow as its one prefix and one suffix allow. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from listener.filters import EVERYTHING, Filter, common

Filters = Callable[[str], Sequence[Filter]]
"""What could be of interest in a bucket: keys that pass any of these. None: nothing is."""


def anything(bucket: str) -> Sequence[Filter]:
    del bucket
    return EVERYTHING


@dataclass(frozen=True, slots=True)
class ListenStream:
    """One request for events. Without a `bucket` it tells those of the whole server."""

    bucket: str
    filter: Filter = EVERYTHING[0]

    def __str__(self) -> str:
        return f"bucket {self.bucket!r}" if self.bucket else "all buckets"


def plan_streams(buckets: Sequence[str], filters: Filters, *, by_bucket: bool) -> tuple[ListenStream, ...]:
    """No buckets: all of the server, whatever the filters say, for nobody knows which those are.

    `by_bucket`: the server does not tell the events of all buckets on one stream.
    """
    if not buckets:
        return (ListenStream(""),)
    wanted = {bucket: found for bucket in dict.fromkeys(buckets) if (found := filters(bucket))}
    if by_bucket or len(wanted) < 2:
        return tuple(ListenStream(bucket, common(found)) for bucket, found in wanted.items())
    return (ListenStream("", common([each for found in wanted.values() for each in found])),)
