"""A plan, executed step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpu_dispatch.runpod.account import Endpoint
from listener.deploy.client import DeployClient
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
)


@dataclass(frozen=True, slots=True)
class AppliedChange:
    """`id` is the template's or the endpoint's. `unlike`: where RunPod kept something else than it was told.

    In `unlike`, `before` is what RunPod has, `after` what it was told.
    """

    step: Step
    id: str
    unlike: tuple[PlannedChange, ...]


async def apply_plan(
    settled: Sequence[SettledEndpoint], api: DeployClient, tell: Callable[[AppliedChange], None]
) -> None:
    """Raises what `api` raises; what was told before that is done, and nothing after it was begun."""
    for each in settled:
        template_id: str | None = None
        for step in each.steps:
            done = await _do(step, api, template_id)
            if isinstance(step, MakeTemplate):
                template_id = done.id
            tell(done)


async def _do(step: Step, api: DeployClient, template_id: str | None) -> AppliedChange:
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
