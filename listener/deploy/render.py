"""Renders plans and their results as lines for people and logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from gpu_dispatch.runpod.account import Container, EndpointSettings
from listener.deploy.desired import DesiredEndpoint
from listener.deploy.execution import AppliedChange
from listener.deploy.plan import (
    NOTHING,
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

_STYLES = {"+": "green", "~": "yellow", "!": "yellow", "=": "dim"}

_BARE = Container(image="", disk_gb=0)


class PlanRenderer:
    """Prints lines that are never cut or wrapped, without colour where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str, *, mark: str = "") -> None:
        self._console.print(Text(text, style=_STYLES.get(mark, "")), soft_wrap=True)

    def notes(self, notes: Sequence[str]) -> None:
        for note in notes:
            self.say(f"! {note}", mark="!")

    def settled(self, settled: SettledEndpoint) -> None:
        desired = settled.desired
        self.say(f"{desired.named} ({desired.settings.name}{f', {settled.id}' if settled.id else ''}): {cost(desired)}")
        for step in settled.steps:
            for line in plan_difference(step):
                self.say(f"  {line}", mark=line[0])
        if not settled.steps:
            self.say("  nothing to do")

    def done(self, done: AppliedChange) -> None:
        self.say(f"done: {named(done.step)} ({done.id})")
        for change in done.unlike:
            self.say(f"  ! RunPod keeps {change.what} {change.before}, though it was told {change.after}", mark="!")

    def where(self, settled: SettledEndpoint, id: str) -> None:
        """Prints the endpoint's id, and what config.yaml may say of it."""
        desired = settled.desired
        found = "as config.yaml says" if desired.id else f"found by its name; or write `id: {id}` in config.yaml"
        self.say(f"{desired.named}: endpoint {id}, {found}")


def named(step: Step) -> str:
    """ "make the template gpudrop-whisper" """
    name = step.desired.settings.name
    match step:
        case MakeTemplate():
            return f"make the template {name}"
        case ChangeTemplate():
            return f"change the template {name}"
        case MakeEndpoint():
            return f"make the endpoint {name}"
        case ChangeEndpoint():
            return f"change the endpoint {name}"


def plan_difference(step: Step) -> Iterator[str]:
    """ "+ make …" and every setting, or "~ change …" and every difference."""
    mark = "~" if isinstance(step, ChangeTemplate | ChangeEndpoint) else "+"
    yield f"{mark} {named(step)}"
    for change in _changes(step):
        value = change.after if change.before == NOTHING else f"{change.before} -> {change.after}"
        yield f"{mark}   {change.what}: {value}"


def cost(desired: DesiredEndpoint) -> str:
    """ "$0.00031/s a worker, at most $3.35 an hour (3 workers)" """
    workers = desired.settings.workers_max
    if desired.usd_per_s is None:
        return "price unknown (give `price` or `gpu`)"
    most = desired.usd_per_s * workers * 3600
    return f"${desired.usd_per_s:.10g}/s a worker, at most ${most:.2f} an hour ({workers} worker{'s'[: workers != 1]})"


def _changes(step: Step) -> Sequence[PlannedChange]:
    settings = step.desired.settings
    match step:
        case ChangeTemplate(changes=changes) | ChangeEndpoint(changes=changes):
            return changes
        case MakeTemplate():
            return [_new(change) for change in container_changes(_BARE, settings.container)]
        case MakeEndpoint():
            return [_new(change) for change in endpoint_changes(_nothing(settings), settings)]


def _new(change: PlannedChange) -> PlannedChange:
    return PlannedChange(change.field, change.what, NOTHING, change.after)


def _nothing(settings: EndpointSettings) -> EndpointSettings:
    """Makes settings that differ from `settings` everywhere but in the container, which comes from the template."""
    return EndpointSettings(
        name="",
        container=settings.container,
        pools=(),
        excluded=frozenset(),
        workers_min=-1,
        workers_max=-1,
        idle_s=None,
        queue_delay_s=None,
        flashboot=not settings.flashboot,
        volumes=frozenset(),
        timeout_ms=-1,
    )
