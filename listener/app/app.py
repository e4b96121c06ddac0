"""The running listener: builds every part, connects them, and owns the tasks that run."""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from listener.app.base import Base, build_base, defaults_folders, defaults_of, real_key_of, reference_policy
from listener.app.intake import BuiltIntake, IntakeDependencies, Work, build_intake
from listener.app.readiness import log_when_ready, require_folder, wait_until_open
from listener.config.config import Config, FolderStoreConfig
from listener.config.environment import Environment
from listener.config.loader import follow_config
from listener.config.state import held_state
from listener.config.triggers import triggers_of
from listener.ledger.input_waits import InputWaitLedger
from listener.ledger.intake import IntakeLedger
from listener.ledger.ownership import OutputOwners
from listener.ledger.redrives import RedriveLedger
from listener.ledger.runs import RunLedger
from listener.runs.admission import Admission, FileRoom
from listener.runs.adoption import Adoption, SidecarSignature
from listener.runs.commands import watch_commands
from listener.runs.engine import EngineSettings, WorkflowEngine
from listener.runs.fence import Fence
from listener.runs.finalizer import RunFinalizer
from listener.runs.input_waiters import InputWaiters
from listener.runs.inputs import InputFinder
from listener.runs.jobs import JobRunner
from listener.runs.manifests import DocumentFetcher, ManifestReader, check_templates
from listener.runs.outputs import OutputKeys
from listener.runs.recovery import Recovery, end_when_replaced, take_over
from listener.runs.retention import sweep_old_runs
from listener.runs.scheduler import RunScheduler
from listener.runs.services import RunServices
from listener.runs.workflow import RunWorkflows
from listener.sources.base import Inbox
from listener.speech_models import speech_models
from listener.stores.base import Store
from listener.triggers.triggers import Trigger, TriggerBook

LARGE = 2**20
"""Bytes from which on a block of memory gets a mapping of its own: an answer, an output."""

_M_MMAP_THRESHOLD = -3


