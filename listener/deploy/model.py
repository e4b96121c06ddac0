"""Templates and endpoints as data, the same for what is wished and for what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PREFIX = "gpudrop-"
"""Everything that is made here is called so; nothing of another name is touched unless config.yaml gives its id."""

_FLASHBOOT_SUFFIX = "-fb"


@dataclass(frozen=True, slots=True)
class Container:
    """What a worker is started from. `registry` is the id of credentials for a private registry."""

    image: str
    disk_gb: int
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    registry: str | None = None
    ports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """`pools` in order of preference, less the cards in `excluded`. `queue_delay_s` None: it scales by another rule."""

    name: str
    container: Container
    pools: tuple[str, ...]
    excluded: frozenset[str]
    workers_min: int
    workers_max: int
    idle_s: int | None
    queue_delay_s: float | None
    flashboot: bool
    volumes: frozenset[str]
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class DesiredEndpoint:
    """What config.yaml wants of one endpoint. `named` is its name there, `id` RunPod's where config.yaml gives it."""

    named: str
    id: str | None
    settings: EndpointSettings
    usd_per_s: float | None
    """None: unknown."""


@dataclass(frozen=True, slots=True)
class Template:
    id: str
    name: str
    container: Container
    serverless: bool


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`queue`: jobs wait for workers; the other kind is a load balancer. `gpu`: its workers have one."""

    id: str
    settings: EndpointSettings
    queue: bool = True
    gpu: bool = True

    @property
    def name(self) -> str:
        return self.settings.name


@dataclass(frozen=True, slots=True)
class Account:
    """Everything of these kinds that the key's owner has, foreign ones included."""

    templates: tuple[Template, ...]
    endpoints: tuple[Endpoint, ...]


def runpod_name(named: str) -> str:
    """The name on RunPod of the endpoint that config.yaml calls `named`, and of its template."""
    return f"{PREFIX}{named}"


def plain_name(name: str) -> str:
    """`name` without the ending that RunPod's console and older APIs give to endpoints with FlashBoot."""
    return name.removesuffix(_FLASHBOOT_SUFFIX).rstrip() if name.endswith(_FLASHBOOT_SUFFIX) else name
