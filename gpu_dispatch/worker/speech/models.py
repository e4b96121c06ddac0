"""Finds models in the model folder or at configured paths; engines have caches of their own.

MODEL_DIR/tiny.en/model.bin     a CTranslate2 model, for faster-whisper; MODEL_DIR may also be that folder itself
MODEL_DIR/tiny.en.pt            a checkpoint of openai-whisper
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gpu_dispatch.speech_names import SAME_MODELS
from manifests.errors import ModelUnavailable

_SIZES_IN_ENGLISH_TOO = ("tiny", "base", "small", "medium")
_LARGE = ("large", "large-v1", "large-v2", "large-v3", "large-v3-turbo", "turbo")

PUBLISHED = frozenset((*_SIZES_IN_ENGLISH_TOO, *(f"{size}.en" for size in _SIZES_IN_ENGLISH_TOO), *_LARGE))
"""Whisper's models, published for every engine."""

_DISTILLED_OF = ("small.en", "medium.en", "large-v2", "large-v3", "large-v3.5")

DISTILLED = frozenset(f"distil-{teacher}" for teacher in _DISTILLED_OF)
"""Published for faster-whisper only."""


def model_names(model: str) -> tuple[str, ...]:
    """Returns all names of one model, `model` first: "turbo" is also "large-v3-turbo"."""
    for names in SAME_MODELS:
        if model in names:
            return (model, *(name for name in names if name != model))
    return (model,)


@dataclass(frozen=True, slots=True)
class ModelStore:
    """The models on this machine; `extra` and `model_dir` come before every cache and download."""

    model_dir: Path | None = None
    extra: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """A model's name to its folder or checkpoint."""
    allow_download: bool = True
    download_dir: Path | None = None
    """Where engines store downloads; None: in their own caches."""

    def folder(self, model: str) -> Path | None:
        """Returns the folder of a CTranslate2 model."""
        return next((path for name in model_names(model) for path in self._places(name, "") if _is_folder(path)), None)

    def checkpoint(self, model: str) -> Path | None:
        """Returns the path of an openai-whisper checkpoint."""
        found = (path for name in model_names(model) for path in self._places(name, ".pt") if _is_checkpoint(path))
        return next(found, None)

    def folders(self) -> tuple[str, ...]:
        """Returns the names of the CTranslate2 models."""
        own = [self.model_dir, *self._inside()] if self.model_dir else []
        return _names([p.name for p in own if _is_folder(p)], [k for k, p in self.extra.items() if _is_folder(p)])

    def checkpoints(self) -> tuple[str, ...]:
        """Returns the names of the checkpoints."""
        own = [path.stem for path in self._inside() if _is_checkpoint(path)]
        return _names(own, [name for name, path in self.extra.items() if _is_checkpoint(path)])

    def _places(self, name: str, suffix: str) -> Iterable[Path]:
        if name in self.extra:
            yield self.extra[name]
        if self.model_dir is None or Path(name).name != name:
            return
        yield self.model_dir / (name + suffix)
        if not suffix and self.model_dir.name == name:
            yield self.model_dir

    def _inside(self) -> list[Path]:
        return sorted(self.model_dir.iterdir()) if self.model_dir and self.model_dir.is_dir() else []


def model_unavailable(model: str, reason: str, local: Iterable[str], *, retryable: bool = False) -> ModelUnavailable:
    """Returns the error for an unavailable model; `reason` is a sentence, `local` names models on this machine."""
    names = ", ".join(local)
    if names:
        hint = f"Models on this machine: {names}. For others, set GPUDROP_MODEL_DIR to a folder that holds them."
    else:
        hint = "Set GPUDROP_MODEL_DIR to a folder that holds the model, as NAME/model.bin or NAME.pt."
    return ModelUnavailable(f"The speech model {model!r} is not available. {reason}", hint=hint, retryable=retryable)


def _is_folder(path: Path) -> bool:
    return (path / "model.bin").is_file()


def _is_checkpoint(path: Path) -> bool:
    return path.suffix == ".pt" and path.is_file()


def _names(*groups: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name for group in groups for name in group}))
