"""Lines of `gpudrop check` on whether each source can receive events. No event is taken from any of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from listener.app.sources import build_webhook, listen_settings, sources_of, sqs_settings
from listener.cli.check_lines import CheckLine, problem_line
from listener.config.config import Config, S3StoreConfig
from listener.config.environment import Environment
from listener.config.source_kinds import SourceKind, SourceSettings, source_kinds
from listener.config.sources import (
    CORE,
    MinioSourceConfig,
    ReconcileSourceConfig,
    SqsSourceConfig,
    WebhookSourceConfig,
)
from manifests.errors import GpuDropError


async def source_lines(config: Config, environment: Environment) -> AsyncGenerator[CheckLine]:
    """Yields a line for each source that depends on another program, as soon as it is known."""
    try:
        sources = sources_of(config)
    except GpuDropError as e:
        yield problem_line("sources", e)
        return
    for source in sources:
        if look := _probe(source, config, environment):
            subject = f"source: {source.named}"
            try:
                yield await look(subject)
            except GpuDropError as e:
                yield problem_line(subject, e)


def listing_lines(config: Config) -> tuple[CheckLine, ...]:
    """Returns what it means that no bucket is listed, where none is."""
    if not config.sources or any(isinstance(each, ReconcileSourceConfig) for each in config.sources):
        return ()
    detail = "what the other sources miss (while they or this program are away) is never found"
    return (CheckLine("source: reconcile", None, f"not used: {detail}", "Add reconcile to `sources`."),)


def _probe(
    source: SourceSettings, config: Config, environment: Environment
) -> Callable[[str], Coroutine[Any, Any, CheckLine]] | None:
    if isinstance(source, MinioSourceConfig) and isinstance(store := config.store, S3StoreConfig):
        return lambda subject: _minio(subject, source, store, environment)
    if isinstance(source, WebhookSourceConfig):
        return lambda subject: _webhook(subject, source, environment)
    if isinstance(source, SqsSourceConfig):
        return lambda subject: _sqs(subject, source, config, environment)
    if source.kind not in CORE:
        return lambda subject: _added(subject, source_kinds().get(source.kind), source, environment)
    return None


async def _minio(subject: str, source: MinioSourceConfig, store: S3StoreConfig, environment: Environment) -> CheckLine:
    from listener.sources.minio.source import probe_stream

    found = await probe_stream(listen_settings(source, store), environment.keys.current)
    return CheckLine(subject, found.ok, found.detail, found.hint)


async def _webhook(subject: str, source: WebhookSourceConfig, environment: Environment) -> CheckLine:
    build_webhook(source, environment.of_source(source.named))
    host, _, port = source.listen.rpartition(":")
    try:
        server = await asyncio.start_server(_hang_up, host.strip("[]"), int(port))
    except OSError as e:
        detail = f"{source.listen} cannot be listened on now: {e.strerror or e}"
        return CheckLine(subject, None, detail, "Nothing is wrong if `gpudrop run` has it; else choose another port.")
    server.close()
    return CheckLine(subject, True, f"{source.listen}{source.path} can be listened on")


async def _hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _sqs(subject: str, source: SqsSourceConfig, config: Config, environment: Environment) -> CheckLine:
    from listener.sources.sqs.source import probe_queue

    found = await probe_queue(sqs_settings(source, config, environment.of_source(source.named)))
    return CheckLine(subject, found.ok, found.detail, found.hint)


async def _added(subject: str, kind: SourceKind[Any], source: SourceSettings, environment: Environment) -> CheckLine:
    return CheckLine(subject, True, await kind.check(source, environment.of_source(source.named)))
