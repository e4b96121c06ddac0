"""Runs `gpudrop events`: shows, applies and removes notification rules."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from rich.console import Console

from listener.app.base import s3_settings
from listener.app.sources import sources_of
from listener.config.config import Config, FolderStoreConfig, S3StoreConfig
from listener.config.environment import Environment
from listener.config.source_kinds import SourceSettings
from listener.config.triggers import triggers_of
from listener.notifications.client import notification_client
from listener.notifications.render import RulesRenderer
from listener.notifications.rules import EVENT_BRIDGE, RuleEntry, RulesChange, merge_rules, without_ours
from listener.notifications.servers import NotificationServer
from listener.notifications.sync import CurrentRules, ResolvedTarget, RulesSync, TargetResolver
from listener.notifications.targets import (
    NOTHING_TO_SET_UP,
    KnownServer,
    choose_target,
    named_targets,
    needs_target,
    rules_of,
)
from listener.stores.s3.clients import S3Settings
from listener.triggers.filters import MAX_RULES
from listener.triggers.triggers import Trigger
from manifests.errors import ConfigError, GpuDropError

_TIMEOUT_S = 20.0
_AMAZON_RULES = 100


@dataclass(frozen=True, slots=True)
class Request:
    """The options of one command."""

    bucket: str = ""
    """Empty: every bucket of the store."""
    targets: tuple[str, ...] = ()
    """As given on the command line."""
    dry_run: bool = False


async def show_events(config: Config, environment: Environment, request: Request, console: Console) -> int:
    """Prints the rules on the server and those that config.yaml wants; returns 1 when these cannot be determined."""
    async with _command_context(config, environment, replace(request, dry_run=True), console) as work:
        bad = 0
        for bucket in work.buckets:
            current = await work.read(bucket)
            work.renderer.document(current.document)
            bad += not await _show_wanted(work, bucket, current)
        return 1 if bad else 0


async def apply_events(config: Config, environment: Environment, request: Request, console: Console) -> int:
    """Changes our rules to those that config.yaml wants. Raises GpuDropError; earlier buckets stay changed."""
    async with _command_context(config, environment, request, console) as work:
        for bucket in work.buckets:
            current = await work.read(bucket)
            resolved_targets = await work.resolved_targets(current.server)
            if not resolved_targets:
                _leave_alone(work, current)
                continue
            change = work.wanted(bucket, current, resolved_targets)
            await _apply_change(work, bucket, change)
            _notes(work, bucket, resolved_targets, change)
        return 0


async def remove_events(config: Config, environment: Environment, request: Request, console: Console) -> int:
    """Removes our rules, whatever their target, and EventBridge's entry when it is named as target."""
    async with _command_context(config, environment, request, console) as work:
        bridge = any(each.lower() == "eventbridge" for each in request.targets)
        for bucket in work.buckets:
            current = await work.read(bucket)
            await _apply_change(work, bucket, without_ours(current.document, event_bridge=bridge))
        return 0


@dataclass(slots=True)
class _CommandContext:
    """What one command works with."""

    buckets: Sequence[str]
    targets: Sequence[str]
    triggers: Sequence[Trigger]
    sources: Sequence[SourceSettings]
    environment: Environment
    resolver: TargetResolver
    sync: RulesSync
    renderer: RulesRenderer
    dry_run: bool
    endpoint: str
    _settled: tuple[ResolvedTarget, ...] | None = None

    async def read(self, bucket: str) -> CurrentRules:
        current = await self.sync.read(bucket)
        name = current.server.value if current.server is not NotificationServer.OTHER else ""
        self.renderer.bucket(bucket, f"{self.endpoint}{f' ({name})' if name else ''}")
        return current

    async def resolved_targets(self, server: NotificationServer) -> tuple[ResolvedTarget, ...]:
        """Returns the targets of the rules, the same for every bucket; () when the sources need none."""
        if self._settled is None:
            chosen = named_targets(self.targets, self.sources)
            if not chosen:
                if not needs_target(self.sources):
                    return ()
                chosen = (choose_target(self.sources, await self._known(server), self.environment.of_source),)
            self._settled = tuple([await self.resolver.resolve(each, server) for each in chosen])
        return self._settled

    async def _known(self, server: NotificationServer) -> KnownServer:
        if not server.tells_destinations:
            return KnownServer(server)
        there = [await self.sync.read(bucket) for bucket in self.buckets]
        recorded = frozenset(rule.arn for each in there for rule in each.document.ours)
        return KnownServer(server, await self.sync.destinations(), recorded)

    def wanted(self, bucket: str, current: CurrentRules, resolved_targets: Sequence[ResolvedTarget]) -> RulesChange:
        targets = [each.target for each in resolved_targets]
        if len([each for each in targets if each.amazon]) > 1:
            raise ConfigError(
                "Amazon S3 does not send the same events to two places.",
                hint="Use one SNS topic that several queues subscribe to, or EventBridge.",
                where="--target",
            )
        room = max(1, min(MAX_RULES, _AMAZON_RULES - len(current.document.foreign)))
        wanted: list[RuleEntry] = []
        for target in targets:
            wanted += rules_of(self.triggers, bucket, target, most=room)
        return merge_rules(current.document, wanted)


