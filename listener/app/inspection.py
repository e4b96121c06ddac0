"""The ids and the health of the configuration's RunPod endpoints, by their own answers and the management API's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from gpu_dispatch.backend import Health
from gpu_dispatch.runpod.account import Endpoint, match_endpoints, runpod_name
from gpu_dispatch.runpod.client import RunPodClient
from gpu_dispatch.runpod.dialects.registry import dialects
from gpu_dispatch.runpod.endpoint import RunPodEndpoint as Backend
from gpu_dispatch.runpod.management import ManagementClient, management_client
from gpu_dispatch.runpod.settings import ClientSettings, RunPodSettings
from listener.config.config import Config
from listener.config.endpoints import RunPodConfig, RunPodEndpointConfig
from listener.config.runpod import NVENC, runpod_endpoints, without_nvenc
from manifests.errors import ConfigError, GpuDropError

_REDUCED = (
    "RunPod lowers it by itself when nothing was asked of an endpoint for days (2 after 3 days, 0 after 7), and when"
    " workers keep crashing."
)
_RAISE = "`gpudrop deploy --apply` sets it to what config.yaml says."
_RAISE_BY_HAND = "Raise max workers in RunPod's console."


@dataclass(frozen=True, slots=True)
class EndpointInspection:
    """The state of one endpoint."""

    endpoint: RunPodEndpointConfig
    id: str | None
    """None: it is not on RunPod."""
    health: Health
    there: Endpoint | None = None
    """What RunPod has of it; None: nothing, or the management API did not answer."""
    note: str = ""
    """Worth knowing although the endpoint is well."""


async def inspect_endpoint(config: Config, key: str, *, settle_s: float = 5.0) -> tuple[EndpointInspection, ...]:
    """Inspects all endpoints, in the configuration's order. A failure becomes the health of its endpoints."""
    endpoints = runpod_endpoints(config)
    if not endpoints:
        return ()
    problem: GpuDropError | None = None
    there: tuple[Endpoint, ...] = ()
    try:
        async with management_session(config.runpod, key) as api:
            there = await api.endpoints()
    except GpuDropError as e:
        problem = e
    async with client_session(config, key) as client:
        looks = [_look(endpoint, there, problem, client, settle_s) for endpoint in endpoints]
        return tuple(await asyncio.gather(*looks))


def management_session(config: RunPodConfig, key: str) -> AbstractAsyncContextManager[ManagementClient]:
    """Opens a client of the management API for a block. Raises EndpointDenied without a key."""
    return management_client(ClientSettings(config.management, config.proxy, config.ca_file), key)


@asynccontextmanager
async def client_session(config: Config, key: str) -> AsyncGenerator[RunPodClient]:
    """Opens a client of the endpoints' API for the block."""
    runpod = config.runpod
    client = RunPodClient(ClientSettings(api=runpod.api, proxy=runpod.proxy, ca_file=runpod.ca_file), key=lambda: key)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def inspection_text(endpoint: RunPodEndpointConfig, health: Health, there: Endpoint | None) -> EndpointInspection:
    """Combines `health` with the settings that RunPod has. Pure."""
    look = EndpointInspection(endpoint, there.id if there else endpoint.id, health, there)
    if there is None:
        return look
    settings = there.settings
    wanted = endpoint.deploy.workers.max if endpoint.deploy else None
    raising = _RAISE if endpoint.deploy else _RAISE_BY_HAND
    if settings.workers_max == 0:
        stopped = "a worker will never start, because its max workers is 0"
        if wanted == 0:
            return _ill(look, stopped, "Raise deploy.workers.max in config.yaml, then run `gpudrop deploy --apply`.")
        return _ill(look, stopped, f"{_REDUCED} {raising}")
    if "nvenc" in endpoint.capabilities and (blind := without_nvenc(settings.pools)):
        return _ill(look, f"it runs on GPUs without an encoder: {', '.join(blind)}", f"Use {', '.join(NVENC)}.")
    if wanted and settings.workers_max < wanted:
        note = f"its max workers is {settings.workers_max}, not {wanted}. {_REDUCED} {raising}"
        return EndpointInspection(endpoint, look.id, health, there, note)
    return look


def _ill(look: EndpointInspection, why: str, remedy: str) -> EndpointInspection:
    said = f"{why} ({look.health.detail})" if look.health.ok else why
    return EndpointInspection(look.endpoint, look.id, Health(look.endpoint.name, False, said, remedy), look.there)


async def _look(
    endpoint: RunPodEndpointConfig,
    there: tuple[Endpoint, ...],
    problem: GpuDropError | None,
    client: RunPodClient,
    settle_s: float,
) -> EndpointInspection:
    if problem and endpoint.id is None:
        return EndpointInspection(endpoint, None, _unwell(endpoint, problem))
    try:
        found = None if problem else match_endpoints(endpoint.name, endpoint.id, runpod_name(endpoint.name), there)
    except GpuDropError as e:
        return EndpointInspection(endpoint, endpoint.id, _unwell(endpoint, e))
    id = found.id if found else endpoint.id
    if id is None:
        return EndpointInspection(
            endpoint, None, Health(endpoint.name, False, "not on RunPod yet", "Run `gpudrop deploy --apply`.")
        )
    settings = RunPodSettings(endpoint.name, id, dialects().get(endpoint.dialect), health_recheck_s=settle_s)
    (health,) = await Backend(settings, client).health()
    return inspection_text(endpoint, health, found)


def _unwell(endpoint: RunPodEndpointConfig, error: GpuDropError) -> Health:
    return Health(endpoint.name, False, str(error), error.info.hint)


async def find_endpoint_ids(config: Config, key: str) -> Mapping[str, str]:
    """Returns RunPod's id of every RunPod endpoint, by its name in config.yaml.

    Asks the management API only when an endpoint has no `id`. Raises ConfigError naming those that are not there,
    EndpointDenied when the key is missing or refused, EndpointUnavailable (retryable) without an answer.
    """
    wanted = runpod_endpoints(config)
    ids = {endpoint.name: endpoint.id for endpoint in wanted if endpoint.id}
    if len(ids) == len(wanted):
        return ids
    async with management_session(config.runpod, key) as api:
        there = await api.endpoints()
    missing: list[str] = []
    for endpoint in wanted:
        if endpoint.name in ids:
            continue
        if found := match_endpoints(endpoint.name, None, runpod_name(endpoint.name), there):
            ids[endpoint.name] = found.id
        else:
            missing.append(endpoint.name)
    if missing:
        raise ConfigError(
            f"RunPod has no endpoint for {', '.join(missing)} yet.",
            hint="Run `gpudrop deploy --apply`, or give its `id` in config.yaml.",
            where="endpoints",
        )
    return ids
