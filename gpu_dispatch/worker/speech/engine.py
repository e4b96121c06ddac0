"""What a speech engine is, and the codes of the languages that Whisper knows."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gpu_dispatch.task import Segment
from gpu_dispatch.worker.speech.models import ModelStore
from manifests.errors import (
    EngineUnavailable,
    GpuDropError,
    LanguageUnsupported,
    ModelUnavailable,
    WorkerCrashed,
    WorkerError,
)
from manifests.options import RecognitionOptions

SAMPLE_RATE = 16_000
"""Samples a second, everywhere in this package; Whisper knows no other."""

Samples = NDArray[np.float32]
"""One channel at SAMPLE_RATE, from -1 to 1."""

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class RecognisedSegment:
    """A language by Whisper's code, with a probability from 0 to 1."""

    language: str
    probability: float


@dataclass(frozen=True, slots=True)
class RecognitionRequest:
    """How to recognise one block of sound. `prompt` is what was said before it, or the user's own prompt."""

    options: RecognitionOptions
    language: str
    prompt: str | None
    heard: Callable[[float], None]
    """Called every few seconds of sound with the seconds of the block that are done. Raises to make the engine stop."""


class Recognizer(Protocol):
    """A model in memory. Used by one thread at a time."""

    @property
    def device(self) -> Device: ...

    @property
    def languages(self) -> frozenset[str]:
        """Codes the model understands; {"en"} for an English-only one."""
        ...

    def detect(self, audio: Samples) -> RecognisedSegment:
        """The language spoken in the first 30 s of `audio`."""
        ...

    def recognise(self, audio: Samples, request: RecognitionRequest) -> list[Segment]:
        """Segments with times in seconds from the start of `audio`, as the model gives them."""
        ...

    def close(self) -> None:
        """Gives the memory back; the recognizer is unusable afterwards."""
        ...


class SpeechEngine(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that must be installed; the first one's distribution carries the engine's version."""
        ...

    @property
    def remedy(self) -> str:
        """The command that installs the engine."""
        ...

    def find(self, store: ModelStore, model: str) -> Path | None:
        """Where `model` lies on this machine."""
        ...

    def can_fetch(self, model: str) -> bool:
        """Whether the engine's makers publish `model`."""
        ...

    def fetch(self, store: ModelStore, model: str) -> Path:
        """Downloads `model`; raises ModelUnavailable."""
        ...

    def load(self, path: Path, model: str, device: Device) -> Recognizer:
        """Raises ModelUnavailable when `path` holds no usable model."""
        ...

    def devices(self) -> tuple[Device, ...]:
        """What this machine offers the engine, the fastest first. Raises EngineUnavailable."""
        ...


def import_module(name: str, *, engine: str, remedy: str) -> Any:
    """A vendor's module, imported when it is needed: that takes seconds. Raises EngineUnavailable with `remedy`."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as e:  # OSError: a shared library that the module needs is missing
        raise EngineUnavailable(f"The speech engine {engine} cannot be used here: {e}.", hint=f"Run: {remedy}") from e


def engine_failure(error: Exception, *, engine: str, device: Device) -> GpuDropError:
    """What an engine's own exception means to us. The caller raises it `from` the cause."""
    text = " ".join(str(error).split())[:500]
    if "out of memory" in text.lower():
        return WorkerCrashed(
            f"{engine} ran out of memory on {device}.", hint="Take a smaller model or a machine with more memory."
        )
    if any(word in text.lower() for word in ("cublas", "cudnn", "cuda driver", "no kernel image")):
        return EngineUnavailable(
            f"{engine} cannot use the GPU: {text}.",
            hint="Match the CUDA and cuDNN libraries of the image to the driver.",
        )
    return WorkerError(f"{engine} failed: {text}.", hint="The worker's log holds the details.")


def load_failure(error: Exception, damaged: ModelUnavailable, *, engine: str, device: Device) -> GpuDropError:
    """What a model that could not be loaded means: `damaged`, unless the engine or the machine is to blame."""
    translated = engine_failure(error, engine=engine, device=device)
    return damaged if translated.info.code == WorkerError.code else translated


UNDETERMINED = "und"
"""ISO 639's code for a recording in which nobody speaks."""

_OTHER_NAMES = {
    "cmn": "zh",
    "fil": "tl",
    "iw": "he",
    "jv": "jw",
    "nb": "no",
    "zh-hk": "yue",
}


def whisper_code(tag: str, known: Set[str], *, model: str) -> str:
    """The code for a tag such as "pt", "pt-BR" or "EN"; raises LanguageUnsupported when `model` lacks it."""
    tag = tag.lower()
    primary = tag.split("-")[0]
    for code in (_OTHER_NAMES.get(tag, primary), primary, _OTHER_NAMES.get(primary, primary)):
        if code in known:
            return code
    if known == {"en"}:
        message = f"The model {model!r} understands English only, not {tag!r}."
        hint = "Take a model without '.en' in its name, or language: en."
    else:
        message = f"The model {model!r} does not know the language {tag!r}."
        hint = "Use a two-letter code such as en, es or pt, or omit it to have the language detected."
    raise LanguageUnsupported(message, hint=hint, where="language")
