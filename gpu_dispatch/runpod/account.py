"""What an account on RunPod has, templates and endpoints, as its management API v2 writes them.

As read in August 2026. From v2's OpenAPI document: a list is `{"endpoints": […]}` or `{"templates": […]}`, whole;
`flashboot` is `OFF`, `FLASHBOOT` or `PRIORITY_FLASHBOOT`; a template is a snapshot that an endpoint takes its container
from once, and later changes of it reach no endpoint; errors are RFC 9457 problems. From the pages on endpoints: up to
three pools in order of preference; max workers falls to 2 and to 0 after 3 and 7 idle days. GraphQL and older consoles
marked FlashBoot by `-fb` at the end of a name. Unknown fields and nulls pass, a missing id or name does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from manifests.errors import ConfigError, EndpointUnavailable

TEMPLATES = "/templates"
ENDPOINTS = "/serverless"

PREFIX = "gpudrop-"
"""Begins the name of everything that gpudrop makes; other names are changed only if config.yaml gives the id."""

_FLASHBOOT_SUFFIX = "-fb"


@dataclass(frozen=True, slots=True)
class Container:
    """What a worker is started from."""

    image: str
    disk_gb: int
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    registry: str | None = None
    """Id of credentials for a private registry."""
    ports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """The settings of an endpoint on RunPod."""

    name: str
    container: Container
    pools: tuple[str, ...]
    """GPU pools in order of preference."""
    excluded: frozenset[str]
    """Cards of `pools` that are not used."""
    workers_min: int
    workers_max: int
    idle_s: int | None
    queue_delay_s: float | None
    """None: workers are scaled by another rule."""
    flashboot: bool
    volumes: frozenset[str]
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Template:
    """A template that an endpoint takes its container from."""

    id: str
    name: str
    container: Container
    serverless: bool


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint on RunPod."""

    id: str
    settings: EndpointSettings
    queue: bool = True
    """Whether jobs wait for workers; else it is a load balancer."""
    gpu: bool = True
    """Whether its workers have one."""

    @property
    def name(self) -> str:
        return self.settings.name


@dataclass(frozen=True, slots=True)
class Account:
    """All templates and endpoints of the key's owner, foreign ones included."""

    templates: tuple[Template, ...]
    endpoints: tuple[Endpoint, ...]


def runpod_name(named: str) -> str:
    """Returns the name on RunPod of config.yaml's endpoint `named`, and of its template."""
    return f"{PREFIX}{named}"


def plain_name(name: str) -> str:
    """Removes the ending that RunPod's console and older APIs give to endpoints with FlashBoot."""
    return name.removesuffix(_FLASHBOOT_SUFFIX).rstrip() if name.endswith(_FLASHBOOT_SUFFIX) else name


def match_endpoints(named: str, id: str | None, name: str, endpoints: Iterable[Endpoint]) -> Endpoint | None:
    """Finds config.yaml's endpoint `named` by its `id`, else by its `name` on RunPod; None: there is none.

    Raises ConfigError for an `id` that is not there, and for a name that several have.
    """
    if id is not None:
        found = next((each for each in endpoints if each.id == id), None)
        if found is None:
            raise ConfigError(
                f"{named}: this RunPod account has no endpoint {id}.",
                hint="Correct `id`, use the key of the account that has it, or leave `id` out to have one made.",
                where=f"endpoints: {named}",
            )
        return found
    alike = [each for each in endpoints if plain_name(each.name) == name]
    if len(alike) > 1:
        raise ConfigError(
            f"{named}: {len(alike)} endpoints on RunPod are called {name}: {', '.join(each.id for each in alike)}.",
            hint="Give the `id` of the right one in config.yaml, or delete the others in RunPod's console.",
            where=f"endpoints: {named}",
        )
    return alike[0] if alike else None


class _Read(BaseModel):
    """Ignores unknown fields: the API is in beta, and grows."""

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
    """A failure as the API describes it (RFC 9457)."""

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
