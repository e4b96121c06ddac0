"""RunPod's ids of endpoints that config.yaml calls by name only."""

from __future__ import annotations

from collections.abc import Mapping

from listener.configuration.config import Config
from listener.deploy.api import management_client
from listener.deploy.model import runpod_name
from listener.deploy.planning import match_endpoints
from listener.deploy.wishes import runpod_endpoints
from manifests.errors import ConfigError


async def find_endpoint_ids(config: Config, key: str) -> Mapping[str, str]:
    """RunPod's id of every RunPod endpoint, by its name in config.yaml.

    Asks the management API only when one is without `id`. Raises ConfigError naming those that are not there,
    EndpointDenied when the key is missing or refused, EndpointUnavailable (retryable) when nobody answers.
    """
    wanted = runpod_endpoints(config)
    ids = {endpoint.name: endpoint.id for endpoint in wanted if endpoint.id}
    if len(ids) == len(wanted):
        return ids
    async with management_client(config.runpod, key) as api:
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
