"""Builds the sources of events from the configuration; a client library is imported when its source is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from listener.config.config import Config, FolderStoreConfig, S3StoreConfig
from listener.config.environment import Environment, SourceSecrets
from listener.config.source_kinds import SourceSettings, source_kinds
from listener.config.sources import (
    FolderSourceConfig,
    MinioSourceConfig,
    ReconcileSourceConfig,
    SqsSourceConfig,
    WebhookSourceConfig,
)
from listener.sources.base import EventSource
from listener.sources.reconcile.source import Reconcile
from listener.triggers.filters import filters_of
from listener.triggers.triggers import TriggerBook
from manifests.errors import ConfigError

if TYPE_CHECKING:
    from listener.sources.minio.request import MinioListenSettings
    from listener.sources.sqs.queue import SqsSettings


@dataclass(frozen=True, slots=True)
class SourceDependencies:
    """What sources are built from."""

    config: Config
    environment: Environment
    triggers: TriggerBook
    reconcile: Reconcile


def sources_of(config: Config) -> tuple[SourceSettings, ...]:
    """Returns the configured sources, or those that suit the store. Raises ConfigError for one that does not fit it."""
    folder = isinstance(config.store, FolderStoreConfig)
    native = FolderSourceConfig(kind="folder") if folder else MinioSourceConfig(kind="minio")
    named = config.sources or (native, ReconcileSourceConfig(kind="reconcile"))
    for source in named:
        if source.kind != "reconcile" and folder is not (source.kind == "folder"):
            raise ConfigError(
                f"The source {source.kind!r} does not fit a store of kind {config.store.kind!r}.",
                hint=f"Use {native.kind!r}, or leave `sources` out.",
                where="sources",
            )
    return named


def build_source(source: SourceSettings, needs: SourceDependencies) -> EventSource:
    """Builds one source. Raises ConfigError for what it lacks."""
    secrets = needs.environment.of_source(source.named)
    match source:
        case ReconcileSourceConfig():
            return needs.reconcile
        case FolderSourceConfig():
            return _folder(needs.config)
        case MinioSourceConfig():
            return _minio(source, needs)
        case WebhookSourceConfig():
            return build_webhook(source, secrets)
        case SqsSourceConfig():
            from listener.sources.sqs.source import SqsSource

            return SqsSource(source.named, sqs_settings(source, needs.config, secrets))
        case _:
            return source_kinds().get(source.kind).build(source, secrets)


def _folder(config: Config) -> EventSource:
    from listener.sources.folder import FolderWatch, FolderWatchSettings

    if not isinstance(config.store, FolderStoreConfig):
        raise ConfigError("Only a folder can be watched.", hint="Use another source.", where="sources")
    return FolderWatch(FolderWatchSettings(root=config.store.root, bucket=config.store.bucket))


def listen_settings(source: MinioSourceConfig, store: S3StoreConfig) -> MinioListenSettings:
    from listener.sources.minio.request import MinioListenSettings

    return MinioListenSettings(
        endpoint=store.endpoint.rstrip("/"),
        buckets=store.named_buckets,
        region=store.region,
        path_style=store.path_style,
        ca_file=store.ca_file,
        name=source.named,
        ping_s=int(source.ping),
    )


def _minio(source: MinioSourceConfig, needs: SourceDependencies) -> EventSource:
    if not isinstance(needs.config.store, S3StoreConfig):
        raise ConfigError("A folder has no event stream.", hint="Use 'folder'.", where="sources")
    from listener.sources.minio.source import MinioListen

    book = needs.triggers
    stream = MinioListen(
        listen_settings(source, needs.config.store),
        needs.environment.keys.current,
        filters=lambda bucket: filters_of(book.triggers, bucket),
    )
    book.watch(stream.replan)
    return stream


def build_webhook(source: WebhookSourceConfig, secrets: SourceSecrets) -> EventSource:
    from gpu_dispatch.net.tls import ServerTls
    from listener.sources.webhook.settings import PostSecrets, WebhookSettings
    from listener.sources.webhook.source import WebhookReceiver

    host, _, port = source.listen.rpartition(":")
    tls = source.tls
    settings = WebhookSettings(
        host=host.strip("[]"),
        port=int(port),
        path=source.path,
        name=source.named,
        tls=ServerTls(tls.cert_file, tls.key_file, tls.client_ca_file) if tls else None,
        open=source.open,
        sns_topics=frozenset(source.sns_topics),
        sns_hosts=frozenset(source.sns_hosts),
    )
    given = PostSecrets.of(token=secrets.token, path_secret=secrets.path_secret, hmac_secret=secrets.hmac_secret)
    return WebhookReceiver(settings, given)


def sqs_settings(source: SqsSourceConfig, config: Config, secrets: SourceSecrets) -> SqsSettings:
    from listener.sources.sqs.queue import SqsSettings

    return SqsSettings(
        queue_url=source.queue_url,
        region=source.region,
        default_region=config.store.region if isinstance(config.store, S3StoreConfig) else "us-east-1",
        endpoint=source.endpoint,
        visibility_s=source.visibility,
        secrets=secrets,
    )
