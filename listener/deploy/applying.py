"""A plan, carried out step by step; every step that is done is told at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from listener.deploy.api import Management
from listener.deploy.model import Endpoint
from listener.deploy.planning import (
    Change,
    ChangeEndpoint,
    ChangeTemplate,
    MakeEndpoint,
    MakeTemplate,
    Settled,
    Step,
    container_changes,
    endpoint_changes,
)


@dataclass(frozen=True, slots=True)
class Done:
    """`id` is the template's or the endpoint's. `unlike`: where RunPod kept something else than it was told.

    In `unlike`, `before` is what RunPod has, `after` what it was told.
    """

    step: Step
    id: str
    unlike: tuple[Change, ...]


async def carry_out(settled: Sequence[Settled], api: Management, tell: Callable[[Done], None]) -> None:
    """Raises what `api` raises; what was told before that is done, and nothing after it was begun."""
    for each in settled:
        template_id: str | None = None
        for step in each.steps:
            done = await _do(step, api, template_id)
            if isinstance(step, MakeTemplate):
                template_id = done.id
            tell(done)


async def _do(step: Step, api: Management, template_id: str | None) -> Done:
    settings = step.wish.settings
    match step:
        case MakeTemplate():
            template = await api.make_template(settings)
            return Done(step, template.id, container_changes(template.container, settings.container))
        case ChangeTemplate(id=id, changes=changes):
            template = await api.change_template(id, settings, {change.field for change in changes})
            return Done(step, template.id, container_changes(template.container, settings.container))
        case MakeEndpoint(template_id=known):
            made = await api.make_endpoint(settings, known or template_id or "")
            return Done(step, made.id, _unlike(made, step))
        case ChangeEndpoint(id=id, changes=changes):
            changed = await api.change_endpoint(id, settings, {change.field for change in changes})
            return Done(step, changed.id, _unlike(changed, step))


def _unlike(there: Endpoint, step: MakeEndpoint | ChangeEndpoint) -> tuple[Change, ...]:
    return endpoint_changes(there.settings, step.wish.settings)
