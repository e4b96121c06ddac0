"""The registry of speech engines, the choice of one for a task, and the cache of the loaded model."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_dispatch.speech_options import lacking, options_refused
from gpu_dispatch.worker.speech.engine import Device, Recognizer, SpeechEngine
from gpu_dispatch.worker.speech.faster_whisper import FasterWhisper
from gpu_dispatch.worker.speech.models import ModelStore, model_unavailable
from gpu_dispatch.worker.speech.openai_whisper import OpenAIWhisper
from gpu_dispatch.worker.speech.transformers_whisper import TransformersWhisper
from manifests.errors import EngineUnavailable
from manifests.options import RecognitionOptions

ENGINES: tuple[SpeechEngine, ...] = (FasterWhisper(), OpenAIWhisper(), TransformersWhisper())
"""In order of preference."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine chosen for a model."""

    engine: SpeechEngine
    model: str
    path: Path | None
    """None: the model is still to be downloaded."""


def is_installed(engine: SpeechEngine) -> bool:
    return all(importlib.util.find_spec(module) for module in engine.modules)


def choose_engine(
    wanted: str | None,
    model: str,
    store: ModelStore,
    engines: Sequence[SpeechEngine] = ENGINES,
    options: RecognitionOptions | None = None,
) -> EngineChoice:
    """Chooses the first engine that has `model` on this machine, else the first that can download it.

    With `wanted`, only that engine is considered; engines that lack one of `options` are passed over. Raises
    EngineUnavailable, ModelUnavailable or OptionUnsupported. It may import an engine, which takes seconds.
    """
    installed = _able(_installed(wanted, engines), options)
    for engine in installed:
        if path := engine.find(store, model):
            return EngineChoice(engine, model, path)
    if store.allow_download:
        for engine in installed:
            if engine.can_fetch(model):
                return EngineChoice(engine, model, None)
    names = " nor ".join(engine.name for engine in installed)
    reason = f"{names} has no model of this name on this machine."
    raise model_unavailable(model, reason, store.names())


def _able(engines: Sequence[SpeechEngine], options: RecognitionOptions | None) -> list[SpeechEngine]:
    if options is None:
        return list(engines)
    refused = {engine.name: lacking(engine.name, options) for engine in engines}
    if able := [engine for engine in engines if not refused[engine.name]]:
        return able
    raise options_refused(" or ".join(refused), dict.fromkeys(name for names in refused.values() for name in names))


def _installed(wanted: str | None, engines: Sequence[SpeechEngine]) -> list[SpeechEngine]:
    candidates = [engine for engine in engines if wanted in (None, engine.name)]
    if not candidates:
        names = ", ".join(engine.name for engine in engines)
        raise EngineUnavailable(f"There is no speech engine {wanted!r}.", hint=f"Engines: {names}.", where="engine")
    found = [engine for engine in candidates if is_installed(engine)]
    if not found:
        names = " or ".join(engine.name for engine in candidates)
        raise EngineUnavailable(f"{names} is not installed here.", hint=f"Run: {candidates[0].remedy}")
    return found


class WarmModel:
    """Keeps the model of the last job in memory. Not thread-safe."""

    def __init__(self) -> None:
        self._key: tuple[str, str, Device] | None = None
        self._recognizer: Recognizer | None = None

    def get(self, choice: EngineChoice, store: ModelStore, device: Device) -> Recognizer:
        """Returns the loaded model, replacing another one. Raises what downloading and loading it raise."""
        key = (choice.engine.name, choice.model, device)
        if self._recognizer is not None and self._key == key:
            return self._recognizer
        self.release()
        path = choice.path or choice.engine.fetch(store, choice.model)
        self._recognizer = choice.engine.load(path, choice.model, device)
        self._key = key
        return self._recognizer

    def release(self) -> None:
        recognizer, self._recognizer, self._key = self._recognizer, None, None
        if recognizer is not None:
            recognizer.close()
