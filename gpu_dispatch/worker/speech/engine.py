"""The interfaces of a speech engine, the translation of its errors, and Whisper's language codes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gpu_dispatch.speech_names import language_candidates
from gpu_dispatch.transcript import Segment
from gpu_dispatch.worker.speech.forced_alignment import ForcedWord
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
"""Samples a second in this package; Whisper takes no other rate."""

Samples = NDArray[np.float32]
"""One channel at SAMPLE_RATE, from -1 to 1."""

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class SpokenLanguage:
    """A language, and how probable it is that it is spoken."""

    language: str
    """Whisper's code."""
    probability: float
    """From 0 to 1."""


@dataclass(frozen=True, slots=True)
class RecognitionRequest:
    """How to recognise one block of sound."""

    options: RecognitionOptions
    language: str
    prompt: str | None
    """The text before the block, or the user's own prompt."""
    on_progress: Callable[[float], None]
    """Called every few seconds of sound with the seconds of the block that are done. Raises to make the engine stop."""


class Recognizer(Protocol):
    """A loaded model, used by one thread at a time."""

    @property
    def device(self) -> Device: ...

    @property
    def languages(self) -> frozenset[str]:
        """Codes of the model's languages; {"en"} for an English-only one."""
        ...

    def detect(self, audio: Samples) -> tuple[SpokenLanguage, ...]:
        """Returns every language of the model for the first 30 s of `audio`, the most probable one first."""
        ...

    def recognise(self, audio: Samples, request: RecognitionRequest) -> list[Segment]:
        """Returns the model's segments, with times in seconds from the start of `audio`."""
        ...

    def align(self, audio: Samples, text: str, language: str) -> tuple[ForcedWord, ...]:
        """Lays `text` on `audio` of at most FORCED_AUDIO_S, whatever is said there; times rise.

        Returns () for sound too short to align and for a text of more than FORCED_TOKENS. Further texts for the same
        array cost no further encoding.
        """
        ...

    def close(self) -> None:
        """Releases the memory; the recognizer is unusable afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class WindowReading:
    """What a model says in one window of at most 30 s."""

    segments: tuple[Segment, ...]
    """Sentences with words, with times in seconds from the start of the window."""
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


@runtime_checkable
class BatchRecognizer(Recognizer, Protocol):
    """A recognizer that can decode several windows at once."""

    def windows_at_once(self, options: RecognitionOptions) -> int:
        """Returns how many windows fit into the memory that is free now, at least 1."""
        ...

    def recognise_together(self, windows: Sequence[Samples], request: RecognitionRequest) -> list[WindowReading]:
        """Decodes each window, of at most 30 s, at the first temperature only; `request.prompt` is not shown.

        Raises WorkerCrashed when memory runs out; fewer windows may then work.
        """
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
        """Returns the path of `model` on this machine; None when it is not there."""
        ...

    def can_fetch(self, model: str) -> bool:
        """Whether the engine can download `model`."""
        ...

    def fetch(self, store: ModelStore, model: str) -> Path:
        """Downloads `model` and returns its path. Raises ModelUnavailable."""
        ...

    def load(self, path: Path, model: str, device: Device) -> Recognizer:
        """Loads the model at `path`. Raises ModelUnavailable when it is unusable."""
        ...

    def devices(self) -> tuple[Device, ...]:
        """Returns the devices that the engine can use, the fastest first. Raises EngineUnavailable."""
        ...


OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc", "bad allocation")
"""Words of CUDA, PyTorch and C++ for it."""


def import_module(name: str, *, engine: str, remedy: str) -> Any:
    """Imports a vendor's module, which takes seconds. Raises EngineUnavailable with `remedy`."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as e:  # OSError: a shared library that the module needs is missing
        raise EngineUnavailable(f"The speech engine {engine} cannot be used here: {e}.", hint=f"Run: {remedy}") from e


def engine_failure(error: Exception, *, engine: str, device: Device) -> GpuDropError:
    """Translates an engine's exception; the caller raises the result `from` it."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, MemoryError) or any(word in text.lower() for word in OUT_OF_MEMORY):
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
    """Translates a failed load: `damaged`, unless the engine or the machine caused it."""
    translated = engine_failure(error, engine=engine, device=device)
    return damaged if translated.info.code == WorkerError.code else translated


def whisper_code(tag: str, known: Set[str], *, model: str) -> str:
    """Returns Whisper's code for a tag such as "pt-BR" or "EN". Raises LanguageUnsupported when `model` lacks it."""
    for code in language_candidates(tag):
        if code in known:
            return code
    if known == {"en"}:
        message = f"The model {model!r} understands English only, not {tag!r}."
        hint = "Take a model without '.en' in its name, or language: en."
    else:
        message = f"The model {model!r} does not know the language {tag!r}."
        hint = "Use a two-letter code such as en, es or pt, or omit it to have the language detected."
    raise LanguageUnsupported(message, hint=hint, where="language")
