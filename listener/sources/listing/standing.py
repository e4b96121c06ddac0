"""How several buckets stand, told as one condition."""

from __future__ import annotations

from dataclasses import dataclass

from listener.sources.base import Condition
from manifests.errors import GpuDropError


@dataclass(frozen=True, slots=True)
class BucketListed:
    """What a finished listing of a bucket came to. `took_s` is the time the store needed for it."""

    objects: int
    odd: int
    took_s: float


class BucketConditions:
    """A bucket in trouble is told of until it has been listed, whatever its neighbours do."""

    def __init__(self) -> None:
        self._listed: dict[str, BucketListed] = {}
        self._problem: dict[str, GpuDropError] = {}

    def listed(self, bucket: str, listed: BucketListed) -> Condition:
        self._listed[bucket] = listed
        self._problem.pop(bucket, None)
        return self.condition

    def failed(self, bucket: str, error: GpuDropError) -> Condition:
        """`bucket` is "" where the buckets themselves could not be asked for."""
        self._problem[bucket] = error
        return self.condition

    def gone(self, bucket: str) -> Condition:
        self._listed.pop(bucket, None)
        self._problem.pop(bucket, None)
        return self.condition

    @property
    def condition(self) -> Condition:
        if self._problem:
            bucket, *others = sorted(self._problem)
            told = Condition.problem(self._problem[bucket])
            return (
                Condition(False, f"{told.detail} (and {_many(len(others), 'bucket')} more)", told.code, told.hint)
                if (others)
                else told
            )
        objects = sum(listed.objects for listed in self._listed.values())
        odd = sum(listed.odd for listed in self._listed.values())
        took_s = sum(listed.took_s for listed in self._listed.values())
        text = f"{_many(objects, 'object')} in {_many(len(self._listed), 'bucket')} listed in {took_s:.1f} s"
        return Condition(True, f"{text}, {_many(odd, 'key')} unusable" if odd else text)


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
