"""Plans the changes that make RunPod match config.yaml; an empty plan means that it does. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gpu_dispatch.runpod.account import (
    Account,
    Container,
    Endpoint,
    EndpointSettings,
    Template,
    match_endpoints,
)
from listener.deploy.desired import DesiredEndpoint
from listener.deploy.secrets import looks_secret, shown_value
from listener.deploy.wire import EndpointField
from manifests.errors import ConfigError

NOTHING = "-"


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """One difference between a setting on RunPod and in config.yaml."""

    field: EndpointField
    """What is sent."""
    what: str
    """The setting's name for readers."""
    before: str
    """Without secrets, as `after`."""
    after: str


@dataclass(frozen=True, slots=True)
class MakeTemplate:
    """Makes a template."""

    desired: DesiredEndpoint


@dataclass(frozen=True, slots=True)
class ChangeTemplate:
    """Changes the template `id`."""

    desired: DesiredEndpoint
    id: str
    changes: tuple[PlannedChange, ...]


@dataclass(frozen=True, slots=True)
class MakeEndpoint:
    """Makes an endpoint from a template."""

    desired: DesiredEndpoint
    template_id: str | None
    """None: the template made by the step before."""


@dataclass(frozen=True, slots=True)
class ChangeEndpoint:
    """Changes the endpoint `id`."""

    desired: DesiredEndpoint
    id: str
    changes: tuple[PlannedChange, ...]


Step = MakeTemplate | ChangeTemplate | MakeEndpoint | ChangeEndpoint


@dataclass(frozen=True, slots=True)
class SettledEndpoint:
    """The plan of one endpoint."""

    desired: DesiredEndpoint
    id: str | None
    """RunPod's id of the endpoint; None until it is made."""
    steps: tuple[Step, ...]
    """The template's first; empty where nothing differs."""


def plan_changes(all_desired: Sequence[DesiredEndpoint], account: Account) -> tuple[SettledEndpoint, ...]:
    """Plans every endpoint. Raises ConfigError for an ambiguous endpoint, and for one of another kind."""
    return tuple(_settle(desired, account) for desired in all_desired)


def endpoint_changes(there: EndpointSettings, wanted: EndpointSettings) -> tuple[PlannedChange, ...]:
    """Compares field by field, without the name: the endpoint was found by it, or the user chose it.

    The order of pools counts. A name that belongs to a given `id` stays; an endpoint without a template gets none.
    """
    pairs: tuple[tuple[EndpointField, str, str, str], ...] = (
        ("gpus", "gpus", _listed(there.pools), _listed(wanted.pools)),
        ("gpus", "gpus left out", _listed(sorted(there.excluded)), _listed(sorted(wanted.excluded))),
        ("workers", "workers.min", str(there.workers_min), str(wanted.workers_min)),
        ("workers", "workers.max", str(there.workers_max), str(wanted.workers_max)),
        ("workers", "workers.idle_timeout", _seconds(there.idle_s), _seconds(wanted.idle_s)),
        ("queue_delay", "queue_delay", _seconds(there.queue_delay_s), _seconds(wanted.queue_delay_s)),
        ("flashboot", "flashboot", _on(there.flashboot), _on(wanted.flashboot)),
        ("volumes", "volume", _listed(sorted(there.volumes)), _listed(sorted(wanted.volumes))),
        ("timeout", "timeout", _seconds(there.timeout_ms / 1000), _seconds(wanted.timeout_ms / 1000)),
    )
    return (*container_changes(there.container, wanted.container), *_differing(pairs))


def container_changes(there: Container, wanted: Container) -> tuple[PlannedChange, ...]:
    pairs: tuple[tuple[EndpointField, str, str, str], ...] = (
        ("image", "image", there.image or NOTHING, wanted.image),
        ("disk", "container_disk_gb", str(there.disk_gb), str(wanted.disk_gb)),
        ("registry", "registry_auth", there.registry or NOTHING, wanted.registry or NOTHING),
        ("ports", "ports", _listed(there.ports), _listed(wanted.ports)),
    )
    return (*_differing(pairs), *_env_changes(there.env, wanted.env))


def _settle(desired: DesiredEndpoint, account: Account) -> SettledEndpoint:
    template = _template(desired, account.templates)
    endpoint = match_endpoints(desired.named, desired.id, desired.settings.name, account.endpoints)
    steps: list[Step] = []
    if template is None:
        # An existing endpoint copied its template when it was made, and needs none.
        if endpoint is None:
            steps.append(MakeTemplate(desired))
    elif changes := container_changes(template.container, desired.settings.container):
        steps.append(ChangeTemplate(desired, template.id, changes))
    if endpoint is None:
        steps.append(MakeEndpoint(desired, template.id if template else None))
        return SettledEndpoint(desired, None, tuple(steps))
    _same_kind(desired, endpoint)
    if changes := endpoint_changes(endpoint.settings, desired.settings):
        steps.append(ChangeEndpoint(desired, endpoint.id, changes))
    return SettledEndpoint(desired, endpoint.id, tuple(steps))


def _template(desired: DesiredEndpoint, templates: Iterable[Template]) -> Template | None:
    found = next((each for each in templates if each.name == desired.settings.name), None)
    if found and not found.serverless:
        raise ConfigError(
            f"{desired.named}: the template {found.name} on RunPod is one for pods.",
            hint="Rename or delete it in RunPod's console; then run this again.",
            where=f"endpoints: {desired.named}",
        )
    return found


def _same_kind(desired: DesiredEndpoint, endpoint: Endpoint) -> None:
    if endpoint.queue and endpoint.gpu:
        return
    kind = "has no GPU" if endpoint.queue else "is a load balancer without a queue"
    raise ConfigError(
        f"{desired.named}: the endpoint {endpoint.name} ({endpoint.id}) {kind}, and RunPod cannot change that.",
        hint="Delete it in RunPod's console, or give the endpoint another name in config.yaml.",
        where=f"endpoints: {desired.named}",
    )


def _differing(pairs: Iterable[tuple[EndpointField, str, str, str]]) -> list[PlannedChange]:
    return [PlannedChange(*pair) for pair in pairs if pair[2] != pair[3]]


def _env_changes(there: Mapping[str, str], wanted: Mapping[str, str]) -> list[PlannedChange]:
    names = sorted(name for name in {*there, *wanted} if there.get(name) != wanted.get(name))
    return [PlannedChange("env", f"env.{name}", *_env_shown(name, there.get(name), wanted.get(name))) for name in names]


def _env_shown(name: str, before: str | None, after: str | None) -> tuple[str, str]:
    texts = [NOTHING if value is None else shown_value(name, value) or '""' for value in (before, after)]
    if before and after and looks_secret(name, before) and looks_secret(name, after):
        texts[1] = "(another, hidden)"
    return texts[0], texts[1]


def _listed(values: Iterable[str]) -> str:
    return ", ".join(values) or NOTHING


def _seconds(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.10g} s"


def _on(value: bool) -> str:
    return "on" if value else "off"
