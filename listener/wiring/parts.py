"""From the configuration to the parts that stand at the edge: store, cluster, backend.

A kind of store is imported when it is used: a listener on a folder starts without the clients of the others.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from listener.cluster.alone import SingleListener
from listener.cluster.base import Cluster
from listener.configuration.config import Config, FolderStoreConfig, S3StoreConfig, StsConfig
from listener.configuration.environment import Environment
from listener.configuration.state import StateFolder
from listener.runs.callback_signatures import secret_key
from listener.runs.callbacks import CallbackSettings
from listener.secret_copies import Copy, FileCopy, StoreCopy
from listener.store import Store
from manifests.defaults import Defaults, defaults_from
from manifests.folder_defaults import DefaultsFolder, DefaultsFolders
from manifests.media import ReferencePolicy
from manifests.models import Manifest

if TYPE_CHECKING:
    from listener.stores.s3_clients import S3Settings
    from listener.stores.s3_sts_settings import StsSettings


def build_store(config: Config, environment: Environment) -> Store:
    match config.store:
        case FolderStoreConfig(root=root, bucket=bucket):
            from listener.stores.folder import FolderStore

            return FolderStore(root, bucket)
        case S3StoreConfig() as s3:
            from listener.stores.s3 import S3Store

            return S3Store(s3_settings(s3, environment))


def s3_settings(s3: S3StoreConfig, environment: Environment) -> S3Settings:
    """Raises ConfigError when there are no keys."""
    from listener.stores.s3_clients import S3Settings

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
    """Where the installation's secret is kept beside the ledger, the nearest first. What the operator gives needs none
    in the store: listeners there may have keys of their own, and each could open only what it wrote itself.
    """
    near = (FileCopy(state.folder),) if state.folder else ()
    if environment.secret or not isinstance(config.store, S3StoreConfig):
        return near
    return (*near, StoreCopy(store, environment.keys.current))


def sts_settings(sts: StsConfig) -> StsSettings:
    from listener.stores.s3_sts_settings import StsSettings

    mode = "required" if sts.mode == "auto" and sts.role_arn else sts.mode
    endpoint = sts.endpoint.rstrip("/") if sts.endpoint else ""
    return StsSettings(mode, endpoint, sts.role_arn or "", sts.longest_s)


def build_cluster(state: StateFolder, rng: random.Random) -> Cluster:
    if not state.shared:
        return SingleListener()
    from listener.cluster.postgres import PostgresCluster

    return PostgresCluster(state.engine_url, rng)


def real_key_of(config: Config, store: Store) -> Callable[[str], Awaitable[str]] | None:
    """Where keys lead in a store that has links; None: it has none."""
    if not isinstance(config.store, FolderStoreConfig):
        return None
    from listener.stores.folder import FolderStore

    return store.real_key if isinstance(store, FolderStore) else None


def defaults_of(config: Config, models: Mapping[str, type[Manifest]]) -> Defaults:
    """The configuration's defaults for manifests. Raises UnknownField."""
    return defaults_from(config.defaults, source="config.yaml: defaults", models=models)


def defaults_folders(config: Config) -> DefaultsFolders:
    """Whose `_gpudrop.yaml` counts."""
    listed = config.defaults_from
    if listed is None:
        return DefaultsFolders()
    return DefaultsFolders(tuple(DefaultsFolder(each.folder, each.bucket, each.addresses) for each in listed))


def callback_settings(config: Config, environment: Environment) -> CallbackSettings:
    """Raises ConfigError for a secret that is none."""
    secret_key(environment.callback_secret)
    return CallbackSettings(
        secret=environment.callback_secret,
        private_hosts=config.callbacks.private_hosts,
        timeout_s=config.callbacks.timeout,
        keep_trying_s=config.callbacks.keep_trying,
        max_attempts=config.callbacks.max_attempts,
    )


def reference_policy(config: Config) -> ReferencePolicy:
    """What manifests may name beyond their own bucket."""
    urls: tuple[str, ...] = ()
    if isinstance(config.store, S3StoreConfig):
        urls = tuple(u.rstrip("/") for u in (config.store.public_endpoint, config.store.endpoint) if u)
    return ReferencePolicy(
        allowed_buckets=config.store.allowed_buckets, store_urls=urls, private_hosts=config.store.private_hosts
    )
