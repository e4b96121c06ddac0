"""Finds models in the model folder or at configured paths; engines have caches of their own.

MODEL_DIR/tiny.en/model.bin     a CTranslate2 model, for faster-whisper; MODEL_DIR may also be that folder itself
MODEL_DIR/tiny.en.pt            a checkpoint of openai-whisper
MODEL_DIR/whisper-tiny.en/      a checkpoint of Hugging Face, for transformers, also as tiny.en/ or distil-large-v3/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gpu_dispatch.speech_names import DISTILLED as DISTILLED
from gpu_dispatch.speech_names import PUBLISHED as PUBLISHED
from gpu_dispatch.speech_names import SAME_MODELS
from manifests.errors import ModelUnavailable

PREFIX = "whisper-"
"""Begins the names of Whisper's repositories on Hugging Face's hub, and of their copies."""

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


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

    def transformers_folder(self, model: str) -> Path | None:
        """Returns the folder of a checkpoint in Hugging Face's format."""
        names = (own for name in model_names(model) for own in (name, f"{PREFIX}{name}"))
        places = (path for name in names for path in self._places(name, ""))
        return next((path for path in places if _is_transformers(path)), None)

    def transformers_folders(self) -> tuple[str, ...]:
        """Returns the names of the checkpoints in Hugging Face's format, without PREFIX."""
        own = [self.model_dir, *self._inside()] if self.model_dir else []
        names = [path.name.removeprefix(PREFIX) for path in own if _is_transformers(path)]
        return _names(names, [name for name, path in self.extra.items() if _is_transformers(path)])

    def names(self) -> tuple[str, ...]:
        """Returns the names of all models here, of every engine."""
        return _names(self.folders(), self.checkpoints(), self.transformers_folders())

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
        hint = (
            "Set GPUDROP_MODEL_DIR to a folder that holds the model, as NAME/model.bin, NAME.pt or"
            " whisper-NAME/model.safetensors."
        )
    return ModelUnavailable(f"The speech model {model!r} is not available. {reason}", hint=hint, retryable=retryable)


def _is_folder(path: Path) -> bool:
    return (path / "model.bin").is_file()


def _is_transformers(path: Path) -> bool:
    return (path / "config.json").is_file() and any((path / name).is_file() for name in _WEIGHTS)


def _is_checkpoint(path: Path) -> bool:
    return path.suffix == ".pt" and path.is_file()


def _names(*groups: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name for group in groups for name in group}))
