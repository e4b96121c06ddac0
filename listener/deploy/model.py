"""Templates and endpoints as data, the same for what is desired and what is there, their secrets never shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_REFERENCE = re.compile(r"\s*\{\{\s*RUNPOD_SECRET_\w+\s*\}\}\s*")
_NAMES = re.compile(
    r"(^|_)(KEY|APIKEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS|PWD|CREDENTIALS?|AUTH|DSN|COOKIE|SIGNATURE)(_|\d|$)", re.I
)
_VALUES = re.compile(
    r"^(rpa_|hf_|sk-|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|AKIA|ASIA|AIza|eyJ)"
    r"|://[^/\s@]+:[^/\s@]+@"
    r"|[?&](X-Amz-Signature|X-Amz-Credential|sig|token)="
    r"|-----BEGIN "
)
_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9+/_=-]{32,}")


def is_reference(value: str) -> bool:
    """Whether `value` names one of RunPod's secrets, which RunPod fills in where the worker starts."""
    return bool(_REFERENCE.fullmatch(value))


def looks_secret(name: str, value: str) -> bool:
    if not value or is_reference(value):
        return False
    return bool(_NAMES.search(name) or _VALUES.search(value) or _RANDOM.fullmatch(value))


def shown_value(name: str, value: str) -> str:
    return "(hidden)" if looks_secret(name, value) else value


def without_secrets(text: str, env: Mapping[str, str]) -> str:
    """`text` of a server's answer without the secret values of `env` that it may repeat."""
    for name, value in env.items():
        if looks_secret(name, value):
            text = text.replace(value, "(hidden)")
    return text


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
