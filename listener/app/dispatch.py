"""Builds dispatch: the pool of endpoints, and the services that execute attempts.

`ActiveAttempt` holds what is known of an attempt. The services that work on it live as long as the program and take
three to five others each; only this module connects them. A new concern is a new service.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from listener.app.endpoints import BuiltEndpoints
from listener.app.intake import Work
from listener.clock import Clock
from listener.config.config import Config
from listener.dispatch.attempts import Attempts
from listener.dispatch.budgets import Budgets, CostModel
from listener.dispatch.claim_reaper import ClaimReaper, sweep_claims
from listener.dispatch.claims import ClaimStore
from listener.dispatch.dispatcher import Dispatcher
from listener.dispatch.endpoint_pool import EndpointPool, PooledEndpoint
from listener.dispatch.estimates import Estimates
from listener.dispatch.limits import Deadlines
from listener.dispatch.link_guard import AttemptKeys, LinkGuard
from listener.dispatch.output_sizes import OutputSizes
from listener.dispatch.parked_tasks import ParkedTasks, WaitObserver
from listener.dispatch.scheduler import Scheduler
from listener.dispatch.submission import JobRecovery, Submitter
from listener.dispatch.supervisor import AttemptSupervisor
from listener.dispatch.task_builder import MultipartUploads, TaskBuilder
from listener.dispatch.tracked_jobs import JobObserver, JobTracker
from listener.dispatch.watchdog import JobWatchdog
from listener.installation_secret import InstallationSecret
from listener.ledger.jobs import JobLedger
from listener.outages import OutageRetry
from listener.processes.pool import ProcessPool
from listener.signals import Cancellations
from listener.stores.base import Store

_LEARNED_FROM = 500
"""Jobs done last, from which estimates are learned."""


@dataclass(frozen=True, slots=True)
class DispatchDependencies:
    """What dispatch is built from."""

    config: Config
    store: Store
    jobs: JobLedger
    secret: InstallationSecret
    cancellations: Cancellations
    outages: OutageRetry
    clock: Clock
    endpoints: BuiltEndpoints
    pool: ProcessPool
    observer: JobObserver
    """Receives the progress of jobs."""
    wait_observer: WaitObserver
    """Receives why tasks wait."""
    link_s: float
    """Longest life of a job's link, in seconds."""


@dataclass(frozen=True, slots=True)
class BuiltDispatch:
    """What runs use of dispatch."""

    attempts: Attempts
    reaper: ClaimReaper
    parked: ParkedTasks
    work: list[Work]
    """Coroutines to run, each in a task of its own."""


async def build_dispatch(needs: DispatchDependencies, stack: AsyncExitStack) -> BuiltDispatch:
    """Builds dispatch and starts the endpoints; `stack` ends them."""
    config, store, jobs, outages, clock = needs.config, needs.store, needs.jobs, needs.outages, needs.clock
    rng = random.Random()  # noqa: S311 - jitter, and a share for each endpoint
    now = time.monotonic
    budgets = Budgets(config.budgets.per_job, config.budgets.per_day)
    costs = CostModel(Estimates(await jobs.done_lately(_LEARNED_FROM)), budgets)
    deadlines = Deadlines(config.task_timeout, needs.link_s)
    keys = AttemptKeys(needs.secret.all, jobs, clock)
    claims = ClaimStore(store, needs.pool, keys, outages, clock=clock)
    pool = await _pool(needs.endpoints, rng, stack)
    guard = _guard(needs)
    parked = ParkedTasks(needs.cancellations, needs.wait_observer)
    scheduler = Scheduler(pool, jobs, costs, guard, parked, deadlines=deadlines, clock=clock)
    uploads, most = MultipartUploads(store), config.task_max_output or 0
    hosts = tuple(sorted(config.store.private_hosts))
    tasks = TaskBuilder(store, claims, uploads, needs.link_s, hosts, config.task_max_input, most)
    submitter = Submitter(pool, jobs, tasks, outages, deadlines=deadlines)
    recovery = JobRecovery(pool, jobs, claims, submitter, outages)
    dispatcher = Dispatcher(pool, scheduler, submitter, recovery, outages)
    tracker = JobTracker(pool, jobs, claims, costs, outages, observer=needs.observer, clock=clock, now=now, rng=rng)
    watchdog = JobWatchdog(pool, scheduler, dispatcher, recovery, tracker, deadlines=deadlines)
    supervisor = AttemptSupervisor(tracker, watchdog, recovery, claims, needs.cancellations)
    reaper = ClaimReaper(store, claims, now=now)
    outputs = OutputSizes(store, outages, most, config.task_max_input)
    attempts = Attempts(dispatcher, supervisor, claims, uploads, outputs, clock=clock)
    work: list[Work] = [
        pool.watch(),
        reaper.run(),
        guard.watch(),
        needs.secret.keep(),
        sweep_claims(store, jobs, link_s=needs.link_s, clock=clock),
    ]
    return BuiltDispatch(attempts, reaper, parked, work)


async def _pool(built: BuiltEndpoints, rng: random.Random, stack: AsyncExitStack) -> EndpointPool:
    pool = EndpointPool(built.endpoints, built.removed, now=time.monotonic, rng=rng)
    await pool.start()
    stack.push_async_callback(pool.close)
    return pool


def _guard(needs: DispatchDependencies) -> LinkGuard:
    remote = frozenset(each.spec.name for each in needs.endpoints.endpoints if each.dialect)
    return LinkGuard(needs.store, remote, trusted=needs.config.store.trust_workers, now=time.monotonic)


def spending(jobs: JobLedger, endpoints: tuple[PooledEndpoint, ...]) -> Callable[[str], Awaitable[float | None]]:
    """Returns a function that gives the cost of a run's ended jobs in US dollars, or None where nothing has a price."""
    return jobs.spent_by_run if any(each.spec.usd_per_s > 0 for each in endpoints) else _free


async def _free(run_id: str) -> None:
    del run_id
