"""From the configuration to endpoints: this machine, and those on RunPod."""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack

from gpu_dispatch.backend import GpuBackend
from gpu_dispatch.endpoints import EndpointSpec
from gpu_dispatch.local import LocalBackend
from gpu_dispatch.local_settings import LocalSettings
from gpu_dispatch.task import Capability
from listener.configuration.config import Config, FolderStoreConfig
from listener.configuration.endpoints import EndpointConfig, LocalEndpoint, RunPodEndpoint
from listener.configuration.environment import Environment
from listener.deploy.finding import find_endpoint_ids
from listener.deploy.wishes import price_of
from listener.dispatch.pool import Place
from manifests.errors import ConfigError

_LOCAL: frozenset[Capability] = frozenset({"whisper", "nvenc"})


async def build_places(
    config: Config, environment: Environment, environ: Mapping[str, str], *, link_s: int, stack: AsyncExitStack
) -> tuple[Place, ...]:
    """One place for each endpoint of the configuration, none started. What they share is closed with `stack`.

    `environ` is what processes on this machine may inherit from. Raises ConfigError.
    """
    remote = [each for each in config.endpoints if isinstance(each, RunPodEndpoint)]
    backends: dict[str, GpuBackend] = {}
    if remote:
        backends |= await _on_runpod(config, environment, remote, link_s, stack)
    for each in config.endpoints:
        if isinstance(each, LocalEndpoint):
            backends[each.name] = build_local(config, environment, environ, each.name)
    return tuple(
        Place(
            spec_of(each, config),
            backends[each.name],
            resubmits=isinstance(each, RunPodEndpoint) and each.resubmit_unknown,
        )
        for each in config.endpoints
    )


def spec_of(endpoint: EndpointConfig, config: Config) -> EndpointSpec:
    local = isinstance(endpoint, LocalEndpoint)
    return EndpointSpec(
        name=endpoint.name,
        capabilities=_LOCAL if local else frozenset(endpoint.capabilities),
        order=endpoint.order,
        weight=endpoint.weight,
        concurrency=endpoint.concurrency,
        rate_per_s=endpoint.rate,
        max_queue_s=endpoint.max_queue,
        hedge_after_s=endpoint.hedge_after,
        usd_per_s=price_of(endpoint, config.known_prices) or 0.0,
    )


def build_local(config: Config, environment: Environment, environ: Mapping[str, str], name: str) -> LocalBackend:
    local = config.local
    root = config.store.root.absolute() if isinstance(config.store, FolderStoreConfig) else None
    ffmpeg = environment.ffmpeg or local.ffmpeg
    settings = LocalSettings(
        name=name,
        slots={"whisper": local.whisper_slots, "nvenc": local.nvenc_slots},
        file_root=root,
        model_dir=environment.model_dir or local.model_dir,
        models=local.models,
        allow_download=local.download_models,
        ffmpeg=str(ffmpeg) if ffmpeg else None,
        idle_s=local.idle,
    )
    return LocalBackend(settings, environ=environ)


async def _on_runpod(
    config: Config,
    environment: Environment,
    endpoints: list[RunPodEndpoint],
    link_s: int,
    stack: AsyncExitStack,
) -> dict[str, GpuBackend]:
    from gpu_dispatch.runpod.client import RunPodClient
    from gpu_dispatch.runpod.dialects.known import DIALECTS
    from gpu_dispatch.runpod.endpoint import RunPodEndpoint as Backend
    from gpu_dispatch.runpod.endpoint import Shared
    from gpu_dispatch.runpod.hints import Hints
    from gpu_dispatch.runpod.settings import ClientSettings, RunPodSettings
    from gpu_dispatch.runpod.webhook import HintsServer

    if isinstance(config.store, FolderStoreConfig):
        raise ConfigError(
            "Workers on RunPod cannot reach a folder of this machine.",
            hint="Use `store: {kind: s3, …}`, or only endpoints of kind local.",
            where="endpoints",
        )
    if not environment.runpod_key:
        raise ConfigError("There is no key for RunPod.", hint="Set GPUDROP_RUNPOD_API_KEY.", where="endpoints")
    ids = await find_endpoint_ids(config, environment.runpod_key)
    settings = ClientSettings(config.runpod.api, config.runpod.proxy, config.runpod.ca_file)
    client = RunPodClient(settings, key=lambda: environment.runpod_key)
    await client.start()
    stack.push_async_callback(client.close)
    hints = None
    if told := config.runpod.hints:
        secret = _secret(environment.runpod_key)
        hints = Hints(f"{told.url.rstrip('/')}/{secret}")
        server = HintsServer(hints, host=told.host, port=told.port, secret=secret)
        await server.start()
        stack.push_async_callback(server.close)
    shared = Shared(rng=random.Random())  # noqa: S311 - jitter
    return {
        each.name: Backend(
            RunPodSettings(
                name=each.name,
                endpoint_id=ids[each.name],
                dialect=DIALECTS[each.dialect],
                timeout_s=each.timeout,
                ttl_s=min(each.ttl, link_s),
                low_priority=each.low_priority,
                rate_per_s=each.rate,
            ),
            client,
            shared=shared,
            hints=hints,
        )
        for each in endpoints
    }


def _secret(key: str) -> str:
    """The secret part of the webhook's path: the same after a restart, and of no use for anything else."""
    return hmac.new(key.encode(), b"gpudrop webhook", hashlib.sha256).hexdigest()[:40]
