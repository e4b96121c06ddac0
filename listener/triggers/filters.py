"""Filters as servers have them, one prefix and one suffix each, derived from triggers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from listener.triggers.globs import literal_prefixes, literal_suffixes, shortest
from listener.triggers.triggers import Trigger, prefixes
from manifests.names import CANCEL_SUFFIX, MANIFEST_SUFFIXES

MAX_BYTES = 1024
"""Most bytes of a prefix or a suffix, in UTF-8."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Passes keys that begin with `prefix` and end with `suffix`."""

    prefix: str = ""
    suffix: str = ""


EVERYTHING = (Filter(),)

MAX_RULES = 50
"""Most filters of ours for a bucket: Amazon S3 takes 100, those of other programs included."""

_MAX_PAIRS = 1000


def filters_of(triggers: Sequence[Trigger], bucket: str, *, most: int = MAX_RULES) -> tuple[Filter, ...]:
    """Returns filters of which every key that could start or cancel a run passes exactly one; () when no key could.

    A manifest's suffix and an extension may have any case, a filter's has one: that of the trigger, lower for
    manifests; a listing finds the others. More than `most` filters become the narrowest single one.
    """
    wanted = [found for trigger in triggers for found in _starting(trigger, bucket)]
    wanted += [Filter(prefix, CANCEL_SUFFIX) for prefix in prefixes(triggers, bucket)]
    found = disjoint(common_filter([each]) for each in wanted)
    return found if len(found) <= most else (common_filter(found),)


def disjoint(filters: Iterable[Filter]) -> tuple[Filter, ...]:
    """Returns filters that pass all that `filters` pass, and of which no two overlap as servers see it."""
    kept: list[Filter] = []
    for each in sorted(set(filters), key=_breadth):
        joined = each
        while (other := next((k for k in kept if overlap(k, joined)), None)) is not None:
            kept.remove(other)
            joined = common_filter([other, joined])
        kept.append(joined)
    return tuple(sorted(kept, key=_breadth))


def overlap(one: Filter, other: Filter) -> bool:
    """Returns whether a server that refuses two rules for the same events would refuse these."""
    return (one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)) and (
        one.suffix.endswith(other.suffix) or other.suffix.endswith(one.suffix)
    )


def _starting(trigger: Trigger, bucket: str) -> Iterator[Filter]:
    if trigger.buckets and bucket not in trigger.buckets:
        return
    for pattern in trigger.patterns or ("*",):
        starts = shortest(_intersected_prefixes(literal_prefixes((pattern,)), trigger.prefix))
        ends = list(_intersected_prefixes(_reversed(literal_suffixes((pattern,))), trigger.suffix[::-1]))
        if trigger.manifest is None:
            ends = [found for suffix in _reversed(MANIFEST_SUFFIXES) for found in _intersected_prefixes(ends, suffix)]
        suffixes = _reversed(shortest(ends))
        if len(starts) * len(suffixes) > _MAX_PAIRS:
            suffixes = ("",)
        yield from (Filter(start, suffix) for start in starts for suffix in suffixes)


def _reversed(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(text[::-1] for text in texts)


def _intersected_prefixes(beginnings: Iterable[str], other: str) -> Iterator[str]:
    """Yields, for each prefix of `beginnings`, the longer one of it and `other`, where that begins with the shorter."""
    for each in beginnings:
        if each.startswith(other):
            yield each
        elif other.startswith(each):
            yield other


def _breadth(each: Filter) -> tuple[int, int, str, str]:
    return len(each.prefix), len(each.suffix), each.prefix, each.suffix


def common_filter(filters: Sequence[Filter]) -> Filter:
    """Returns the narrowest filter acceptable to a server that passes all that `filters` pass."""
    prefix = _usable_prefix(_shared(each.prefix for each in filters))
    suffix = _usable_suffix(_shared(each.suffix[::-1] for each in filters)[::-1])
    # A key must hold both without overlap: "ab" and "bc" would not pass "abc".
    overlapping = any(prefix.endswith(suffix[:n]) for n in range(1, len(suffix) + 1))
    return Filter(prefix, "" if overlapping else suffix)


def _shared(texts: Iterable[str]) -> str:
    """Returns the longest prefix that all of `texts` share."""
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
    """Returns whether a server accepts `text`: short, valid UTF-8, and no segment "." or ".."."""
    try:
        short = len(text.encode()) <= MAX_BYTES
    except UnicodeEncodeError:
        return False
    return short and not {".", ".."} & set(text.split("/"))
