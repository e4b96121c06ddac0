"""Which streams to ask the server for: few, each as narrow as its one prefix and one suffix allow. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

MAX_BYTES = 1024
"""Of a prefix or a suffix, in UTF-8."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Keys that begin with `prefix` and end with `suffix`."""

    prefix: str = ""
    suffix: str = ""


EVERYTHING = (Filter(),)

Filters = Callable[[str], Sequence[Filter]]
"""What could be of interest in a bucket: keys that pass any of these. None: nothing is."""


def anything(bucket: str) -> Sequence[Filter]:
    del bucket
    return EVERYTHING


@dataclass(frozen=True, slots=True)
class Stream:
    """One request for events. Without a `bucket` it tells those of the whole server."""

    bucket: str
    filter: Filter = EVERYTHING[0]

    def __str__(self) -> str:
        return f"bucket {self.bucket!r}" if self.bucket else "all buckets"


def plan(buckets: Sequence[str], filters: Filters, *, by_bucket: bool) -> tuple[Stream, ...]:
    """No buckets: all of the server, whatever the filters say, for nobody knows which those are.

    `by_bucket`: the server does not tell the events of all buckets on one stream.
    """
    if not buckets:
        return (Stream(""),)
    wanted = {bucket: found for bucket in dict.fromkeys(buckets) if (found := filters(bucket))}
    if by_bucket or len(wanted) < 2:
        return tuple(Stream(bucket, common(found)) for bucket, found in wanted.items())
    return (Stream("", common([each for found in wanted.values() for each in found])),)


def common(filters: Sequence[Filter]) -> Filter:
    """The narrowest filter a server takes that passes whatever any of `filters` passes."""
    prefix = _usable_prefix(_shared(each.prefix for each in filters))
    suffix = _usable_suffix(_shared(each.suffix[::-1] for each in filters)[::-1])
    # The server wants both in one key one after the other: "ab" and "bc" would keep "abc" back.
    overlapping = any(prefix.endswith(suffix[:n]) for n in range(1, len(suffix) + 1))
    return Filter(prefix, "" if overlapping else suffix)


def _shared(texts: Iterable[str]) -> str:
    """What all of `texts` begin with."""
    first, *others = texts
    length = len(first)
    for other in others:
        pairs = zip(first[:length], other, strict=False)
        length = next((i for i, (a, b) in enumerate(pairs) if a != b), min(length, len(other)))
    return first[:length]


def _usable_prefix(text: str) -> str:
    ends = [len(text), *(at for c in "\\*?" if (at := text.find(c)) >= 0)]
    return _longest(text[:end] for end in range(min(ends), 0, -1))


def _usable_suffix(text: str) -> str:
    starts = [0, *(at + 1 for c in "\\*?" if (at := text.rfind(c)) >= 0)]
    return _longest(text[start:] for start in range(max(starts), len(text)))


def _longest(shrinking: Iterable[str]) -> str:
    return next((text for text in shrinking if _allowed(text)), "")


def _allowed(text: str) -> bool:
    """As the server judges it: short enough, text, and no segment that a file system would take for a folder."""
    try:
        short = len(text.encode()) <= MAX_BYTES
    except UnicodeEncodeError:
        return False
    return short and not {".", ".."} & set(text.split("/"))
