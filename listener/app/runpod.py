"""Builds RunPod's endpoints, and what they share, from the configuration."""

from __future__ import annotations

import hashlib
import hmac
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from gpu_dispatch.absent_endpoint import AbsentEndpoint
from gpu_dispatch.backend import GpuBackend
from gpu_dispatch.runpod.client import RunPodClient
from gpu_dispatch.runpod.dialects.registry import dialects
from gpu_dispatch.runpod.endpoint import RunPodEndpoint as Backend
from gpu_dispatch.runpod.poller import PollerServices
from gpu_dispatch.runpod.settings import ClientSettings, RunPodSettings
from gpu_dispatch.runpod.webhook import WebhookHints, WebhookServer
from listener.config.endpoints import HintsConfig, RunPodConfig, RunPodEndpointConfig
from listener.config.environment import Environment
from listener.dispatch.endpoint_pool import RemovedEndpoint

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.dispatch")


@dataclass(frozen=True, slots=True)
class RunPod:
    """What all endpoints on RunPod share."""

    client: RunPodClient
    shared: PollerServices
    hints: WebhookHints | None

    def configured(self, endpoint: RunPodEndpointConfig, endpoint_id: str, link_s: float) -> GpuBackend:
        """Builds a configured endpoint. RunPod forgets a task after `link_s` seconds at most, the life of its links."""
        return self._endpoint(
            RunPodSettings(
                name=endpoint.name,
                endpoint_id=endpoint_id,
                dialect=dialects().get(endpoint.dialect),
                timeout_s=endpoint.timeout,
                ttl_s=min(endpoint.ttl, link_s),
                low_priority=endpoint.low_priority,
                rate_per_s=endpoint.rate,
            )
        )

    def removed(self, endpoint: RemovedEndpoint) -> GpuBackend:
        """Builds a removed endpoint, which follows its jobs to their end as long as the key opens it."""
        dialect = dialects().find(endpoint.dialect)
        if dialect is None:
            log.warning("endpoint_gone", endpoint=endpoint.name, hint="Its jobs are withdrawn.")
            return AbsentEndpoint(endpoint.name, endpoint.endpoint_id, claims=True)
        log.warning(
            "endpoint_not_configured",
            endpoint=endpoint.name,
            id=endpoint.endpoint_id,
            hint="Jobs that run there are followed to their end, queued ones go elsewhere.",
        )
        return self._endpoint(RunPodSettings(endpoint.name, endpoint.endpoint_id, dialect))

    def _endpoint(self, settings: RunPodSettings) -> GpuBackend:
        return Backend(settings, self.client, shared=self.shared, hints=self.hints)


async def build_runpod(config: RunPodConfig, environment: Environment, stack: AsyncExitStack) -> RunPod:
    """Builds the client and the webhook's server, without a connection to RunPod. `stack` closes them."""
    settings = ClientSettings(config.api, config.proxy, config.ca_file)
    client = RunPodClient(settings, key=lambda: environment.runpod_key)
    await client.start()
    stack.push_async_callback(client.close)
    shared = PollerServices(rng=random.Random())  # noqa: S311 - jitter
    hints = await _hints(config.hints, environment.runpod_key, stack) if config.hints else None
    return RunPod(client, shared, hints)


async def _hints(config: HintsConfig, key: str, stack: AsyncExitStack) -> WebhookHints:
    secret = _secret(key)
    hints = WebhookHints(f"{config.url.rstrip('/')}/{secret}")
    server = WebhookServer(hints, host=config.host, port=config.port, secret=secret)
    await server.start()
    stack.push_async_callback(server.close)
    return hints


def _secret(key: str) -> str:
    """Returns the secret part of the webhook's path: the same after a restart, and of no use for anything else."""
    return hmac.new(key.encode(), b"gpudrop webhook", hashlib.sha256).hexdigest()[:40]
