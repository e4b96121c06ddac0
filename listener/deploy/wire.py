"""Writes templates and endpoints for RunPod's management API v2; gpu_dispatch.runpod.account reads them.

From v2's OpenAPI document (August 2026): `PATCH` changes what it names, and sending `gpu.pools` clears
`gpu.excludedTypes`. Its defaults: FlashBoot off, an idle timeout of 10 s, a timeout of 5 minutes. Where RunPod's answer
to a change differs from the request, `gpudrop deploy` says so.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Literal

from gpu_dispatch.runpod.account import Container, EndpointSettings

ContainerField = Literal["image", "disk", "env", "registry", "ports"]
EndpointField = Literal[
    ContainerField, "gpus", "workers", "queue_delay", "flashboot", "volumes", "timeout"
]  # what one PATCH can change by itself

CONTAINER_FIELDS: frozenset[EndpointField] = frozenset(("image", "disk", "env", "registry", "ports"))


def new_template(name: str, container: Container) -> dict[str, Any]:
    """Builds a template without SSH and Jupyter, whose variables RunPod would put into the workers' environment."""
    body = container_body(container, CONTAINER_FIELDS)
    return {"name": name, "serverless": True, "public": False, "startSsh": False, "startJupyter": False, **body}


def new_endpoint(settings: EndpointSettings, template_id: str) -> dict[str, Any]:
    """Builds an endpoint with the template's container. Defaults are explicit: the API's differ from the console's."""
    fields: set[EndpointField] = {"gpus", "workers", "queue_delay", "flashboot", "volumes", "timeout"}
    body = endpoint_body(settings, fields)
    body["gpu"]["count"] = 1
    return {"name": settings.name, "type": "QUEUE", "templateId": template_id, **body}


def container_body(container: Container, fields: Set[EndpointField]) -> dict[str, Any]:
    whole: dict[EndpointField, Any] = {
        "image": container.image,
        "disk": container.disk_gb,
        "env": dict(container.env),
        "registry": container.registry,
        "ports": list(container.ports),
    }
    return {name: value for name, value in whole.items() if name in fields}


def endpoint_body(settings: EndpointSettings, fields: Set[EndpointField]) -> dict[str, Any]:
    """Builds the part of `settings` that `fields` name. Pools and excluded cards are replaced together."""
    gpu: dict[str, Any] = {"pools": list(settings.pools)}
    if settings.excluded:
        gpu["excludedTypes"] = sorted(settings.excluded)
    workers = {"min": settings.workers_min, "max": settings.workers_max, "idleTimeout": settings.idle_s}
    whole: dict[EndpointField, tuple[str, Any]] = {
        "gpus": ("gpu", gpu),
        "workers": ("workers", workers),
        "queue_delay": ("scaling", {"type": "QUEUE_DELAY", "queueDelay": settings.queue_delay_s}),
        "flashboot": ("flashboot", "FLASHBOOT" if settings.flashboot else "OFF"),
        "volumes": ("networkVolumes", sorted(settings.volumes)),
        "timeout": ("timeout", settings.timeout_ms),
    }
    body = {key: value for name, (key, value) in whole.items() if name in fields}
    return body | container_body(settings.container, fields)
