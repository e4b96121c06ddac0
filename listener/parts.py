"""From the configuration to the parts that stand at the edge: store, backend, sources.

A kind of store is imported when it is used: a listener on a folder starts without the clients of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gpu_dispatch.local import LocalBackend
from gpu_dispatch.local_settings import LocalSettings
from listener.config import Config, FolderStoreConfig, S3StoreConfig
from listener.environment import Environment
from listener.sources.base import EventSource
from listener.sources.reconcile import Reconcile
from listener.store import Store
from manifests.defaults import Defaults, defaults_from
from manifests.errors import ConfigError
from manifests.media import ReferencePolicy
from manifests.models import Manifest

if TYPE_CHECKING:
    from listener.stores.s3_clients import S3Settings


def build_store(config: Config, environment: Environment) -> Store:
    match config.store:
        case FolderStoreConfig(root=root, bucket=bucket):
            from listener.stores.folder import FolderStore

            return FolderStore(root, bucket)
        case S3StoreConfig() as s3:
            from listener.stores.s3 import S3Store

            return S3Store(s3_settings(s3, environment))


def s3_settings(s3: S3StoreConfig, environment: Environment) -> S3Settings:
    """Raises ConfigError when the keys are missing."""
    from listener.stores.s3_clients import S3Settings

    if not environment.s3_access_key or not environment.s3_secret_key:
        raise ConfigError(
            f"There are no keys for {s3.endpoint}.",
            hint="Set GPUDROP_S3_ACCESS_KEY and GPUDROP_S3_SECRET_KEY in the environment.",
            where="GPUDROP_S3_ACCESS_KEY",
        )
    return S3Settings(
        endpoint=s3.endpoint.rstrip("/"),
        buckets=s3.buckets,
        access_key=environment.s3_access_key,
        secret_key=environment.s3_secret_key,
        session_token=environment.s3_session_token,
        region=s3.region,
        path_style=s3.path_style,
        public_endpoint=s3.public_endpoint.rstrip("/") if s3.public_endpoint else None,
        ca_file=s3.ca_file,
    )


def build_backend(config: Config, environment: Environment, environ: Mapping[str, str]) -> LocalBackend:
    local = config.local
    root = config.store.root.absolute() if isinstance(config.store, FolderStoreConfig) else None
    ffmpeg = environment.ffmpeg or local.ffmpeg
    settings = LocalSettings(
        slots={"whisper": local.whisper_slots, "nvenc": local.nvenc_slots},
        file_root=root,
        model_dir=environment.model_dir or local.model_dir,
        models=local.models,
        allow_download=local.download_models,
        ffmpeg=str(ffmpeg) if ffmpeg else None,
        idle_s=local.idle,
    )
    return LocalBackend(settings, environ=environ)


def build_sources(config: Config, environment: Environment, reconcile: Reconcile) -> list[EventSource]:
    """Those the configuration names, or what suits the store. Raises ConfigError for one the store cannot feed."""
    native = "folder" if isinstance(config.store, FolderStoreConfig) else "minio"
    names = config.sources or (native, "reconcile")
    sources: list[EventSource] = []
    for name in dict.fromkeys(names):
        if name == "reconcile":
            sources.append(reconcile)
        elif name == native:
            sources.append(_native_source(config, environment))
        else:
            raise ConfigError(
                f"The source {name!r} does not fit a store of kind {config.store.kind!r}.",
                hint=f"Use {native!r}, or leave `sources` out.",
                where="sources",
            )
    return sources


def _native_source(config: Config, environment: Environment) -> EventSource:
    match config.store:
        case FolderStoreConfig(root=root, bucket=bucket):
            from listener.sources.folder.source import FolderWatch, FolderWatchSettings

            return FolderWatch(FolderWatchSettings(root=root, bucket=bucket))
        case S3StoreConfig() as s3:
            from listener.sources.listen.signing import AccessKeys
            from listener.sources.listen.source import MinioListen, MinioListenSettings

            settings = MinioListenSettings(
                endpoint=s3.endpoint.rstrip("/"), buckets=s3.buckets, region=s3.region, ca_file=s3.ca_file
            )
            keys = AccessKeys(environment.s3_access_key, environment.s3_secret_key, environment.s3_session_token)
            return MinioListen(settings, lambda: keys)


def defaults_of(config: Config, models: Mapping[str, type[Manifest]]) -> Defaults:
    """The configuration's defaults for manifests. Raises UnknownField."""
    return defaults_from(config.defaults, source="config.yaml: defaults", models=models)


def reference_policy(config: Config) -> ReferencePolicy:
    """What manifests may name beyond their own bucket."""
    urls: tuple[str, ...] = ()
    if isinstance(config.store, S3StoreConfig):
        urls = tuple(u.rstrip("/") for u in (config.store.public_endpoint, config.store.endpoint) if u)
    return ReferencePolicy(
        allowed_buckets=config.store.allowed_buckets, store_urls=urls, private_hosts=config.store.private_hosts
    )
