"""The speech models that a drop may name: published ones, and those of the machines of this installation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpu_dispatch.speech_names import DISTILLED, PUBLISHED
from gpu_dispatch.speech_options import check_model
from gpu_dispatch.task import TaskParams, TranscribeParams
from handlers.base import Plan
from listener.config.config import Config
from listener.config.endpoints import RunPodEndpointConfig
from listener.config.environment import Environment

REPOSITORY_PREFIX = "whisper-"
"""Begins the names of folders with checkpoints of Hugging Face; "whisper-tiny" is asked for as tiny."""


@dataclass(frozen=True, slots=True)
class SpeechModels:
    """Names of models beside the published ones."""

    folder: Path | None = None
    """This machine's folder of models. It is listed anew each time: a model may be put there at any moment."""
    named: frozenset[str] = frozenset()
    """Names in the configuration."""
    elsewhere: bool = True
    """Whether machines may have models that the configuration does not name."""

    def own(self) -> frozenset[str]:
        """Returns the names beside the published ones. Lists the folder."""
        return self.named | frozenset(_names_in(self.folder) if self.folder else ())

    def check(self, model: str) -> None:
        """Raises ModelUnavailable with the nearest name for one that no machine can have. May list the folder."""
        if model not in PUBLISHED and model not in DISTILLED and model not in self.named:
            check_model(model, self.own(), elsewhere=self.elsewhere)

    def check_tasks(self, tasks: Iterable[TaskParams]) -> None:
        """Raises ModelUnavailable as `check` does."""
        for model in dict.fromkeys(params.model for params in tasks if isinstance(params, TranscribeParams)):
            self.check(model)

    def check_plan(self, plan: Plan) -> None:
        """Raises ModelUnavailable as `check` does."""
        self.check_tasks(task.params for task in plan.tasks)


def speech_models(config: Config, environment: Environment) -> SpeechModels:
    there = [each for each in config.endpoints if isinstance(each, RunPodEndpointConfig)]
    named = (name for each in there for name in each.models or ())
    return SpeechModels(
        environment.model_dir or config.local.model_dir,
        frozenset((*config.local.models, *named)),
        elsewhere=any(each.models is None and "whisper" in each.capabilities for each in there),
    )


def _names_in(folder: Path) -> Iterator[str]:
    yield folder.name  # it may be a model itself
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        name = entry.name.removesuffix(".pt")
        yield name
        yield name.removeprefix(REPOSITORY_PREFIX)
