"""Builds intake: the sources, the inbox that they deliver to, and its processor."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from listener.app.sources import SourceDependencies, build_source, sources_of
from listener.clock import Clock
from listener.cluster.base import Cluster
from listener.config.config import Config, FolderStoreConfig
from listener.config.environment import Environment
from listener.intake.inbox import Backlog, DurableInbox, InboxServices
from listener.intake.processor import InboxProcessor, ProcessorServices
from listener.intake.source_status import SourceStatusRecorder
from listener.intake.unmatched import UnmatchedObjects
from listener.ledger.database import Database
from listener.ledger.inbox import InboxLedger
from listener.ledger.intake import IntakeLedger
from listener.ledger.objects import ObjectLedger
from listener.ledger.runs import RunLedger
from listener.ledger.sources import SourceLedger
from listener.runs.input_search import SETTLE_S
from listener.signals import Cancellations, ObjectWaiters
from listener.sources.base import EventSource, Inbox, Opening, OpenSource
from listener.sources.reconcile.earlier_outputs import EarlierOutputs
from listener.sources.reconcile.removals import StaleSidecars
from listener.sources.reconcile.source import Reconcile, ReconcileSettings
from listener.stores.base import Store
from listener.triggers.triggers import IgnoredEvent, TriggerBook
from manifests.task_groups import task_group

Work = Coroutine[Any, Any, None]


@dataclass(frozen=True, slots=True)
class IntakeDependencies:
    """What intake is built from."""

    config: Config
    environment: Environment
    cluster: Cluster
    store: Store
    database: Database
    objects: ObjectLedger
    runs: RunLedger
    triggers: TriggerBook
    object_waiters: ObjectWaiters
    cancellations: Cancellations
    runs_waiting: asyncio.Event
    """Set when a run waits to be started."""
    clock: Clock


@dataclass(frozen=True, slots=True)
class BuiltIntake:
    """What the application uses of intake."""

    inbox: Inbox
    ledger: InboxLedger
    sources: list[str]
    """Names of the sources."""
    openings: list[Opening]
    """Those of sources that listen at an address."""
    work: list[Work]
    """Coroutines to run, each in a task of its own."""


async def build_intake(needs: IntakeDependencies) -> BuiltIntake:
    """Builds intake. Raises ConfigError for a source that cannot be built, and StoreUnavailable."""
    earlier = EarlierOutputs(needs.store, needs.objects)
    await earlier.begin()
    unmatched = UnmatchedObjects()
    reconcile = _reconcile(needs, earlier, unmatched)
    for_sources = SourceDependencies(needs.config, needs.environment, needs.triggers, reconcile)
    sources = [build_source(each, for_sources) for each in sources_of(needs.config)]
    ledger = InboxLedger(needs.database, needs.cluster.member)
    # Entries that an earlier process of this name held.
    await ledger.release([needs.cluster.member])
    source_status = SourceStatusRecorder(SourceLedger(needs.database), needs.cluster.member, needs.clock)
    backlog = Backlog()
    inbox = DurableInbox(
        InboxServices(
            ledger=ledger,
            buckets=frozenset(needs.store.buckets),
            triggers=needs.triggers,
            object_waiters=needs.object_waiters,
            source_status=source_status,
            backlog=backlog,
            clock=needs.clock,
            gap=reconcile.request,
            unmatched=unmatched,
        )
    )
    processor = InboxProcessor(
        ProcessorServices(
            store=needs.store,
            inbox=ledger,
            intake=IntakeLedger(needs.database),
            runs=needs.runs,
            triggers=needs.triggers,
            cancellations=needs.cancellations,
            source_status=source_status,
            backlog=backlog,
            clock=needs.clock,
            accepted=needs.runs_waiting.set,
            max_lineage=needs.config.max_lineage,
        )
    )
    work = [source_status.run(), inbox.run(), processor.run(), *_source_coroutines(needs.cluster, sources, inbox)]
    openings = [source.opening for source in sources if isinstance(source, OpenSource)]
    return BuiltIntake(inbox, ledger, [source.name for source in sources], openings, work)


def _source_coroutines(cluster: Cluster, sources: Sequence[EventSource], inbox: Inbox) -> list[Work]:
    """Returns the sources' coroutines. Exclusive ones share one lead, so that a listing is beside them to fill gaps."""
    led = [source for source in sources if source.exclusive]

    async def lead() -> None:
        async with task_group() as group:
            for source in led:
                group.create_task(source.run(inbox))

    own: list[Work] = [source.run(inbox) for source in sources if not source.exclusive]
    return [*own, cluster.lead("sources", lead)] if led else own


def _reconcile(needs: IntakeDependencies, earlier: EarlierOutputs, unmatched: UnmatchedObjects) -> Reconcile:
    config = needs.config
    settings = ReconcileSettings(
        interval_s=config.reconcile.interval,
        look_back_s=config.reconcile.look_back,
        settle_s=SETTLE_S if isinstance(config.store, FolderStoreConfig) else 0.0,
    )
    book = needs.triggers

    def interesting(bucket: str, key: str) -> bool:
        found = book.match(bucket, key)
        if isinstance(found, IgnoredEvent):
            unmatched.tell(bucket, key, found)
            return False
        return True

    reconcile = Reconcile(
        needs.store,
        needs.objects,
        interesting,
        settings,
        prefixes=book.prefixes,
        buckets=None if needs.store.buckets else needs.store.find_buckets,
        sidecars=StaleSidecars(needs.store, needs.runs),
        earlier=earlier,
    )
    book.watch(lambda: reconcile.request("other triggers are in force"))
    return reconcile
