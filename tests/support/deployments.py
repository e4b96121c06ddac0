"""An account on RunPod, and `gpudrop deploy` run against it."""

import io
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from listener.config.config import Config
from listener.config.environment import Environment, read_environment
from listener.config.loader import parse_config
from listener.deploy.command import deploy_endpoints
from manifests.errors import GpuDropError
from support.runpod.management import API_KEY, ManagedAccount

SECRET = "hf_averysecretvalue"


@dataclass
class Room:
    account: ManagedAccount
    key: str = API_KEY

    @property
    def environment(self) -> Environment:
        return read_environment({"RUNPOD_API_KEY": self.key})

    def config(self, *endpoints: dict[str, Any], **more: Any) -> Config:
        runpod = {"management": self.account.url} | more
        return parse_config({"runpod": runpod, "endpoints": endpoints or [whisper()]}, origin="config.yaml")

    async def deploy(self, config: Config | None = None, *, only: str = "", apply: bool = True) -> str:
        text, error = await self.attempt(config, only=only, apply=apply)
        if error:
            raise error
        return text

    async def attempt(
        self, config: Config | None = None, *, only: str = "", apply: bool = True
    ) -> tuple[str, GpuDropError | None]:
        """What was printed, and what went wrong."""
        out = io.StringIO()
        console = Console(file=out, width=80, highlight=False)
        error: GpuDropError | None = None
        try:
            code = await deploy_endpoints(config or self.config(), self.environment, console, only=only, apply=apply)
            assert code == 0
        except GpuDropError as e:
            error = e
        told = out.getvalue() + (f"{error} {error.info}" if error else "")
        assert API_KEY not in told and SECRET not in told
        return out.getvalue(), error


def whisper(name: str = "whisper", **deploy: Any) -> dict[str, Any]:
    wanted = {"image": "me/whisper:1", "gpus": ["ADA_24"]} | deploy
    return {"kind": "runpod", "name": name, "capabilities": ["whisper"], "deploy": wanted}
