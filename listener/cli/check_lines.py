"""Lines of `gpudrop check`, and those of the state, the secret and endpoints on RunPod. No task is sent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from gpu_dispatch.local.cgroups import Delegation
from gpu_dispatch.local.limits import CHECK_INTERVAL_S
from listener.app.inspection import EndpointInspection, inspect_endpoint
from listener.config.config import Config, FolderStoreConfig
from listener.config.endpoints import RunPodEndpointConfig
from listener.config.environment import Environment
from listener.config.runpod import nvenc_refusal, price_of, runpod_endpoints
from listener.config.state_place import check_former, is_on_server, place_of, was_used
from listener.config.store_identity import identity_of
from listener.installation_secret import VARIABLE
from listener.ledger.files import check_private
from listener.ledger.owner import check_owner
from listener.secret_copies import StoreCopy
from listener.stores.base import Store
from manifests.errors import GpuDropError
from manifests.hosts import is_private_host, is_public_address


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One line of the report."""

    subject: str
    ok: bool | None
    """None: nothing is wrong, but it is worth knowing."""
    detail: str
    remedy: str = ""


def problem_line(subject: str, error: GpuDropError) -> CheckLine:
    return CheckLine(subject, False, str(error), error.info.hint)


def limits_line(where: Delegation) -> CheckLine:
    """Returns how workers on this machine are kept within their limits."""
    if where.holds_memory:
        return CheckLine(
            "limits", True, f"control groups (version {where.version}) hold each worker process to its memory"
        )
    why = where.why or "the controller memory is not there"
    detail = f"workers' memory is looked at every {CHECK_INTERVAL_S:g} s; no control group holds it: {why}"
    return CheckLine(
        "limits", None, detail, "With systemd, set Delegate=yes for the service. A job is ended all the same."
    )


def state_line(config: Config) -> CheckLine:
    """Checks where the state lies. Creates, moves and changes nothing."""
    if is_on_server(config):
        return CheckLine("state", True, "in PostgreSQL")
    try:
        place = place_of(config)
        check_private(place.folder)
        check_owner(place.folder, identity_of(config, place.folder))
    except GpuDropError as e:
        return problem_line("state", e)
    if place.former is None:
        return CheckLine("state", True, f"{place.folder}, for this user alone")
    if was_used(place.folder):
        detail = f"{place.folder} is used; an earlier version's still lies in {place.former.folder}"
        return CheckLine("state", None, detail, "Remove that one, once nothing else needs it.")
    try:
        check_former(place.former, place.folder)
    except GpuDropError as e:
        return problem_line("state", e)
    detail = f"lies in {place.former.folder}, where an earlier version kept it"
    return CheckLine("state", None, detail, f"`gpudrop run` moves it to {place.folder}.")


_SUBJECT = "secret"
_LOST = "if the ledger is lost, jobs that are under way are done and paid for again"
_SET = f"Set {VARIABLE}, or {VARIABLE}_FILE, to what `openssl rand -hex 32` prints."


async def secret_line(store: Store, environment: Environment) -> CheckLine:
    """Checks the copy of the installation's secret. Changes nothing."""
    if environment.secret:
        return CheckLine(_SUBJECT, True, f"{VARIABLE} is set: jobs are known again if the ledger is lost")
    try:
        standing = await StoreCopy(store, environment.keys.current).state()
    except GpuDropError as e:
        return problem_line(_SUBJECT, e)
    match standing:
        case "ours":
            return CheckLine(_SUBJECT, True, "the bucket holds a copy, sealed with the store's keys")
        case "missing":
            return CheckLine(_SUBJECT, True, "`gpudrop run` leaves a copy in the bucket, sealed with the store's keys")
        case "foreign":
            detail = f"the bucket's copy cannot be opened with the store's keys: {_LOST}"
            return CheckLine(_SUBJECT, None, detail, f"`gpudrop run` writes it anew from the ledger. Or: {_SET}")
        case "temporary keys":
            return CheckLine(
                _SUBJECT, None, f"the store's keys are temporary, so there is no copy in it: {_LOST}", _SET
            )


_PUBLIC = "Set store.public_endpoint to the address at which the store is reached from the internet."
_LOOKUP_S = 10.0


async def endpoint_lines(
    config: Config, environment: Environment, *, settle_s: float = 5.0
) -> AsyncGenerator[CheckLine]:
    """Yields the lines of every endpoint on RunPod, and of the store that its workers must reach."""
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
    for inspection in await inspect_endpoint(config, environment.runpod_key, settle_s=settle_s):
        for line in _inspection_lines(inspection):
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


def _inspection_lines(inspection: EndpointInspection) -> Iterator[CheckLine]:
    subject = f"endpoint: {inspection.endpoint.name}"
    id = f"{inspection.id}: " if inspection.id else ""
    yield CheckLine(subject, inspection.health.ok, f"{id}{inspection.health.detail}", inspection.health.remedy)
    if inspection.note:
        yield CheckLine(subject, None, inspection.note)


async def _store_line(config: Config) -> CheckLine:
    """Checks whether workers on RunPod could reach the store."""
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
