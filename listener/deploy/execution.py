"""A plan, executed step by step, and the ids of endpoints that config.yaml calls by name only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from listener.config.config import Config
from listener.deploy.client import ManagementClient, management_client
from listener.deploy.desired import runpod_endpoints
from listener.deploy.model import Endpoint, runpod_name
from listener.deploy.plan import (
    ChangeEndpoint,
    ChangeTemplate,
    MakeEndpoint,
    MakeTemplate,
    PlannedChange,
    SettledEndpoint,
    Step,
    container_changes,
    endpoint_changes,
    match_endpoints,
)
from manifests.errors import ConfigError


@dataclass(frozen=True, slots=True)
class AppliedChange:
    """`id` is the template's or the endpoint's. `unlike`: where RunPod kept something else than it was told.

    In `unlike`, `before` is what RunPod has, `after` what it was told.
    """

    step: Step
    id: str
    unlike: tuple[PlannedChange, ...]


async def apply_plan(
    settled: Sequence[SettledEndpoint], api: ManagementClient, tell: Callable[[AppliedChange], None]
) -> None:
    """Raises what `api` raises; what was told before that is done, and nothing after it was begun."""
    for each in settled:
        template_id: str | None = None
        for step in each.steps:
            done = await _do(step, api, template_id)
            if isinstance(step, MakeTemplate):
                template_id = done.id
            tell(done)


async def _do(step: Step, api: ManagementClient, template_id: str | None) -> AppliedChange:
    settings = step.desired.settings
    match step:
        case MakeTemplate():
            template = await api.make_template(settings)
            return AppliedChange(step, template.id, container_changes(template.container, settings.container))
        case ChangeTemplate(id=id, changes=changes):
            template = await api.change_template(id, settings, {change.field for change in changes})
            return AppliedChange(step, template.id, container_changes(template.container, settings.container))
        case MakeEndpoint(template_id=known):
            made = await api.make_endpoint(settings, known or template_id or "")
            return AppliedChange(step, made.id, _unlike(made, step))
        case ChangeEndpoint(id=id, changes=changes):
            changed = await api.change_endpoint(id, settings, {change.field for change in changes})
            return AppliedChange(step, changed.id, _unlike(changed, step))


def _unlike(there: Endpoint, step: MakeEndpoint | ChangeEndpoint) -> tuple[PlannedChange, ...]:
    return endpoint_changes(there.settings, step.desired.settings)


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
