"""`gpudrop endpoints`: shows the endpoints and their health, and purges the queue of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from listener.app.inspection import EndpointInspection, client_session, find_endpoint_ids, inspect_endpoint
from listener.cli.status import ledger_database
from listener.config.config import Config
from listener.config.endpoints import LocalEndpointConfig, RunPodEndpointConfig
from listener.config.environment import Environment
from listener.config.runpod import price_of, runpod_endpoints
from listener.ledger.jobs import JobLedger
from manifests.errors import ConfigError

_TITLES = ("endpoint", "kind", "does", "order", "jobs", "workers", "$/s", "state")


async def show_endpoints(config: Config, environment: Environment, console: Console) -> int:
    """Prints a table; returns 1 when an endpoint is unhealthy."""
    inspections = await inspect_endpoint(config, environment.runpod_key)
    probes = {inspection.endpoint.name: inspection for inspection in inspections}
    jobs = await _open_jobs(config)
    table = Table(box=None, pad_edge=False)
    for title in _TITLES:
        table.add_column(title, overflow="fold")
    for endpoint in config.endpoints:
        inspection = probes.get(endpoint.name)
        state = _state(inspection, endpoint, config)
        table.add_row(*_cells(endpoint, inspection, jobs.get(endpoint.name, 0), config), state)
    console.print(table)
    return 0 if all(inspection.health.ok for inspection in probes.values()) else 1


async def purge_endpoint(
    config: Config, environment: Environment, console: Console, name: str, *, sure: Callable[[str], bool]
) -> int:
    """Purges every job that waits for a worker, once `sure` returns True. Raises GpuDropError."""
    endpoint = _runpod(config, name)
    only = config.model_copy(update={"endpoints": (endpoint,)})
    id = (await find_endpoint_ids(only, environment.runpod_key))[name]
    async with client_session(config, environment.runpod_key) as client:
        queued = (await client.health(id)).jobs.get("inQueue", 0)
        if not queued:
            _say(console, f"No job waits at {name} ({id}).")
            return 0
        jobs = f"{queued} waiting job{'s'[: queued != 1]}"
        if not sure(f"Take back {jobs} of {name} ({id}), other programs' included?"):
            _say(console, "Nothing was taken back.")
            return 1
        await client.purge(id)
    _say(console, f"{jobs} of {name} taken back; what is being worked on goes on.")
    _say(
        console,
        "A run whose job was among them notices, and sends its task again while it has attempts left;"
        " `gpudrop cancel` ends a run for good.",
    )
    return 0


def _runpod(config: Config, name: str) -> RunPodEndpointConfig:
    for endpoint in runpod_endpoints(config):
        if endpoint.name == name:
            return endpoint
    known = ", ".join(e.name for e in runpod_endpoints(config)) or "none"
    raise ConfigError(
        f"There is no RunPod endpoint {name!r} in the configuration.", hint=f"RunPod endpoints: {known}.", where=name
    )


async def _open_jobs(config: Config) -> Mapping[str, int]:
    async with ledger_database(config) as database:
        return await JobLedger(database, time.time).open_jobs()


def _cells(
    endpoint: LocalEndpointConfig | RunPodEndpointConfig,
    inspection: EndpointInspection | None,
    jobs: int,
    config: Config,
) -> tuple[str, ...]:
    most = "" if endpoint.concurrency is None else f" of {endpoint.concurrency}"
    ours = (endpoint.name, endpoint.kind, _does(endpoint, config), str(endpoint.order), f"{jobs}{most}")
    if isinstance(endpoint, LocalEndpointConfig):
        price = endpoint.price if endpoint.price is not None else config.known_prices.get(endpoint.gpu or "", 0.0)
        return (*ours, "", f"{price:.10g}")
    price = price_of(endpoint, config.known_prices)
    return (*ours, _workers(inspection), "?" if price is None else f"{price:.10g}")


def _does(endpoint: LocalEndpointConfig | RunPodEndpointConfig, config: Config) -> str:
    if isinstance(endpoint, RunPodEndpointConfig):
        return ", ".join(endpoint.capabilities)
    slots = {"whisper": config.local.whisper_slots, "nvenc": config.local.nvenc_slots}
    return ", ".join(capability for capability, count in slots.items() if count) or "nothing"


def _workers(inspection: EndpointInspection | None) -> str:
    """Returns the range of workers as "0-3", or "?" where it is unknown."""
    if inspection is None or inspection.there is None:
        return "?"
    return f"{inspection.there.settings.workers_min}-{inspection.there.settings.workers_max}"


def _state(
    inspection: EndpointInspection | None, endpoint: LocalEndpointConfig | RunPodEndpointConfig, config: Config
) -> Text:
    if inspection is None:
        slots = f"slots: {config.local.whisper_slots} whisper, {config.local.nvenc_slots} nvenc"
        return Text("stopped (concurrency: 0)" if endpoint.concurrency == 0 else slots, "")
    if endpoint.concurrency == 0:
        return Text(_joined("stopped (concurrency: 0)", inspection.health.detail), "yellow")
    if not inspection.health.ok:
        return Text(_joined(inspection.health.detail, inspection.health.remedy), "red")
    return Text(_joined(inspection.health.detail, inspection.note), "green")


def _joined(*sentences: str) -> str:
    """Joins sentences with full stops."""
    return ". ".join(sentence.rstrip(".") for sentence in sentences if sentence)


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)
