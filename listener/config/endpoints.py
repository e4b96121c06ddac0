"""Where tasks run, and prices and budgets: the sections `endpoints`, `runpod`, `prices` and `budgets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gpu_dispatch.runpod.dialects.gpudrop import NAME as OURS
from gpu_dispatch.runpod.dialects.registry import dialects
from gpu_dispatch.task import Capability
from listener.config.fields import Name, Seconds, Section, WebUrl

Usd = Annotated[float, Field(ge=0)]

PRICES: dict[str, float] = {
    "AMPERE_16": 0.00016,
    "AMPERE_24": 0.00019,
    "ADA_24": 0.00031,
    "AMPERE_48": 0.00034,
    "ADA_48_PRO": 0.00053,
    "AMPERE_80": 0.00076,
    "ADA_80_PRO": 0.00116,
    "HOPPER_141": 0.00155,
}
"""US dollars a second of the most expensive card of each pool, from RunPod's list of August 2026."""


def _known_dialect(name: str) -> str:
    if dialects().find(name) is None:
        raise ValueError(f"there is no such dialect; there are {', '.join(dialects().names)}")
    return name


Dialect = Annotated[str, AfterValidator(_known_dialect)]
"""What an endpoint's workers understand: gpudrop's own image, or one that an installed package knows."""


class _EndpointConfig(Section, frozen=True):
    """What all kinds of endpoints have in common. For `order` and `weight` see gpu_dispatch.endpoints.EndpointSpec."""

    name: Name
    order: int = Field(default=0, ge=0)
    weight: float = Field(default=1.0, gt=0)
    concurrency: int | None = Field(default=None, ge=0)
    """Jobs at once; 0 stops the endpoint."""
    rate: float | None = Field(default=None, gt=0)
    """Submissions a second."""
    max_queue: Seconds | None = None
    """Seconds in the queue after which a job goes to another endpoint."""
    hedge_after: Seconds | None = None
    """Seconds in the queue after which a second job is sent to another endpoint; the first to begin does the work."""
    gpu: str | None = None
    """A name in `prices`."""
    price: Usd | None = None
    """US dollars a second, instead of the price of `gpu`."""


class LocalEndpointConfig(_EndpointConfig, frozen=True):
    """This machine, with the settings of the section `local`."""

    kind: Literal["local"]
    name: Name = "local"


class Workers(Section, frozen=True):
    """How many workers RunPod runs. Seconds."""

    min: int = Field(default=0, ge=0)
    max: int = Field(default=3, ge=0)
    idle_timeout: Seconds = 5.0


class DeployConfig(Section, frozen=True):
    """How `gpudrop deploy` makes an endpoint on RunPod."""

    image: str = Field(min_length=1)
    gpus: tuple[str, ...] = Field(min_length=1)
    """RunPod's GPU pools in order of preference: ADA_24, AMPERE_24, …; "-NVIDIA L4" excludes a card."""
    workers: Workers = Workers()
    flashboot: bool = True
    queue_delay: Seconds = 4.0
    """Seconds that a job waits before more workers are started."""
    container_disk_gb: int = Field(default=20, ge=5)
    env: dict[str, str] = Field(default_factory=dict[str, str])
    volume: str | None = None
    """Id of a network volume with models."""
    registry_auth: str | None = None
    """Id of RunPod's credentials for a private registry."""


class RunPodEndpointConfig(_EndpointConfig, frozen=True):
    """An endpoint on RunPod."""

    kind: Literal["runpod"]
    id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """RunPod's id of the endpoint. None: it is found by the name that `gpudrop deploy` gave it."""
    capabilities: tuple[Capability, ...] = Field(min_length=1)
    dialect: Dialect = OURS
    timeout: Seconds | None = None
    """Seconds that a job may run there. Default: `task_timeout`."""
    ttl: Seconds = 86400.0
    """Seconds after its submission until RunPod drops a job, even while it runs."""
    low_priority: bool = False
    resubmit_unknown: bool = False
    """Send a task again when its submission got no answer, although workers of this dialect write no claim."""
    models: tuple[Name, ...] | None = None
    """Names of the speech models that its workers have beside the published ones. None: they may have any."""
    deploy: DeployConfig | None = None

    @model_validator(mode="after")
    def _speaks_what_it_can(self) -> RunPodEndpointConfig:
        able = dialects().get(self.dialect).capabilities
        if not able.issuperset(self.capabilities):
            only = ", ".join(sorted(able))
            raise ValueError(f"workers of dialect {self.dialect} can only do `capabilities: [{only}]`")
        if self.id is None and self.deploy is None:
            raise ValueError("give `id`, the endpoint's id on RunPod, or `deploy`, to have one made")
        return self


EndpointConfig = Annotated[LocalEndpointConfig | RunPodEndpointConfig, Field(discriminator="kind")]


class HintsConfig(Section, frozen=True):
    """RunPod's webhook as an optional hint that a job has ended, which saves polls."""

    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)
    url: WebUrl
    """Where RunPod reaches host:port, without the secret part of the path."""


class RunPodConfig(Section, frozen=True):
    """How RunPod is reached, with the key in GPUDROP_RUNPOD_API_KEY or RUNPOD_API_KEY."""

    api: WebUrl = "https://api.runpod.ai/v2"
    management: WebUrl = "https://api.runpod.io/v2"
    proxy: WebUrl | None = None
    """Default: HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment."""
    ca_file: Path | None = None
    hints: HintsConfig | None = None


class BudgetsConfig(Section, frozen=True):
    """What jobs may cost."""

    per_job: Usd | None = None
    """A more expensive job is refused."""
    per_day: Usd | None = None
    """A job that would exceed it waits for the next day (UTC)."""
