"""Rate limits of RunPod's API: token buckets, which compute waits, and the limiter, which waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from manifests.errors import EndpointUnavailable

Kind = Literal["run", "status", "cancel", "retry", "health", "purge"]

WINDOW_S = 10.0


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The limit of one kind of call at one endpoint."""

    calls: int
    """In any ten seconds."""
    concurrency: int
    """Concurrent calls."""

    def bucket(self) -> TokenBucket:
        """Returns a bucket whose burst is a tenth of `calls`; the rest is spread, so that no ten seconds exceed it."""
        burst = max(1, self.calls // 10)
        return TokenBucket(rate=max(1, self.calls - burst) / WINDOW_S, burst=burst)


LIMITS: Mapping[Kind, RateLimit] = {
    "run": RateLimit(1000, 200),
    "status": RateLimit(2000, 400),
    "cancel": RateLimit(100, 20),
    "retry": RateLimit(100, 20),
    "health": RateLimit(100, 20),
    "purge": RateLimit(2, 1),
}
"""Per endpoint, as RunPod documents them (August 2026); retry and health are undocumented and chosen low."""


@dataclass(slots=True)
class TokenBucket:
    """A token bucket, first come, first served. Times are seconds of any clock."""

    rate: float
    """Calls a second once the burst is used."""
    burst: int = 1
    """Calls let through at once."""
    _next: float = field(default=float("-inf"), init=False)
    """When the next call would pass without the burst."""
    _paused_until: float = field(default=float("-inf"), init=False)

    def wait(self, now: float) -> float:
        """Returns the seconds that a call made now would wait."""
        return max(0.0, self._next - (self.burst - 1) / self.rate - now, self._paused_until - now)

    def take(self, now: float) -> float:
        """Reserves the next call and returns the seconds it has to wait."""
        wait = self.wait(now)
        self._next = max(self._next, now) + 1 / self.rate
        return wait

    def pause(self, until: float) -> None:
        """Lets nothing pass before `until`, and then no burst: the server has reported too many calls."""
        self._paused_until = max(self._paused_until, until)
        self._next = max(self._next, self._paused_until + (self.burst - 1) / self.rate)

    def paused(self, now: float) -> float:
        """Returns the seconds left of a pause; a call reserved before the pause has to reserve again."""
        return max(0.0, self._paused_until - now)


class RateLimiter:
    """Limits this process's calls, for each endpoint and kind of call."""

    def __init__(self, limits: Mapping[Kind, RateLimit] = LIMITS) -> None:
        self._limits = limits
        self._buckets: dict[tuple[str, Kind], list[TokenBucket]] = {}
        self._under_way: dict[tuple[str, Kind], asyncio.Semaphore] = {}

    def set_submission_rate(self, endpoint_id: str, per_s: float) -> None:
        """Limits submissions to the endpoint to `per_s` jobs a second, replacing an earlier such limit."""
        self._of(endpoint_id, "run")[1:] = [TokenBucket(per_s)]

    def pause(self, endpoint_id: str, kind: Kind, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        for bucket in self._of(endpoint_id, kind):
            bucket.pause(until)

    @asynccontextmanager
    async def acquire(self, endpoint_id: str, kind: Kind, max_wait_s: float) -> AsyncGenerator[None]:
        """Waits for the call's turn. Raises EndpointUnavailable when it would come later than in `max_wait_s`."""
        clock = asyncio.get_running_loop().time
        latest = clock() + max_wait_s
        buckets = tuple(self._of(endpoint_id, kind))

        def check(bucket: TokenBucket) -> None:
            if clock() + bucket.wait(clock()) > latest:
                raise _too_much(endpoint_id, kind, bucket.wait(clock()))

        for bucket in buckets:
            check(bucket)
        try:
            async with asyncio.timeout_at(latest):
                await self._under_way[endpoint_id, kind].acquire()
        except TimeoutError as e:
            raise _too_much(endpoint_id, kind, max_wait_s) from e
        try:
            # Last, as a call goes out when it has its tokens: those of calls held up here would be spent in one burst.
            for bucket in buckets:
                while True:
                    check(bucket)
                    if (pause := bucket.take(clock())) > 0:
                        await asyncio.sleep(pause)
                    if bucket.paused(clock()) <= 0:
                        break
            yield
        finally:
            self._under_way[endpoint_id, kind].release()

    def _of(self, endpoint_id: str, kind: Kind) -> list[TokenBucket]:
        key = endpoint_id, kind
        if key not in self._buckets:
            self._buckets[key] = [self._limits[kind].bucket()]
            self._under_way[key] = asyncio.Semaphore(self._limits[kind].concurrency)
        return self._buckets[key]


def _too_much(endpoint_id: str, kind: Kind, wait_s: float) -> EndpointUnavailable:
    return EndpointUnavailable(
        f"RunPod's limits let no further call ({kind}) to endpoint {endpoint_id} through for {wait_s:.0f} s.",
        hint="It is tried again. Share the work among several endpoints, or lower their `rate`.",
    )
