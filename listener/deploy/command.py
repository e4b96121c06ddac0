"""`gpudrop deploy`: makes templates and endpoints on RunPod from config.yaml."""

from __future__ import annotations

from rich.console import Console

from listener.app.inspection import management_session
from listener.config.config import Config
from listener.config.environment import Environment
from listener.deploy.client import DeployClient
from listener.deploy.desired import desired_of, oddities_of
from listener.deploy.execution import AppliedChange, apply_plan
from listener.deploy.plan import ChangeEndpoint, MakeEndpoint, SettledEndpoint, plan_changes
from listener.deploy.render import PlanRenderer, named
from manifests.errors import GpuDropError


async def deploy_endpoints(
    config: Config, environment: Environment, console: Console, *, only: str, apply: bool
) -> int:
    """Shows the plan, and executes it with `apply`. Raises GpuDropError; steps done before that stay."""
    renderer = PlanRenderer(console)
    all_desired = desired_of(config, only)
    renderer.notes(oddities_of(config, all_desired))
    async with management_session(config.runpod, environment.runpod_key) as session:
        api = DeployClient(session)
        settled = plan_changes(all_desired, await api.account())
        for each in settled:
            renderer.settled(each)
        if not any(each.steps for each in settled):
            renderer.say("nothing to do")
        elif not apply:
            renderer.say("Nothing was changed; `gpudrop deploy --apply` does this.")
            return 0
        done: list[AppliedChange] = []

        def tell(step: AppliedChange) -> None:
            done.append(step)
            renderer.done(step)

        try:
            await apply_plan(settled, api, tell)
        except GpuDropError:
            _tell_half(renderer, settled, done)
            raise
    _tell_where(renderer, settled, done)
    return 0


def _tell_half(renderer: PlanRenderer, settled: tuple[SettledEndpoint, ...], done: list[AppliedChange]) -> None:
    left = [step for each in settled for step in each.steps][len(done) :]
    renderer.say(f"Stopped after {len(done)} of {len(done) + len(left)} steps; what was done stays.", mark="!")
    for number, step in enumerate(left):
        renderer.say(f"  {'failed' if number == 0 else 'not begun'}: {named(step)}", mark="!")
    renderer.say("Run it again once the cause is mended: it goes on from what is there.")


def _tell_where(renderer: PlanRenderer, settled: tuple[SettledEndpoint, ...], done: list[AppliedChange]) -> None:
    made = {each.step.desired.named: each.id for each in done if isinstance(each.step, MakeEndpoint | ChangeEndpoint)}
    for each in settled:
        if id := made.get(each.desired.named, each.id):
            renderer.where(each, id)
