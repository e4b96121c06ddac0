"""RunPod's endpoints of the configuration: their prices, and which GPUs encode video. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from listener.config.config import Config
from listener.config.endpoints import DeployConfig, EndpointConfig, RunPodEndpointConfig
from manifests.errors import ConfigError

NVENC = ("AMPERE_16", "AMPERE_24", "ADA_24", "ADA_32_PRO", "AMPERE_48", "ADA_48_PRO", "BLACKWELL_96")
"""Pools whose cards all have an encoder, cheaper ones first."""

NO_NVENC = {
    "AMPERE_80": "A100",
    "ADA_80_PRO": "H100",
    "HOPPER_141": "H200",
    "BLACKWELL_180": "B200",
}
"""Pools of cards without an encoder, and the cards."""


def without_nvenc(pools: Iterable[str]) -> tuple[str, ...]:
    """Returns those of `pools` that cannot encode video, with their cards: "AMPERE_80 (A100)"."""
    return tuple(f"{pool} ({NO_NVENC[pool]})" for pool in pools if pool in NO_NVENC)


def unknown_gpus(pools: Iterable[str]) -> tuple[str, ...]:
    return tuple(pool for pool in pools if pool not in NVENC and pool not in NO_NVENC)


def runpod_endpoints(config: Config) -> tuple[RunPodEndpointConfig, ...]:
    return tuple(e for e in config.endpoints if isinstance(e, RunPodEndpointConfig))


def price_of(endpoint: EndpointConfig, prices: Mapping[str, float]) -> float | None:
    """Returns US dollars a second of one worker: `price`, else that of `gpu`, else the dearest of `deploy.gpus`.

    None: unknown.
    """
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
    """Returns why `endpoint` cannot encode video on its GPUs although its capabilities say so; None: it can."""
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
