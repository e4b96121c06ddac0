"""The composition root: builds every part, hands each its collaborators, and owns the tasks that run."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from gpu_dispatch.backend import GpuBackend
from handlers.registry import Registry, load_registry
from listener.board import Board
from listener.callbacks import Callbacks, CallbackSettings
from listener.closing import Closer
from listener.config import Config, FolderStoreConfig, triggers_of
from listener.control import follow_commands
from listener.engine import Engine, EngineSettings
from listener.environment import Environment
from listener.fetching import Fetcher
from listener.inputs import SETTLE_S, InputFinder
from listener.intake import Intake, IntakeParts
from listener.jobs import JobRunner, JobSettings
from listener.ledger.database import Database
from listener.ledger.objects import ObjectLedger
from listener.ledger.runs import RunLedger
from listener.parts import build_backend, build_sources, build_store, defaults_of, reference_policy
from listener.pipeline import Collaborators, Pipeline
from listener.reading import ManifestReader, check_templates
from listener.reload import follow_config
from listener.signals import Arrivals, Ends
from listener.sources.reconcile import Reconcile, ReconcileSettings
from listener.state import only_one, state_of
from listener.store import Store
from listener.sweeping import sweep_old_runs
from listener.triggers import Trigger, TriggerBook

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener")

LINK_SLACK_S = 6 * 3600
"""Workers' links outlive the task's own deadline by this: the time a job may wait in a queue."""

_END_S = 3.0


@dataclass(frozen=True, slots=True)
class App:
    """The running listener, for those who start it."""

    store: Store
    runs: RunLedger
    intake: Intake
    backend: GpuBackend
    tasks: frozenset[asyncio.Task[None]]


@dataclass(frozen=True, slots=True)
class _Base:
    """What most parts are built from."""

    config: Config
    environment: Environment
    store: Store
    objects: ObjectLedger
    runs: RunLedger
    backend: GpuBackend
    registry: Registry
    arrivals: Arrivals
    ends: Ends


@asynccontextmanager
async def running(config: Config, environment: Environment, *, config_file: Path | None = None) -> AsyncGenerator[App]:
    """The whole listener, from ready to closed. Its tasks never end by themselves: one that does has failed.

    `config_file` is watched for changed triggers. Raises ConfigError and what the store and the engine raise.
    """
    state = state_of(config)
    if isinstance(config.store, FolderStoreConfig):
        config.store.root.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        stack.enter_context(only_one(state))
        base = await _base(config, environment, state.ledger_url, stack)
        engine = Engine(EngineSettings(state.engine_url, concurrent_runs=config.concurrent_runs), _pipeline(base))
        triggers = _checked(triggers_of(config), base)
        book = TriggerBook(triggers)
        intake, reconcile = _intake(base, engine, book)
        await engine.start()
        stack.push_async_callback(engine.close)
        sources = build_sources(config, environment, reconcile)
        work: list[Coroutine[Any, Any, None]] = [source.run(intake) for source in sources]
        work.append(follow_commands(base.runs, intake, base.ends))
        work.append(sweep_old_runs(engine, base.runs, keep_s=config.keep_runs, clock=time.time))
        if config_file is not None:
            work.append(follow_config(config_file, triggers, lambda changed: book.use(_checked(changed, base))))
        tasks = frozenset(asyncio.create_task(item) for item in work)
        stack.push_async_callback(_end, tasks)
        log.info("ready", buckets=list(base.store.buckets), sources=[s.name for s in sources])
        yield App(base.store, base.runs, intake, base.backend, tasks)


async def _base(config: Config, environment: Environment, ledger_url: str, stack: AsyncExitStack) -> _Base:
    """From the ground up; the stack closes in the opposite order: sources, engine, workers, ledger, store."""
    store = build_store(config, environment)
    stack.push_async_callback(store.close)
    database = Database(ledger_url)
    await database.open()
    stack.push_async_callback(database.close)
    backend = build_backend(config, environment, os.environ)
    await backend.start()
    stack.push_async_callback(backend.close)
    registry = load_registry()
    for problem in registry.problems:
        log.error("handler_unusable", code=problem.code, error=problem.message, hint=problem.hint)
    return _Base(
        config=config,
        environment=environment,
        store=store,
        objects=ObjectLedger(database),
        runs=RunLedger(database),
        backend=backend,
        registry=registry,
        arrivals=Arrivals(),
        ends=Ends(),
    )


def _pipeline(base: _Base) -> Pipeline:
    config = base.config
    rng = random.Random()  # noqa: S311 - jitter
    board = Board(base.store, base.runs, time.time)
    callbacks = Callbacks(
        CallbackSettings(
            secret=base.environment.callback_secret,
            private_hosts=config.callbacks.private_hosts,
            timeout_s=config.callbacks.timeout,
            max_attempts=config.callbacks.max_attempts,
        ),
        rng,
    )
    timeout_s = config.local.task_timeout
    defaults = (defaults_of(config, base.registry.models),)
    return Pipeline(
        Collaborators(
            reader=ManifestReader(base.store, base.registry.models, defaults),
            registry=base.registry,
            finder=InputFinder(
                base.store,
                Fetcher(config.store.private_hosts),
                base.arrivals,
                reference_policy(config),
                clock=time.time,
                grows=isinstance(config.store, FolderStoreConfig),
            ),
            runner=JobRunner(
                base.store,
                {"whisper": base.backend, "nvenc": base.backend},
                base.ends,
                JobSettings(timeout_s, int(timeout_s) + LINK_SLACK_S, tuple(sorted(config.store.private_hosts))),
                clock=time.time,
                rng=rng,
                progress=board.progress,
            ),
            closer=Closer(
                base.store, base.objects, base.runs, board, callbacks, clock=time.time, link_s=int(config.link_expiry)
            ),
            board=board,
            objects=base.objects,
            ends=base.ends,
            clock=time.time,
            rng=rng,
        )
    )


def _checked(triggers: tuple[Trigger, ...], base: _Base) -> tuple[Trigger, ...]:
    check_templates(triggers, base.registry.models, (defaults_of(base.config, base.registry.models),))
    return triggers


def _intake(base: _Base, engine: Engine, book: TriggerBook) -> tuple[Intake, Reconcile]:
    config = base.config
    settings = ReconcileSettings(
        interval_s=config.reconcile.interval,
        look_back_s=config.reconcile.look_back,
        settle_s=SETTLE_S if isinstance(config.store, FolderStoreConfig) else 0.0,
    )
    reconcile = Reconcile(base.store, base.objects, book.interesting, settings)
    parts = IntakeParts(
        store=base.store,
        engine=engine,
        triggers=book,
        objects=base.objects,
        runs=base.runs,
        arrivals=base.arrivals,
        ends=base.ends,
        clock=time.time,
        gap=reconcile.request,
        max_lineage=config.max_lineage,
    )
    return Intake(parts), reconcile


async def _end(tasks: frozenset[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=_END_S)
