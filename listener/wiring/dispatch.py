"""Builds the way out: endpoints, the ledger of jobs, and the attempts that use them."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from listener.clock import Clock
from listener.configuration.config import Config
from listener.dispatch.attempt_keys import AttemptKeys
from listener.dispatch.attempts import Attempts
from listener.dispatch.budgets import Budgets
from listener.dispatch.estimates import Estimates
from listener.dispatch.late_claims import LateClaims
from listener.dispatch.legs import Means, Tell
from listener.dispatch.link_guard import LinkGuard
from listener.dispatch.marks import Marks
from listener.dispatch.placing import Placing
from listener.dispatch.pool import Place, Pool
from listener.dispatch.request import JobRequest
from listener.dispatch.sending import Sender
from listener.dispatch.sweeping import sweep_marks
from listener.dispatch.tasks import TaskMaker
from listener.dispatch.uploads import Uploads
from listener.ledger.jobs import JobLedger
from listener.ledger.secrets import Secret
from listener.patience import Patience
from listener.process_pool import ProcessPool
from listener.signals import Ends
from listener.store import Store
from listener.wiring.endpoints import BuiltEndpoints
from listener.wiring.intake import Work

_LEARNED_FROM = 500


@dataclass(frozen=True, slots=True)
class DispatchNeeds:
    """What the way out is built from. `waiting` is told why a task waits, `tell` how its jobs stand.

    `link_s`: no link of a job works longer.
    """

    config: Config
    store: Store
    jobs: JobLedger
    secret: Secret
    ends: Ends
    patience: Patience
    clock: Clock
    endpoints: BuiltEndpoints
    pool: ProcessPool
    tell: Tell
    waiting: Callable[[JobRequest, Sequence[str]], None]
    link_s: float


@dataclass(frozen=True, slots=True)
class BuiltDispatch:
    """`work` has to be run, each in a task of its own. `parked` counts tasks that wait for an endpoint or a budget,
    `idle` the same by share.
    """

    attempts: Attempts
    parked: Callable[[], int]
    idle: Callable[[], Mapping[str, int]]
    work: list[Work]


async def build_dispatch(needs: DispatchNeeds, stack: AsyncExitStack) -> BuiltDispatch:
    """Starts the endpoints; `stack` ends them."""
    config, store = needs.config, needs.store
    rng = random.Random()  # noqa: S311 - jitter, and a share for each endpoint
    link_s, jobs = needs.link_s, needs.jobs
    estimates = Estimates(await jobs.done_lately(_LEARNED_FROM))
    keys = AttemptKeys(needs.secret, jobs, needs.clock)
    marks = Marks(store, needs.pool, keys, clock=needs.clock)
    late = LateClaims(marks, now=time.monotonic)
    pool = Pool(needs.endpoints.places, needs.endpoints.former, now=time.monotonic, rng=rng)
    await pool.start()
    stack.push_async_callback(pool.close)
    remote = frozenset(place.spec.name for place in needs.endpoints.places if place.dialect)
    guard = LinkGuard(store, remote, trusted=config.store.trust_workers, now=time.monotonic)
    placing = Placing(
        pool,
        jobs,
        estimates,
        Budgets(config.budgets.per_job, config.budgets.per_day),
        needs.ends,
        guard,
        timeout_s=config.task_timeout,
        clock=needs.clock,
        waiting=needs.waiting,
    )
    uploads = Uploads(store)
    private_hosts = tuple(sorted(config.store.private_hosts))
    maker = TaskMaker(store, marks, uploads, link_s, private_hosts, config.task_max_input)
    means = Means(
        sender=Sender(placing, pool, jobs, marks, maker, needs.patience),
        placing=placing,
        pool=pool,
        ledger=jobs,
        marks=marks,
        late=late,
        uploads=uploads,
        estimates=estimates,
        ends=needs.ends,
        clock=needs.clock,
        now=time.monotonic,
        rng=rng,
        patience=needs.patience,
        tell=needs.tell,
        limit_s=link_s,
    )
    work: list[Work] = [
        pool.watch(),
        late.run(),
        guard.watch(),
        sweep_marks(store, jobs, link_s=link_s, clock=needs.clock),
    ]
    return BuiltDispatch(Attempts(means), lambda: placing.parked, lambda: placing.idle, work)


def spending(jobs: JobLedger, places: tuple[Place, ...]) -> Callable[[str], Awaitable[float | None]]:
    """Tells what a run's jobs have cost so far in US dollars; None where nothing has a price."""
    return jobs.spent_by_run if any(place.spec.usd_per_s > 0 for place in places) else _free


async def _free(run_id: str) -> None:
    del run_id
