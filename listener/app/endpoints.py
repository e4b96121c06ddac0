"""Builds endpoints from the configuration: this machine with its sandbox, and those on RunPod."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from gpu_dispatch.absent_endpoint import AbsentEndpoint
from gpu_dispatch.backend import GpuBackend
from gpu_dispatch.endpoints import EndpointSpec
from gpu_dispatch.local.backend import LocalBackend
from gpu_dispatch.local.sandbox import Sandbox
from gpu_dispatch.local.settings import LocalSettings, child_environment
from gpu_dispatch.runpod.dialects.gpudrop import NAME as OURS
from gpu_dispatch.task import Capability
from listener.config.config import Config, FolderStoreConfig
from listener.config.endpoints import EndpointConfig, LocalEndpointConfig, RunPodEndpointConfig
from listener.config.environment import Environment
from listener.config.runpod import price_of
from listener.config.state import state_folder
from listener.dispatch.endpoint_pool import PooledEndpoint, RemovedEndpoint
from manifests.errors import ConfigError

if TYPE_CHECKING:
    from listener.app.runpod import RunPod


def build_sandbox(
    config: Config, environment: Environment, environ: Mapping[str, str], *, ffmpeg: Path | None, model_dir: Path | None
) -> Sandbox:
    """Builds the sandbox of local jobs.

    They may write to a folder store, and to the engines' caches where models are downloaded; state and secrets are
    hidden.
    """
    found = shutil.which(str(ffmpeg or "ffmpeg"))
    readable = [Path(found)] if found else []
    readable += [*([model_dir] if model_dir else []), *config.local.models.values()]
    writable = [*_caches(environ)] if config.local.download_models else []
    if isinstance(config.store, FolderStoreConfig):
        writable.append(config.store.root)
    state = state_folder(config)
    hidden = [*([state] if state else []), *_secrets(config, environment, environ)]
    return Sandbox(tuple(writable), tuple(hidden), tuple(readable))


def _caches(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yields the caches of models: openai-whisper's, which cannot be moved, and the Hugging Face hub's."""
    yield _expanded("~/.cache/whisper")
    yield _hub(environ)
    if elsewhere := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        yield _expanded(elsewhere)


def _hub(environ: Mapping[str, str]) -> Path:
    shared = Path(environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return _expanded(environ.get("HF_HOME") or shared)


def _secrets(config: Config, environment: Environment, environ: Mapping[str, str]) -> Iterator[Path]:
    """Yields files of secrets: the usual ones, those in variables that no worker inherits, those of connections."""
    yield from (Path("/run/secrets"), _expanded("~/.pgpass"), _hub(environ) / "token")
    named = {**environ, **environment.variables}
    inherited = child_environment(named, threads=1)
    for name, value in named.items():
        if name.endswith("FILE") and name not in inherited and value:
            yield _expanded(value)
    for source in config.sources:
        tls = getattr(source, "tls", None)
        yield from (each for each in (getattr(tls, "key_file", None), getattr(tls, "cert_file", None)) if each)


def _expanded(path: str | Path) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own fails where there is no home


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")

_LOCAL: frozenset[Capability] = frozenset({"whisper", "nvenc"})


@dataclass(frozen=True, slots=True)
class BuiltEndpoints:
    """The endpoints of the configuration, none started."""

    endpoints: tuple[PooledEndpoint, ...]
    removed: Callable[[RemovedEndpoint], GpuBackend]
    """Returns the backend for the open jobs of an endpoint that the configuration does not name."""


async def build_endpoints(
    config: Config, environment: Environment, environ: Mapping[str, str], *, link_s: float, stack: AsyncExitStack
) -> BuiltEndpoints:
    """Builds the endpoints. Raises ConfigError.

    `environ` is what processes on this machine may inherit from, `link_s` the life of a job's links in seconds. `stack`
    closes what the endpoints share.
    """
    remote = [each for each in config.endpoints if isinstance(each, RunPodEndpointConfig)]
    if remote:
        _may_use_runpod(config, environment)
    runpod = await _runpod(config, environment, stack) if environment.runpod_key else None
    backends: dict[str, GpuBackend] = {
        each.name: build_local(config, environment, environ, each.name)
        for each in config.endpoints
        if isinstance(each, LocalEndpointConfig)
    }
    if runpod and remote:
        from listener.app.inspection import find_endpoint_ids

        ids = await find_endpoint_ids(config, environment.runpod_key)
        backends |= {each.name: runpod.configured(each, ids[each.name], link_s) for each in remote}
    endpoints = tuple(_pooled(each, backends[each.name], config) for each in config.endpoints)
    return BuiltEndpoints(endpoints, runpod.removed if runpod else _removed)


def _may_use_runpod(config: Config, environment: Environment) -> None:
    if isinstance(config.store, FolderStoreConfig):
        raise ConfigError(
            "Workers on RunPod cannot reach a folder of this machine.",
            hint="Use `store: {kind: s3, …}`, or only endpoints of kind local.",
            where="endpoints",
        )
    if not environment.runpod_key:
        raise ConfigError("There is no key for RunPod.", hint="Set GPUDROP_RUNPOD_API_KEY.", where="endpoints")


async def _runpod(config: Config, environment: Environment, stack: AsyncExitStack) -> RunPod:
    from listener.app.runpod import build_runpod

    return await build_runpod(config.runpod, environment, stack)


def _pooled(endpoint: EndpointConfig, backend: GpuBackend, config: Config) -> PooledEndpoint:
    spec = spec_of(endpoint, config)
    if isinstance(endpoint, LocalEndpointConfig):
        return PooledEndpoint(spec, backend)
    return PooledEndpoint(spec, backend, endpoint.dialect, endpoint.resubmit_unknown)


def _removed(endpoint: RemovedEndpoint) -> GpuBackend:
    """Returns the backend of a removed endpoint without a key for RunPod, so that nobody can be asked.

    Workers without a dialect, and those of our own, claim their attempts.
    """
    log.warning(
        "endpoint_gone",
        endpoint=endpoint.name,
        id=endpoint.endpoint_id,
        hint="Its jobs are withdrawn. Should its workers claim nothing, look for them in the provider's console.",
    )
    return AbsentEndpoint(endpoint.name, endpoint.endpoint_id, claims=endpoint.dialect in ("", OURS))


def spec_of(endpoint: EndpointConfig, config: Config) -> EndpointSpec:
    local = isinstance(endpoint, LocalEndpointConfig)
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
    ffmpeg, model_dir = environment.ffmpeg or local.ffmpeg, environment.model_dir or local.model_dir
    confined = local.sandbox == "bubblewrap"
    settings = LocalSettings(
        name=name,
        slots={"whisper": local.whisper_slots, "nvenc": local.nvenc_slots},
        file_root=root,
        model_dir=model_dir,
        models=local.models,
        allow_download=local.download_models,
        ffmpeg=str(ffmpeg) if ffmpeg else None,
        idle_s=local.idle,
        memory=local.memory or 0,
        disk=local.disk or 0,
        sandbox=build_sandbox(config, environment, environ, ffmpeg=ffmpeg, model_dir=model_dir) if confined else None,
    )
    return LocalBackend(settings, environ=environ)
