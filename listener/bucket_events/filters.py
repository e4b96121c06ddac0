"""From triggers to the filters that notification rules can have: one prefix and one suffix each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from listener.patterns import literal_prefixes, shortest
from listener.sources.listen.planning import Filter, common
from listener.triggers import Trigger, prefixes
from manifests.names import CANCEL_SUFFIX, MANIFEST_SUFFIXES

MAX_RULES = 50
"""Amazon S3 takes 100 a bucket, those of others included."""

_MAX_PAIRS = 1000
_TURNED = str.maketrans("{}", "}{")


def filters_of(triggers: Sequence[Trigger], bucket: str, *, most: int = MAX_RULES) -> tuple[Filter, ...]:
    """Every key that could start or cancel a run passes one of these, none passes two; () when none could.

    A manifest's suffix counts in any case, a filter's in one: lower case is taken, a listing finds the others. More
    than `most` filters become the narrowest single one.
    """
    wanted = [found for trigger in triggers for found in _starting(trigger, bucket)]
    wanted += [Filter(prefix, CANCEL_SUFFIX) for prefix in prefixes(triggers, bucket)]
    found = apart(common([each]) for each in wanted)
    return found if len(found) <= most else (common(found),)


def apart(filters: Iterable[Filter]) -> tuple[Filter, ...]:
    """What passes any of `filters` passes one of these, and no two of them overlap as servers see it."""
    kept: list[Filter] = []
    for each in sorted(set(filters), key=_breadth):
        joined = each
        while (other := next((k for k in kept if overlap(k, joined)), None)) is not None:
            kept.remove(other)
            joined = common([other, joined])
        kept.append(joined)
    return tuple(sorted(kept, key=_breadth))


def overlap(one: Filter, other: Filter) -> bool:
    """Whether a server that refuses rules for the same events would refuse these two together."""
    return (one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)) and (
        one.suffix.endswith(other.suffix) or other.suffix.endswith(one.suffix)
    )


def literal_suffixes(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """What keys that match any of `patterns` end with. A glob read backwards is a glob."""
    turned = tuple(pattern[::-1].translate(_TURNED) for pattern in patterns)
    return tuple(found[::-1].translate(_TURNED) for found in literal_prefixes(turned))


def _starting(trigger: Trigger, bucket: str) -> Iterator[Filter]:
    if trigger.buckets and bucket not in trigger.buckets:
        return
    for pattern in trigger.patterns or ("*",):
        starts = shortest(_narrower(literal_prefixes((pattern,)), trigger.prefix))
        ends = list(_narrower(_turned(literal_suffixes((pattern,))), trigger.suffix[::-1]))
        if trigger.manifest is None:
            ends = [found for suffix in _turned(MANIFEST_SUFFIXES) for found in _narrower(ends, suffix)]
        suffixes = _turned(shortest(ends))
        if len(starts) * len(suffixes) > _MAX_PAIRS:
            suffixes = ("",)
        yield from (Filter(start, suffix) for start in starts for suffix in suffixes)


def _turned(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(text[::-1] for text in texts)


def _narrower(beginnings: Iterable[str], other: str) -> Iterator[str]:
    """For each of `beginnings` what a text begins with that begins with it and with `other`, if any can."""
    for each in beginnings:
        if each.startswith(other):
            yield each
        elif other.startswith(each):
            yield other


def _breadth(each: Filter) -> tuple[int, int, str, str]:
    return len(each.prefix), len(each.suffix), each.prefix, each.suffix
