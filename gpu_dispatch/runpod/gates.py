"""The turnstiles before RunPod's API: a call waits here until the limits of its endpoint let it through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from gpu_dispatch.runpod.limits import LIMITS, Kind, RateLimit, TokenBucket
from manifests.errors import EndpointUnavailable


class RateLimiter:
    """One for each endpoint and kind of call. They count what this process sends; others answer for themselves."""

    def __init__(self, limits: Mapping[Kind, RateLimit] = LIMITS) -> None:
        self._limits = limits
        self._buckets: dict[tuple[str, Kind], list[TokenBucket]] = {}
        self._under_way: dict[tuple[str, Kind], asyncio.Semaphore] = {}

    def at_most(self, endpoint_id: str, per_s: float) -> None:
        """From now on at most `per_s` jobs a second are sent to the endpoint, instead of what was said before."""
        self._of(endpoint_id, "run")[1:] = [TokenBucket(per_s)]

    def pause(self, endpoint_id: str, kind: Kind, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        for bucket in self._of(endpoint_id, kind):
            bucket.pause(until)

    @asynccontextmanager
    async def passed(self, endpoint_id: str, kind: Kind, patience_s: float) -> AsyncGenerator[None]:
        """Raises EndpointUnavailable, and nothing is sent, when the turn would come later than in `patience_s`."""
        clock = asyncio.get_running_loop().time
        latest = clock() + patience_s
        for bucket in tuple(self._of(endpoint_id, kind)):
            while True:
                if clock() + bucket.wait(clock()) > latest:
                    raise _too_much(endpoint_id, kind, bucket.wait(clock()))
                if (pause := bucket.take(clock())) > 0:
                    await asyncio.sleep(pause)
                if bucket.paused(clock()) <= 0:
                    break
        try:
            async with asyncio.timeout_at(latest):
                await self._under_way[endpoint_id, kind].acquire()
        except TimeoutError as e:
            raise _too_much(endpoint_id, kind, patience_s) from e
        try:
            yield
        finally:
            self._under_way[endpoint_id, kind].release()

    def _of(self, endpoint_id: str, kind: Kind) -> list[TokenBucket]:
        key = endpoint_id, kind
        if key not in self._buckets:
            self._buckets[key] = [self._limits[kind].bucket()]
            self._under_way[key] = asyncio.Semaphore(self._limits[kind].at_once)
        return self._buckets[key]


def _too_much(endpoint_id: str, kind: Kind, wait_s: float) -> EndpointUnavailable:
    return EndpointUnavailable(
        f"RunPod's limits let no further call ({kind}) to endpoint {endpoint_id} through for {wait_s:.0f} s.",
        hint="It is tried again. Share the work among several endpoints, or lower their `rate`.",
    )
