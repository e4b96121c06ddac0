"""Templates and endpoints as RunPod's management API v2 writes them. Nothing else knows its field names."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from listener.deploy.model import Account, Container, Endpoint, EndpointSettings, Template
from manifests.errors import EndpointUnavailable

TEMPLATES = "/templates"
ENDPOINTS = "/serverless"

ContainerField = Literal["image", "disk", "env", "registry", "ports"]
EndpointField = Literal[
    ContainerField, "gpus", "workers", "queue_delay", "flashboot", "volumes", "timeout"
]  # what one PATCH can change by itself

CONTAINER_FIELDS: frozenset[EndpointField] = frozenset(("image", "disk", "env", "registry", "ports"))


class _Read(BaseModel):
    """Lenient: the API is in beta, and grows."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


class _Container(_Read):
    image: str = ""
    disk: int = 0
    env: dict[str, str] | None = None
    registry: str | None = None
    ports: tuple[str, ...] | None = None

    def read(self) -> Container:
        return Container(self.image, self.disk, self.env or {}, self.registry or None, self.ports or ())


class _Template(_Container):
    id: str
    name: str
    serverless: bool = False


class _Gpu(_Read):
    pools: tuple[str, ...] = ()
    excluded_types: tuple[str, ...] | None = None


class _Workers(_Read):
    min: int = 0
    max: int = 0
    idle_timeout: int | None = None


class _Scaling(_Read):
    type: str = ""
    queue_delay: float | None = None


class _EndpointFields(_Container):
    id: str
    name: str
    type: str = "QUEUE"
    gpu: _Gpu | None = None
    workers: _Workers = _Workers()
    scaling: _Scaling = _Scaling()
    network_volumes: tuple[str, ...] | None = None
    timeout: int = 0
    flashboot: str = "OFF"

    def endpoint(self) -> Endpoint:
        gpu = self.gpu or _Gpu()
        settings = EndpointSettings(
            name=self.name,
            container=self.read(),
            pools=gpu.pools,
            excluded=frozenset(each.strip() for each in gpu.excluded_types or ()),
            workers_min=self.workers.min,
            workers_max=self.workers.max,
            idle_s=self.workers.idle_timeout,
            queue_delay_s=self.scaling.queue_delay if self.scaling.type == "QUEUE_DELAY" else None,
            flashboot=self.flashboot != "OFF",
            volumes=frozenset(self.network_volumes or ()),
            timeout_ms=self.timeout,
        )
        return Endpoint(self.id, settings, queue=self.type == "QUEUE", gpu=self.gpu is not None)


class _Templates(_Read):
    templates: tuple[_Template, ...]


class _Endpoints(_Read):
    endpoints: tuple[_EndpointFields, ...]


class Problem(_Read):
    """What the API says of a failure (RFC 9457)."""

    title: str = ""
    detail: str = ""
    errors: tuple[str, ...] = Field(default=())

    def __str__(self) -> str:
        return "; ".join(each for each in (self.detail or self.title, *self.errors) if each)


def templates(data: Any) -> tuple[Template, ...]:
    return tuple(map(_template, _read(_Templates, data).templates))


def template(data: Any) -> Template:
    return _template(_read(_Template, data))


def endpoints(data: Any) -> tuple[Endpoint, ...]:
    return tuple(each.endpoint() for each in _read(_Endpoints, data).endpoints)


def endpoint(data: Any) -> Endpoint:
    return _read(_EndpointFields, data).endpoint()


def account(templates_data: Any, endpoints_data: Any) -> Account:
    return Account(templates(templates_data), endpoints(endpoints_data))


def problem(data: Any) -> Problem | None:
    try:
        return TypeAdapter(Problem).validate_python(data)
    except ValidationError:
        return None


def new_template(name: str, container: Container) -> dict[str, Any]:
    """SSH and Jupyter are for pods: RunPod would put their variables into the workers' environment."""
    body = container_body(container, CONTAINER_FIELDS)
    return {"name": name, "serverless": True, "public": False, "startSsh": False, "startJupyter": False, **body}


def new_endpoint(settings: EndpointSettings, template_id: str) -> dict[str, Any]:
    """The container comes from the template. Every default is written out: the API's differ from the console's."""
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
    """The part of `settings` that `fields` name. Pools and excluded cards are one selection, replaced together."""
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


_M = TypeVar("_M", bound=_Read)


def _template(read: _Template) -> Template:
    return Template(read.id, read.name, read.read(), read.serverless)


def _read(model: type[_M], data: Any) -> _M:
    try:
        return model.model_validate(data)
    except ValidationError as e:
        first = e.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise EndpointUnavailable(
            f"RunPod's management API answered in a form that is not known here ({where or 'body'}: {first['msg']}).",
            hint="Check runpod.management in config.yaml; it must be RunPod's REST API v2.",
            retryable=False,
        ) from None  # the cause repeats what it read, environment variables included
