"""What most parts of the listener are built from: store, ledger, cluster, registry, processes.

A kind of store is imported when it is used: a listener on a folder starts without the clients of other stores.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from handlers.img2vid import SplitLimits
from handlers.registry import Registry, load_registry
from listener.app.dispatch import BuiltDispatch, DispatchDependencies, build_dispatch, spending
from listener.app.endpoints import build_endpoints
from listener.clock import Clock
from listener.cluster.base import Cluster, SingleListener
from listener.config.config import Config, FolderStoreConfig, S3StoreConfig, StsConfig
from listener.config.environment import Environment
from listener.config.state import StateFolder
from listener.config.store_identity import identity_of
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
from listener.outages import OutageRetry
from listener.processes.parsers import DocumentParsers
from listener.processes.pool import ProcessPool
from listener.runs.callbacks import CallbackSettings, secret_key
from listener.runs.outbox import CallbackNotes, Outbox
from listener.runs.status import StatusPublisher
from listener.secret_copies import Copy, FileCopy, StoreCopy
from listener.signals import Cancellations, ObjectWaiters
from listener.stores.base import Store
from manifests.defaults import Defaults, DefaultsFolder, DefaultsFolders, defaults_from
from manifests.models import Manifest
from manifests.references import ReferencePolicy

if TYPE_CHECKING:
    from listener.stores.s3.clients import S3Settings, StsSettings


def build_store(config: Config, environment: Environment) -> Store:
    match config.store:
        case FolderStoreConfig(root=root, bucket=bucket):
            from listener.stores.folder import FolderStore

            return FolderStore(root, bucket)
        case S3StoreConfig() as s3:
            from listener.stores.s3.store import S3Store

            return S3Store(s3_settings(s3, environment))


def s3_settings(s3: S3StoreConfig, environment: Environment) -> S3Settings:
    """Returns the settings of an S3 store. Raises ConfigError when there are no keys."""
    from listener.stores.s3.clients import S3Settings

    environment.keys.current()
    return S3Settings(
        endpoint=s3.endpoint.rstrip("/"),
        buckets=s3.named_buckets,
        keys=environment.keys.current,
        region=s3.region,
        path_style=s3.path_style,
        public_endpoint=s3.public_endpoint.rstrip("/") if s3.public_endpoint else None,
        ca_file=s3.ca_file,
        sts=sts_settings(s3.sts),
    )


def secret_copies(config: Config, environment: Environment, state: StateFolder, store: Store) -> tuple[Copy, ...]:
    """Returns the copies of the installation's secret, the nearest first.

    An operator's secret has none in the store: listeners there may have keys of their own, and each could open only
    the copy that it wrote.
    """
    near = (FileCopy(state.folder),) if state.folder else ()
    if environment.secret or not isinstance(config.store, S3StoreConfig):
        return near
    return (*near, StoreCopy(store, environment.keys.current))


def sts_settings(sts: StsConfig) -> StsSettings:
    from listener.stores.s3.clients import StsSettings

    mode = "required" if sts.mode == "auto" and sts.role_arn else sts.mode
    endpoint = sts.endpoint.rstrip("/") if sts.endpoint else ""
    return StsSettings(mode, endpoint, sts.role_arn or "", sts.longest_s)


def build_cluster(state: StateFolder, rng: random.Random) -> Cluster:
    if not state.shared:
        return SingleListener()
    from listener.cluster.postgres import PostgresCluster

    return PostgresCluster(state.engine_url, rng)


def real_key_of(config: Config, store: Store) -> Callable[[str], Awaitable[str]] | None:
    """Returns the function that follows links of a key; None for a store without links."""
    if not isinstance(config.store, FolderStoreConfig):
        return None
    from listener.stores.folder import FolderStore

    return store.real_key if isinstance(store, FolderStore) else None


def defaults_of(config: Config, models: Mapping[str, type[Manifest]]) -> Defaults:
    """Returns the configuration's defaults for manifests. Raises UnknownField."""
    return defaults_from(config.defaults, source="config.yaml: defaults", models=models)


def defaults_folders(config: Config) -> DefaultsFolders:
    """Returns the folders whose `_gpudrop.yaml` counts."""
    listed = config.defaults_from
    if listed is None:
        return DefaultsFolders()
    return DefaultsFolders(tuple(DefaultsFolder(each.folder, each.bucket, each.addresses) for each in listed))


def callback_settings(config: Config, environment: Environment) -> CallbackSettings:
    """Returns the settings of callbacks. Raises ConfigError for an invalid secret."""
    secret_key(environment.callback_secret)
    return CallbackSettings(
        secret=environment.callback_secret,
        private_hosts=config.callbacks.private_hosts,
        timeout_s=config.callbacks.timeout,
        keep_trying_s=config.callbacks.keep_trying,
        max_attempts=config.callbacks.max_attempts,
    )


def reference_policy(config: Config) -> ReferencePolicy:
    """Returns what manifests may name beyond their own bucket."""
    urls: tuple[str, ...] = ()
    if isinstance(config.store, S3StoreConfig):
        urls = tuple(u.rstrip("/") for u in (config.store.public_endpoint, config.store.endpoint) if u)
    return ReferencePolicy(
        allowed_buckets=config.store.allowed_buckets, store_urls=urls, private_hosts=config.store.private_hosts
    )


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener")


@dataclass(frozen=True, slots=True)
class Base:
    """The store, the ledgers, and what all runs share."""

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
    """Builds the base. `stack` closes everything in the opposite order: sources, engine, workers, ledger, store."""
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
    needs = DispatchDependencies(
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
    """Loads the handlers; one that cannot be used is logged and left out."""
    split = SplitLimits(config.img2vid.images_per_job, config.img2vid.max_jobs)
    registry = load_registry(img2vid=split)
    for problem in registry.problems:
        log.error("handler_unusable", code=problem.code, error=problem.message, hint=problem.hint)
    return registry
