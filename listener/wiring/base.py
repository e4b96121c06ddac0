"""What most parts of the listener are built from."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from handlers.img2vid import SplitLimits
from handlers.registry import Registry, load_registry
from listener.clock import Clock
from listener.cluster.base import Cluster
from listener.configuration.config import Config
from listener.configuration.environment import Environment
from listener.configuration.state import StateFolder
from listener.configuration.store_identity import identity_of
from listener.dispatch.limits import longest_link_s
from listener.installation_secret import InstallationSecret, operators_secret
from listener.ledger.callbacks import CallbackLedger
from listener.ledger.database import Database
from listener.ledger.files import prepare_sqlite
from listener.ledger.jobs import JobLedger
from listener.ledger.objects import ObjectLedger
from listener.ledger.owner import require_owner
from listener.ledger.runs import RunLedger
from listener.ledger.secrets import SecretLedger
from listener.parsers import DocumentParsers
from listener.patience import OutageRetry
from listener.process_pool import ProcessPool
from listener.runs.board import StatusPublisher
from listener.runs.callback_notes import CallbackNotes
from listener.runs.outbox import Outbox
from listener.signals import Cancellations, ObjectWaiters
from listener.store import Store
from listener.wiring.dispatch import BuiltDispatch, DispatchNeeds, build_dispatch, spending
from listener.wiring.endpoints import build_endpoints
from listener.wiring.parts import build_cluster, build_store, callback_settings, secret_copies

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener")


@dataclass(frozen=True, slots=True)
class Base:
    """The store, the records, and what all runs share."""

    config: Config
    environment: Environment
    cluster: Cluster
    store: Store
    database: Database
    objects: ObjectLedger
    runs: RunLedger
    callbacks: CallbackLedger
    outbox: Outbox
    publisher: StatusPublisher
    dispatch: BuiltDispatch
    spent: Callable[[str], Awaitable[float | None]]
    registry: Registry
    object_waiters: ObjectWaiters
    cancellations: Cancellations
    outages: OutageRetry
    clock: Clock
    pool: ProcessPool
    parsers: DocumentParsers


async def build_base(config: Config, environment: Environment, state: StateFolder, stack: AsyncExitStack) -> Base:
    """From the ground up; the stack closes in the opposite order: sources, engine, workers, ledger, store."""
    called, operators = callback_settings(config, environment), operators_secret(environment)
    cluster = await _cluster(state, stack)
    store = build_store(config, environment)
    stack.push_async_callback(store.close)
    database = await _database(state, stack)
    await require_owner(database, state, identity_of(config, state.folder))
    runs, cancellations = RunLedger(database), Cancellations()
    outages, clock = OutageRetry(random.Random()), Clock()  # noqa: S311 - jitter
    jobs = JobLedger(database, clock)
    link_s = min(longest_link_s(config.task_timeout), store.longest_link_s)
    endpoints = await build_endpoints(config, environment, os.environ, link_s=link_s, stack=stack)
    pool, parsers = await _processes(stack)
    spent = spending(jobs, endpoints.endpoints)
    publisher = StatusPublisher(store, runs, clock, spent, member=cluster.member)
    callbacks = CallbackLedger(database)
    copies = secret_copies(config, environment, state, store)
    secret = InstallationSecret(SecretLedger(database, clock), operators, copies, clock())
    needs = DispatchNeeds(
        config,
        store,
        jobs,
        secret,
        cancellations,
        outages,
        clock,
        endpoints,
        pool,
        publisher.progress,
        publisher.waiting,
        link_s,
    )
    dispatch = await build_dispatch(needs, stack)
    notes, rng = CallbackNotes(store, runs), random.Random()  # noqa: S311 - jitter
    return Base(
        config=config,
        environment=environment,
        cluster=cluster,
        store=store,
        database=database,
        objects=ObjectLedger(database),
        runs=runs,
        callbacks=callbacks,
        outbox=Outbox(callbacks, notes, called, member=cluster.member, clock=clock, rng=rng),
        publisher=publisher,
        dispatch=dispatch,
        spent=spent,
        registry=_registry(config),
        object_waiters=ObjectWaiters(),
        cancellations=cancellations,
        outages=outages,
        clock=clock,
        pool=pool,
        parsers=parsers,
    )


async def _cluster(state: StateFolder, stack: AsyncExitStack) -> Cluster:
    cluster = build_cluster(state, random.Random())  # noqa: S311 - spreads load
    await cluster.open()
    stack.push_async_callback(cluster.close)
    return cluster


async def _database(state: StateFolder, stack: AsyncExitStack) -> Database:
    database = Database(state.ledger_url)
    await asyncio.to_thread(prepare_sqlite, state.ledger_url, "The ledger's database")
    await database.open()
    stack.push_async_callback(database.close)
    return database


async def _processes(stack: AsyncExitStack) -> tuple[ProcessPool, DocumentParsers]:
    pool = ProcessPool(os.environ)
    await pool.open()
    stack.push_async_callback(pool.close)
    parsers = DocumentParsers(os.environ)
    await parsers.open()
    stack.push_async_callback(parsers.close)
    return pool, parsers


def _registry(config: Config) -> Registry:
    """A handler that cannot be used is told of, and done without."""
    split = SplitLimits(config.img2vid.images_per_job, config.img2vid.max_jobs)
    registry = load_registry(img2vid=split)
    for problem in registry.problems:
        log.error("handler_unusable", code=problem.code, error=problem.message, hint=problem.hint)
    return registry
