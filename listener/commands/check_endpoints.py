"""`gpudrop check`: whether tasks could be sent to RunPod, done there, and brought back. No task is sent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterator
from urllib.parse import urlsplit

from listener.commands.check_lines import CheckLine, problem_line
from listener.configuration.config import Config, FolderStoreConfig
from listener.configuration.endpoints import RunPodEndpointConfig
from listener.configuration.environment import Environment
from listener.deploy.looking import EndpointInspection, inspect_endpoint
from listener.deploy.wishes import nvenc_refusal, price_of, runpod_endpoints
from manifests.hosts import is_private_host, is_public_address

_PUBLIC = "Set store.public_endpoint to the address at which the store is reached from the internet."
_LOOKUP_S = 10.0


async def endpoint_lines(
    config: Config, environment: Environment, *, settle_s: float = 5.0
) -> AsyncGenerator[CheckLine]:
    """Lines for every RunPod endpoint; none where there is none. This machine has its own."""
    endpoints = runpod_endpoints(config)
    if not endpoints:
        return
    yield await _store_line(config)
    for endpoint in endpoints:
        for line in _settings_lines(endpoint, config):
            yield line
    if not environment.runpod_key:
        names = ", ".join(endpoint.name for endpoint in endpoints)
        hint = "Make one in RunPod's console under Settings, API keys, and set GPUDROP_RUNPOD_API_KEY."
        yield CheckLine("RunPod", False, f"there is no API key, so nothing can be sent to {names}", hint)
        return
    for look in await inspect_endpoint(config, environment.runpod_key, settle_s=settle_s):
        for line in _look_lines(look):
            yield line


def _settings_lines(endpoint: RunPodEndpointConfig, config: Config) -> Iterator[CheckLine]:
    subject = f"endpoint: {endpoint.name}"
    if refusal := nvenc_refusal(endpoint):
        yield problem_line(subject, refusal)
    if price_of(endpoint, config.known_prices) is None:
        detail = f"its price is unknown: the costs of {endpoint.name} count as 0, and no budget holds it back"
        yield CheckLine(subject, None, detail, "Give it `price`, or `gpu` with a name that stands in `prices`.")
    longest = endpoint.timeout or config.task_timeout
    if longest >= endpoint.ttl:
        detail = f"a job may run for {longest:g} s, but RunPod forgets it {endpoint.ttl:g} s after it was sent"
        yield CheckLine(subject, None, detail, "Raise `ttl`, or lower `timeout`.")


def _look_lines(look: EndpointInspection) -> Iterator[CheckLine]:
    subject = f"endpoint: {look.endpoint.name}"
    id = f"{look.id}: " if look.id else ""
    yield CheckLine(subject, look.health.ok, f"{id}{look.health.detail}", look.health.remedy)
    if look.note:
        yield CheckLine(subject, None, look.note)


async def _store_line(config: Config) -> CheckLine:
    """Whether workers on RunPod could read and write the bucket."""
    subject = "store for RunPod's workers"
    if isinstance(config.store, FolderStoreConfig):
        hint = "Use a store of kind s3, which workers can reach, or an endpoint of kind local."
        return CheckLine(subject, False, "a folder on this machine cannot be reached by workers elsewhere", hint)
    address = config.store.public_endpoint or config.store.endpoint
    host = urlsplit(address).hostname or ""
    if is_private_host(host):
        return CheckLine(subject, False, f"{address} cannot be reached from the internet", _PUBLIC)
    try:
        async with asyncio.timeout(_LOOKUP_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as e:
        return CheckLine(
            subject, None, f"{address}: {host} is not found from here ({e.strerror or 'no answer'})", _PUBLIC
        )
    private = sorted({str(entry[4][0]) for entry in found if not is_public_address(str(entry[4][0]))})
    if private:
        detail = f"{address}: from here that is {', '.join(private)}, which is private; workers must find another"
        return CheckLine(subject, None, detail, _PUBLIC)
    if address.startswith("http://"):
        detail = f"{address} is not encrypted: whoever is on the way can read the media and use the links"
        return CheckLine(subject, None, detail, "Put TLS in front of the store, and use its https address.")
    return CheckLine(subject, True, f"{address} has a public address")
