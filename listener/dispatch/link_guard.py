"""The key of each attempt, and the guard that keeps tasks from workers whose links would open too much."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf

import structlog

from gpu_dispatch.signatures import attempt_key
from listener.ledger.jobs import JobLedger
from listener.ledger.secrets import REPLACED_VALID_S, SecretSpec
from listener.stores.base import LinkReport, Store
from manifests.errors import GpuDropError, LinksUnsafe

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

AGAIN_S = 60.0
"""Seconds between two tests of links that are not safe: somebody may have set a policy."""
SOON_S = 5.0
"""Seconds to the next test of links after the store was away."""

SAFE_S = 3600.0
"""Seconds that links with the listener's own keys are believed safe: the keys or a policy may change."""

WATCH_S = 300.0


@dataclass(frozen=True, slots=True)
class LinkBlock:
    """Endpoints that get no task of a bucket now, and why."""

    names: frozenset[str] = frozenset()
    """Empty: all get tasks."""
    why: str = ""
    hint: str = ""


_NO_BLOCK = LinkBlock()


@dataclass(frozen=True, slots=True)
class _LinkCheck:
    """The result of testing a bucket's links."""

    report: LinkReport
    again: float
    """When to test again, on the guard's clock."""


class LinkGuard:
    """Tests each bucket's links, and keeps its tasks from remote endpoints while they are not safe.

    `remote` names the endpoints whose workers are not on this machine; `trusted`: the operator trusts them with the
    whole store. `now` is a monotonic clock. Safe links with temporary keys are not tested again: a store that has given
    such keys once makes no link without.
    """

    def __init__(self, store: Store, remote: frozenset[str], *, trusted: bool, now: Callable[[], float]) -> None:
        self._store = store
        self._remote = frozenset[str]() if trusted else remote
        self._now = now
        self._tried: dict[str, _LinkCheck] = {}
        self._one_at_a_time = asyncio.Lock()

    async def blocked(self, bucket: str) -> LinkBlock:
        """Returns the endpoints that no run of `bucket` may use now. Tests the links first when that is due."""
        if not self._remote:
            return _NO_BLOCK
        tried = self._tried.get(bucket)
        if tried is None or self._now() > tried.again:
            async with self._one_at_a_time:
                if self._tried.get(bucket) is tried:
                    await self._try(bucket, tried)
        report = self._tried[bucket].report
        return _NO_BLOCK if report.safe else LinkBlock(self._remote, report.detail, report.remedy)

    async def watch(self) -> None:
        """Tests the links of the configured buckets before anybody needs them, until cancelled."""
        while True:
            for bucket in self._store.buckets:
                await self.blocked(bucket)
            due_s = [tried.again - self._now() for bucket in self._store.buckets if (tried := self._tried.get(bucket))]
            await asyncio.sleep(max(SOON_S, min([WATCH_S, *due_s])))

    async def _try(self, bucket: str, before: _LinkCheck | None) -> None:
        try:
            report = await self._store.probe_links(bucket)
        except GpuDropError as e:
            detail = f"whether links open more than a job's objects is not known: {e}"
            self._tried[bucket] = _LinkCheck(LinkReport(None, False, detail, e.info.hint), self._now() + SOON_S)
            if before is None or before.report.detail != detail:
                log.warning("links_not_tried", bucket=bucket, code=e.info.code, error=str(e), hint=e.info.hint)
            return
        self._tried[bucket] = _LinkCheck(report, self._now() + _lasts_s(report))
        if report.safe and before and before.report.safe:
            return
        if report.safe:
            log.info("links_safe", bucket=bucket, narrowed=report.narrowed, detail=report.detail)
        elif before is None or before.report != report:
            log.error(
                LinksUnsafe.code,
                code=LinksUnsafe.code,
                bucket=bucket,
                error=report.detail,
                hint=report.remedy,
                consequence=f"no task of this bucket goes to {', '.join(sorted(self._remote))}",
            )


def _lasts_s(report: LinkReport) -> float:
    if not report.safe:
        return AGAIN_S
    return inf if report.narrowed else SAFE_S


def links_unsafe(block: LinkBlock) -> LinksUnsafe:
    return LinksUnsafe(
        f"No task was sent to {', '.join(sorted(block.names))}: {block.why}.",
        hint=block.hint or "See `gpudrop check`.",
    )


class AttemptKeys:
    """Derives the keys of attempts. `secrets` gives the one in force and those that it replaced, newest first; `clock`
    gives epoch seconds."""

    def __init__(
        self, secrets: Callable[[], Awaitable[tuple[SecretSpec, ...]]], jobs: JobLedger, clock: Callable[[], float]
    ) -> None:
        self._secrets = secrets
        self._jobs = jobs
        self._clock = clock

    async def of(self, task_id: str, attempt: int) -> bytes:
        """Returns an attempt's key, from the secret in force when its first job was sent. Raises StoreUnavailable."""
        newest, *replaced = await self._secrets()
        if replaced and self._clock() <= newest.created + REPLACED_VALID_S:
            sent = await self._first(task_id, attempt)
            if sent is not None and sent < newest.created:
                newest = next((each for each in replaced if each.created <= sent), replaced[-1])
        return attempt_key(newest.value, task_id, attempt)

    async def is_older(self, task_id: str, attempt: int) -> bool:
        """Whether the attempt's first job was sent before there were keys: its workers sign nothing."""
        oldest = (await self._secrets())[-1]
        if self._clock() > oldest.created + REPLACED_VALID_S:
            return False
        sent = await self._first(task_id, attempt)
        return sent is not None and sent < oldest.created

    async def _first(self, task_id: str, attempt: int) -> float | None:
        """Returns when the attempt's first job was meant to be sent, in epoch seconds; None: there has been none."""
        return min((row.intended for row in await self._jobs.of_attempt(task_id, attempt)), default=None)
