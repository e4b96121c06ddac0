"""`gpudrop deploy`: templates and endpoints on RunPod, made from config.yaml."""

from __future__ import annotations

from rich.console import Console

from listener.configuration.config import Config
from listener.configuration.environment import Environment
from listener.deploy.api import management
from listener.deploy.applying import Done, carry_out
from listener.deploy.planning import ChangeEndpoint, MakeEndpoint, Settled, plan
from listener.deploy.telling import Teller, named
from listener.deploy.wishes import odd_about, wishes_of
from manifests.errors import GpuDropError


async def deploy(config: Config, environment: Environment, console: Console, *, only: str, apply: bool) -> int:
    """Shows what differs, and with `apply` makes it so. Raises GpuDropError; what was done before that stays."""
    teller = Teller(console)
    wishes = wishes_of(config, only)
    teller.notes(odd_about(config, wishes))
    async with management(config.runpod, environment.runpod_key) as api:
        settled = plan(wishes, await api.account())
        for each in settled:
            teller.settled(each)
        if not any(each.steps for each in settled):
            teller.say("nothing to do")
        elif not apply:
            teller.say("Nothing was changed; `gpudrop deploy --apply` does this.")
            return 0
        done: list[Done] = []

        def tell(step: Done) -> None:
            done.append(step)
            teller.done(step)

        try:
            await carry_out(settled, api, tell)
        except GpuDropError:
            _tell_half(teller, settled, done)
            raise
    _tell_where(teller, settled, done)
    return 0


def _tell_half(teller: Teller, settled: tuple[Settled, ...], done: list[Done]) -> None:
    left = [step for each in settled for step in each.steps][len(done) :]
    teller.say(f"Stopped after {len(done)} of {len(done) + len(left)} steps; what was done stays.", mark="!")
    for number, step in enumerate(left):
        teller.say(f"  {'failed' if number == 0 else 'not begun'}: {named(step)}", mark="!")
    teller.say("Run it again once the cause is mended: it goes on from what is there.")


def _tell_where(teller: Teller, settled: tuple[Settled, ...], done: list[Done]) -> None:
    made = {each.step.wish.named: each.id for each in done if isinstance(each.step, MakeEndpoint | ChangeEndpoint)}
    for each in settled:
        if id := made.get(each.wish.named, each.id):
            teller.where(each, id)
