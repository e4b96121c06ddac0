"""Derives from config.yaml what RunPod has to have, and notes what is wrong or doubtful in it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpu_dispatch.runpod.account import Container, EndpointSettings, runpod_name
from listener.config.config import Config
from listener.config.endpoints import DeployConfig, RunPodEndpointConfig
from listener.config.runpod import nvenc_refusal, pools_of, price_of, runpod_endpoints, unknown_gpus
from listener.deploy.secrets import looks_secret
from manifests.errors import ConfigError

MOST_POOLS = 3
"""RunPod uses at most this many GPU pools, in order."""

_LONGEST_IDLE_S = 3600
_SHORTEST_DELAY_S = 0.5


@dataclass(frozen=True, slots=True)
class DesiredEndpoint:
    """One endpoint as config.yaml describes it."""

    named: str
    """Its name in config.yaml."""
    id: str | None
    """RunPod's id, where config.yaml gives it."""
    settings: EndpointSettings
    usd_per_s: float | None
    """US dollars a second of one worker; None: unknown."""


def desired_of(config: Config, only: str = "") -> tuple[DesiredEndpoint, ...]:
    """Derives the endpoint `only`, or all that have `deploy`. Raises ConfigError for what RunPod cannot do."""
    endpoints = [e for e in runpod_endpoints(config) if e.deploy]
    if only and only not in [e.name for e in endpoints]:
        known = ", ".join(e.name for e in endpoints) or "none yet"
        raise ConfigError(
            f"There is no endpoint {only!r} with `deploy` in the configuration.",
            hint=f"Endpoints that can be deployed: {known}.",
            where="--endpoint",
        )
    if not endpoints:
        raise ConfigError(
            "No endpoint in the configuration has a section `deploy`.",
            hint="Give an endpoint of kind runpod `deploy: {image: …, gpus: [ADA_24]}`; see the README.",
            where="endpoints",
        )
    return tuple(_desired(e, e.deploy, config) for e in endpoints if e.deploy and only in ("", e.name))


def oddities_of(config: Config, all_desired: Sequence[DesiredEndpoint]) -> tuple[str, ...]:
    """Notes settings that are allowed but may be mistakes."""
    capabilities = {e.name: e.capabilities for e in runpod_endpoints(config)}
    notes: list[str] = []
    for desired in all_desired:
        settings = desired.settings
        for name, value in settings.container.env.items():
            if looks_secret(name, value):
                notes.append(
                    f"{desired.named}: env.{name} looks like a secret, and whoever can see the endpoint can "
                    f"read it. Keep"
                    f" it in RunPod's secrets and write '{{{{ RUNPOD_SECRET_name }}}}' here."
                )
        if len(settings.pools) > MOST_POOLS:
            notes.append(
                f"{desired.named}: RunPod uses at most {MOST_POOLS} GPU pools; {len(settings.pools)} are given."
            )
        if "nvenc" in capabilities[desired.named] and (strange := unknown_gpus(settings.pools)):
            notes.append(f"{desired.named}: whether {', '.join(strange)} can encode video is not known here.")
        if settings.workers_max == 0:
            notes.append(f"{desired.named}: workers.max is 0, so no job will run there.")
        if settings.workers_min and desired.usd_per_s:
            cost = settings.workers_min * desired.usd_per_s * 86400
            notes.append(
                f"{desired.named}: workers.min {settings.workers_min} costs up to ${cost:.2f} a day without a job."
            )
        if not settings.flashboot:
            notes.append(f"{desired.named}: FlashBoot is off, so every start of a worker is slow.")
    return tuple(notes)


def _desired(endpoint: RunPodEndpointConfig, deploy: DeployConfig, config: Config) -> DesiredEndpoint:
    if refusal := nvenc_refusal(endpoint):
        raise refusal
    _check(endpoint.name, deploy)
    settings = EndpointSettings(
        name=runpod_name(endpoint.name),
        container=Container(deploy.image, deploy.container_disk_gb, dict(deploy.env), deploy.registry_auth),
        pools=pools_of(deploy),
        excluded=frozenset(gpu[1:].strip() for gpu in deploy.gpus if gpu.startswith("-")),
        workers_min=deploy.workers.min,
        workers_max=deploy.workers.max,
        idle_s=max(1, round(deploy.workers.idle_timeout)),
        queue_delay_s=deploy.queue_delay,
        flashboot=deploy.flashboot,
        volumes=frozenset((deploy.volume,) if deploy.volume else ()),
        timeout_ms=round((endpoint.timeout or config.task_timeout) * 1000),
    )
    return DesiredEndpoint(endpoint.name, endpoint.id, settings, price_of(endpoint, config.known_prices))


def _check(name: str, deploy: DeployConfig) -> None:
    problem = ""
    if not pools_of(deploy):
        problem = "deploy.gpus names no pool"
    elif deploy.workers.min > deploy.workers.max:
        problem = f"deploy.workers.min ({deploy.workers.min}) is larger than max ({deploy.workers.max})"
    elif deploy.workers.idle_timeout > _LONGEST_IDLE_S:
        problem = f"deploy.workers.idle_timeout may be at most {_LONGEST_IDLE_S} s"
    elif deploy.queue_delay < _SHORTEST_DELAY_S:
        problem = f"deploy.queue_delay must be at least {_SHORTEST_DELAY_S} s"
    if problem:
        raise ConfigError(f"{name}: {problem}.", hint="Change it in config.yaml.", where=f"endpoints: {name}")