@asynccontextmanager
async def _command_context(
    config: Config, environment: Environment, request: Request, console: Console
) -> AsyncGenerator[_CommandContext]:
    store = _store(config.store)
    if not store.named_buckets and not request.bucket:
        raise ConfigError("Rules are made for each bucket.", hint="Name one with --bucket.", where="--bucket")
    if request.bucket and store.named_buckets and request.bucket not in store.buckets:
        raise ConfigError(
            f"The bucket {request.bucket!r} is not one of store.buckets.",
            hint=f"There are: {', '.join(store.buckets)}.",
            where="--bucket",
        )
    settings: S3Settings = replace(s3_settings(store, environment), timeout_s=_TIMEOUT_S)
    sources = sources_of(config)
    async with notification_client(settings) as api:
        yield _CommandContext(
            buckets=(request.bucket,) if request.bucket else store.buckets,
            targets=request.targets,
            triggers=triggers_of(config),
            sources=sources,
            environment=environment,
            resolver=TargetResolver(settings, sources, environment.of_source, write=not request.dry_run),
            sync=RulesSync(api, settings.endpoint),
            renderer=RulesRenderer(console),
            dry_run=request.dry_run,
            endpoint=settings.endpoint,
        )


def _store(store: FolderStoreConfig | S3StoreConfig) -> S3StoreConfig:
    if isinstance(store, S3StoreConfig):
        return store
    raise ConfigError(
        "A folder store has no notification rules: the listener watches the folder by itself.",
        hint="There is nothing to set up.",
        where="store.kind",
    )


async def _show_wanted(work: _CommandContext, bucket: str, current: CurrentRules) -> bool:
    try:
        resolved_targets = await work.resolved_targets(current.server)
        if not resolved_targets:
            _leave_alone(work, current)
            return True
        change = work.wanted(bucket, current, resolved_targets)
    except GpuDropError as e:
        work.renderer.say(f"  {e}\n{e.info.hint}".rstrip(), mark="-")
        return False
    work.renderer.say(f"  config.yaml wants, for {', '.join(str(each.target) for each in resolved_targets)}:")
    if change:
        work.renderer.change(change)
    else:
        work.renderer.say("  what is there")
    _notes(work, bucket, resolved_targets, change)
    return True


def _leave_alone(work: _CommandContext, current: CurrentRules) -> None:
    work.renderer.say(f"  {NOTHING_TO_SET_UP}")
    if ours := len(current.document.ours):
        work.renderer.say(
            f"  {ours} of gpudrop's rules are there and not needed; `gpudrop events remove` takes them away."
        )


async def _apply_change(work: _CommandContext, bucket: str, change: RulesChange) -> None:
    if not change:
        work.renderer.say("  nothing to change")
        return
    work.renderer.change(change)
    if work.dry_run:
        work.renderer.say("  nothing was written (--dry-run)")
        return
    await work.sync.write(bucket, change)
    work.renderer.say("  done")


def _notes(work: _CommandContext, bucket: str, resolved_targets: Sequence[ResolvedTarget], change: RulesChange) -> None:
    for each in resolved_targets:
        if note := each.note(bucket):
            work.renderer.say(note, mark="~")
    if any(each.kind == EVENT_BRIDGE for each in change.added):
        work.renderer.say(
            "  EventBridge needs a rule of its own that passes events on: source aws.s3, detail-type Object Created and"
            f" Object Deleted, bucket {bucket}, to the queue that is read."
        )
