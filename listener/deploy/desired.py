"""From config.yaml to what RunPod is to have, with what is wrong or odd about it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from listener.config.config import Config
from listener.config.endpoints import DeployConfig, EndpointConfig, RunPodEndpointConfig
from listener.deploy.model import Container, DesiredEndpoint, EndpointSettings, looks_secret, runpod_name
from manifests.errors import ConfigError

NVENC = ("AMPERE_16", "AMPERE_24", "ADA_24", "ADA_32_PRO", "AMPERE_48", "ADA_48_PRO", "BLACKWELL_96")
"""Pools all of whose cards have an encoder; cheaper ones first."""

NO_NVENC = {
    "AMPERE_80": "A100",
    "ADA_80_PRO": "H100",
    "HOPPER_141": "H200",
    "BLACKWELL_180": "B200",
}
"""Pools of cards that were built without one, and the cards."""

MOST_POOLS = 3
"""RunPod places workers on this many kinds of GPU, in order."""


def without_nvenc(pools: Iterable[str]) -> tuple[str, ...]:
    """Those of `pools` that cannot encode video, with their cards: "AMPERE_80 (A100)"."""
    return tuple(f"{pool} ({NO_NVENC[pool]})" for pool in pools if pool in NO_NVENC)


def unknown_gpus(pools: Iterable[str]) -> tuple[str, ...]:
    return tuple(pool for pool in pools if pool not in NVENC and pool not in NO_NVENC)


_LONGEST_IDLE_S = 3600
_SHORTEST_DELAY_S = 0.5


def desired_of(config: Config, only: str = "") -> tuple[DesiredEndpoint, ...]:
    """Of the endpoint `only`, or of all that have `deploy`. Raises ConfigError for what RunPod could not do."""
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


def runpod_endpoints(config: Config) -> tuple[RunPodEndpointConfig, ...]:
    return tuple(e for e in config.endpoints if isinstance(e, RunPodEndpointConfig))


def price_of(endpoint: EndpointConfig, prices: Mapping[str, float]) -> float | None:
    """US dollars a second of one worker: `price`, else that of `gpu`, else the dearest of `deploy.gpus`."""
    if endpoint.price is not None:
        return endpoint.price
    if endpoint.gpu is not None:
        return prices.get(endpoint.gpu)
    pools = pools_of(endpoint.deploy) if isinstance(endpoint, RunPodEndpointConfig) and endpoint.deploy else ()
    known = [prices[pool] for pool in pools if pool in prices]
    return max(known) if known and len(known) == len(pools) else None


def pools_of(deploy: DeployConfig) -> tuple[str, ...]:
    return tuple(gpu for gpu in deploy.gpus if not gpu.startswith("-"))


def nvenc_refusal(endpoint: RunPodEndpointConfig) -> ConfigError | None:
    """Why `endpoint` cannot do what its capabilities say on the GPUs it is given."""
    if "nvenc" not in endpoint.capabilities:
        return None
    pools = pools_of(endpoint.deploy) if endpoint.deploy else (endpoint.gpu,) if endpoint.gpu else ()
    blind = without_nvenc(pools)
    if not blind:
        return None
    return ConfigError(
        f"{endpoint.name} shall encode video (nvenc), but these GPUs have no encoder: {', '.join(blind)}.",
        hint=f"Pools with an encoder: {', '.join(NVENC)}.",
        where=f"endpoints: {endpoint.name}",
    )


def oddities_of(config: Config, all_desired: Sequence[DesiredEndpoint]) -> tuple[str, ...]:
    """What may be meant as it stands, but is worth a look."""
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
