"""Executes a plan step by step."""

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
    """A step that was done."""

    step: Step
    id: str
    """The template's or the endpoint's."""
    unlike: tuple[PlannedChange, ...]
    """Where RunPod's answer differs from the request: `before` is the answer, `after` the request."""


async def apply_plan(
    settled: Sequence[SettledEndpoint], api: DeployClient, tell: Callable[[AppliedChange], None]
) -> None:
    """Does every step, and calls `tell` after each. Raises what `api` raises; later steps are not begun then."""
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