def keep_large_blocks_apart() -> bool:
    """Sets the C library's limit to `LARGE`, and returns whether it accepted that; other libraries may do so unasked.

    glibc raises its own limit after the first large block, up to 32 MB. Later ones then lie among smaller blocks, and
    stay with the process for as long as one above them is in use.

    Without this each transcript of 230,000 words leaves 30 MB behind. With it the first raises a listener from 128 MB
    to 169, the third to 175, and 137 and 138 stay.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_MMAP_THRESHOLD, LARGE) == 1


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener")

_END_S = 3.0


@dataclass(frozen=True, slots=True)
class App:
    """The parts of a running listener that its caller uses."""

    store: Store
    runs: RunLedger
    inbox: Inbox
    tasks: frozenset[asyncio.Task[None]]


@asynccontextmanager
async def running(config: Config, environment: Environment, *, config_file: Path | None = None) -> AsyncGenerator[App]:
    """Runs the whole listener, from ready to closed. Its tasks never end by themselves: one that does has failed.

    `config_file` is watched for changed triggers. Raises ConfigError and the errors of the store and the engine.

    At the end nothing is closed before what uses it: sources and the run scheduler end first, then the runs' tasks, the
    engine with its threads, the endpoints, the ledger and the store.
    """
    keep_large_blocks_apart()
    if isinstance(config.store, FolderStoreConfig):
        await require_folder(config.store.root)
    async with AsyncExitStack() as stack:
        state = await asyncio.to_thread(stack.enter_context, held_state(config))
        base = await build_base(config, environment, state, stack)
        stack.callback(_drop_unstarted, base.dispatch.work)
        triggers = _checked(triggers_of(config), base)
        book = TriggerBook(triggers)
        runs_waiting = asyncio.Event()
        executor = base.cluster.member if state.shared else "local"
        settings = EngineSettings(state.engine_url, executor_id=executor, adopts=state.shared)
        fence = Fence(base.store, base.runs)
        seal = SidecarSignature(environment.callback_secret)
        adoption = Adoption(base.objects, base.runs, base.publisher, fence, clock=base.clock, signature=seal)
        admission = Admission(runs_waiting.set)
        waiters = InputWaiters(
            InputWaitLedger(base.database),
            base.store,
            base.object_waiters,
            member=base.cluster.member,
            accepted=runs_waiting.set,
            clock=base.clock,
        )
        workflows = _workflows(base, fence, adoption, admission)
        engine = WorkflowEngine(settings, workflows, ended=runs_waiting.set, released=waiters.released)
        stack.push_async_callback(base.publisher.end)
        async with base.database.lock("start"):
            await engine.start()
        stack.push_async_callback(engine.close)
        intake = await build_intake(_intake_needs(base, book, runs_waiting))
        scheduler = RunScheduler(
            base.runs,
            engine,
            runs_waiting,
            member=base.cluster.member,
            limit=config.concurrent_runs,
            parked=lambda: base.dispatch.parked.total + base.outages.waiting,
            admission=admission,
            idle=lambda: base.dispatch.parked.by_share,
        )
        recovery = Recovery(engine, base.runs, adoption, base.cluster, clock=base.clock)
        work = [*intake.work, *base.dispatch.work, scheduler.run(), recovery.run(), waiters.run(engine)]
        work += _housekeeping(base, engine, intake, runs_waiting)
        if config_file is not None:
            work.append(follow_config(config_file, triggers, lambda changed: book.use(_checked(changed, base))))
        tasks = frozenset(asyncio.create_task(item) for item in work)
        stack.push_async_callback(_end, tasks)
        await wait_until_open(intake.openings, tasks)
        telling = log_when_ready(base.store, sources=intake.sources, member=base.cluster.member)
        stack.push_async_callback(_end, frozenset({asyncio.create_task(telling)}))
        yield App(base.store, base.runs, intake.inbox, tasks)


def _workflows(base: Base, fence: Fence, adoption: Adoption, admission: Admission) -> RunWorkflows:
    config = base.config
    publisher = base.publisher
    defaults = (defaults_of(config, base.registry.models),)
    return RunWorkflows(
        RunServices(
            reader=ManifestReader(
                base.store,
                base.registry.models,
                defaults,
                folders=defaults_folders(config),
                parsers=base.parsers,
            ),
            registry=base.registry,
            finder=InputFinder(
                base.store,
                DocumentFetcher(config.store.private_hosts),
                base.object_waiters,
                reference_policy(config),
                clock=base.clock,
                grows=isinstance(config.store, FolderStoreConfig),
                real_key=real_key_of(config, base.store),
            ),
            runner=JobRunner(base.dispatch.attempts, base.dispatch.reaper, base.cancellations, base.runs, base.outages),
            finalizer=RunFinalizer(
                base.store,
                base.objects,
                base.runs,
                publisher,
                fence,
                clock=base.clock,
                link_s=int(config.link_expiry),
                spent=base.spent,
                signature=SidecarSignature(base.environment.callback_secret),
            ),
            adoption=adoption,
            outbox=base.outbox,
            publisher=publisher,
            outputs=OutputKeys(base.store, OutputOwners(base.database)),
            cancellations=base.cancellations,
            clock=base.clock,
            outages=base.outages,
            pool=base.pool,
            parsers=base.parsers,
            room=FileRoom(),
            admission=admission,
            models=speech_models(config, base.environment),
        )
    )


def _checked(triggers: tuple[Trigger, ...], base: Base) -> tuple[Trigger, ...]:
    check_templates(triggers, base.registry.models, (defaults_of(base.config, base.registry.models),))
    return triggers


def _intake_needs(base: Base, book: TriggerBook, runs_waiting: asyncio.Event) -> IntakeDependencies:
    return IntakeDependencies(
        config=base.config,
        environment=base.environment,
        cluster=base.cluster,
        store=base.store,
        database=base.database,
        objects=base.objects,
        runs=base.runs,
        triggers=book,
        object_waiters=base.object_waiters,
        cancellations=base.cancellations,
        runs_waiting=runs_waiting,
        clock=base.clock,
    )


def _housekeeping(base: Base, engine: WorkflowEngine, intake: BuiltIntake, runs_waiting: asyncio.Event) -> list[Work]:
    work: list[Work] = [
        watch_commands(
            base.runs,
            RedriveLedger(base.database),
            IntakeLedger(base.database),
            base.cancellations,
            accepted=runs_waiting.set,
            clock=base.clock,
        ),
        sweep_old_runs(engine, base.runs, base.callbacks, keep_s=base.config.keep_runs, clock=base.clock),
        end_when_replaced(base.cluster),
        base.outbox.run(),
    ]
    if engine.adopts:
        work.append(take_over(base.cluster, engine, base.runs, intake.ledger))
    return work


def _drop_unstarted(work: Sequence[Work]) -> None:
    """Closes the coroutines that a failed start has not run."""
    for item in work:
        if inspect.getcoroutinestate(item) == inspect.CORO_CREATED:
            item.close()


async def _end(tasks: frozenset[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=_END_S)
