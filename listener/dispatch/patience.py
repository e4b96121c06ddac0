"""Waiting for the ledger and the store: what is known of a paid job is never given up because they are away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import structlog

from gpu_dispatch.waiting import Backoff
from manifests.errors import StoreUnavailable

T = TypeVar("T")
P = ParamSpec("P")
log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

_BACKOFF = Backoff(base_s=0.5, cap_s=30.0)


async def patiently(rng: random.Random, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """The outcome of `work`, which is done again, for as long as it takes, while it raises StoreUnavailable."""
    attempt = 0
    while True:
        try:
            return await work(*args, **kwargs)
        except StoreUnavailable as e:
            attempt += 1
            log.warning("dispatch_delayed", code=e.info.code, error=str(e), hint=e.info.hint)
        await asyncio.sleep(_BACKOFF.delay(attempt, rng))
