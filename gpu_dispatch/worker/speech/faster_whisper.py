"""The engine faster-whisper: Whisper on CTranslate2. It is the default: several times faster on a CPU, and small."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gpu_dispatch.task import Segment
from gpu_dispatch.worker.speech.engine import (
    SAMPLE_RATE,
    Device,
    RecognitionRequest,
    Recognizer,
    Samples,
    SpokenLanguage,
    engine_failure,
    import_module,
    load_failure,
)
from gpu_dispatch.worker.speech.forced_alignment import (
    ALIGNABLE_FRAMES,
    FORCED_TOKENS,
    ForcedWord,
    forced_words,
    frame_times,
    sayable,
)
from gpu_dispatch.worker.speech.models import DISTILLED, PUBLISHED, ModelStore, model_unavailable
from gpu_dispatch.worker.speech.whisper import arguments, segment_of
from manifests.errors import ModelUnavailable

NAME = "faster-whisper"
REMEDY = "pip install faster-whisper"
_MODULE = "faster_whisper"

COMPUTE_TYPES: dict[Device, tuple[str, ...]] = {"cuda": ("float16", "int8"), "cpu": ("int8",)}
"""In order of preference; where the device supports none, "default" keeps the weights' own type."""


@dataclass(frozen=True, slots=True)
class FasterWhisper:
    """The engine faster-whisper as a SpeechEngine."""

    threads: int = 0
    """CPU threads; 0: CTranslate2 decides (all cores, at most 4)."""
    name: str = NAME
    modules: tuple[str, ...] = (_MODULE, "ctranslate2")
    remedy: str = REMEDY

    def find(self, store: ModelStore, model: str) -> Path | None:
        return store.folder(model) or self._cached(store, model)

    def can_fetch(self, model: str) -> bool:
        return model in PUBLISHED or model in DISTILLED

    def fetch(self, store: ModelStore, model: str) -> Path:
        hub_error = _vendor("huggingface_hub.errors").HTTPError
        try:
            return Path(_vendor(_MODULE).download_model(model, cache_dir=_text(store.download_dir)))
        except (OSError, ValueError, RuntimeError, hub_error) as e:
            raise model_unavailable(model, f"Its download failed: {_short(e)}.", store.folders(), retryable=True) from e

    def load(self, path: Path, model: str, device: Device) -> Recognizer:
        module, ctranslate2 = _vendor(_MODULE), _vendor("ctranslate2")
        if not (path / "tokenizer.json").is_file():  # faster-whisper would look for one on the model hub
            raise _incomplete(model, path, "it has no tokenizer.json")
        # Makes a new process sample the same words for the same sound at temperatures above 0.
        ctranslate2.set_random_seed(0)
        supported = ctranslate2.get_supported_compute_types(device)
        kind = next((t for t in COMPUTE_TYPES[device] if t in supported), "default")
        try:
            loaded = module.WhisperModel(str(path), device=device, compute_type=kind, cpu_threads=self.threads)
        except (RuntimeError, ValueError, OSError) as e:
            raise load_failure(e, _incomplete(model, path, _short(e)), engine=NAME, device=device) from e
        return FasterRecognizer(loaded, device)

    def devices(self) -> tuple[Device, ...]:
        return ("cuda", "cpu") if _vendor("ctranslate2").get_cuda_device_count() > 0 else ("cpu",)

    def _cached(self, store: ModelStore, model: str) -> Path | None:
        """Returns the model's path in the hub's cache, without a request to the hub at every start."""
        if not self.can_fetch(model):
            return None
        try:
            found = _vendor(_MODULE).download_model(model, local_files_only=True, cache_dir=_text(store.download_dir))
        except OSError:
            return None
        return Path(found)


class FasterRecognizer:
    def __init__(self, model: Any, device: Device) -> None:
        self._model = model
        model.find_alignment = partial(_alignment, model.find_alignment)
        self._encoded: tuple[Samples, Any, int] | None = None
        self.device: Device = device
        self.languages = frozenset[str](model.supported_languages)

    def detect(self, audio: Samples) -> tuple[SpokenLanguage, ...]:
        if not self._model.model.is_multilingual:
            return (SpokenLanguage("en", 1.0),)
        try:
            _, _, found = self._model.detect_language(audio[: 30 * SAMPLE_RATE])
        except (RuntimeError, ValueError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e
        return tuple(SpokenLanguage(language, float(chance)) for language, chance in found)

    def recognise(self, audio: Samples, request: RecognitionRequest) -> list[Segment]:
        found: list[Segment] = []
        try:
            segments, _ = self._model.transcribe(audio, **self._options(request))
            for segment in segments:
                found.append(segment_of(segment, getattr))
                request.on_progress(float(segment.end))
        except (RuntimeError, ValueError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e
        return found

    def align(self, audio: Samples, text: str, language: str) -> tuple[ForcedWord, ...]:
        made = _vendor("faster_whisper.tokenizer").Tokenizer
        multilingual = self._model.model.is_multilingual
        tokenizer = made(self._model.hf_tokenizer, multilingual, task="transcribe", language=language)
        tokens: list[int] = tokenizer.encode(sayable(text))
        try:
            encoded, frames = self._encode(audio)
            if not tokens or len(tokens) > FORCED_TOKENS or frames < ALIGNABLE_FRAMES:
                return ()
            (found,) = self._model.model.align(encoded, tokenizer.sot_sequence, [tokens], frames)
        except (RuntimeError, ValueError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e
        texts, parts = tokenizer.split_to_word_tokens([*tokens, tokenizer.eot])
        likely = np.log(np.maximum(np.array(found.text_token_probs), 1e-12)).tolist()
        sizes = [len(part) for part in parts[:-1]]
        return forced_words(texts[:-1], sizes, frame_times(found.alignments, sizes), likely)

    def close(self) -> None:
        self._encoded = None
        self._model.model.unload_model()

    def _encode(self, audio: Samples) -> tuple[Any, int]:
        """Returns the encoder's output and its valid frames of 10 ms; the last result is kept."""
        if self._encoded is None or self._encoded[0] is not audio:
            features = self._model.feature_extractor(audio)[:, : self._model.feature_extractor.nb_max_frames]
            # The features end with a frame that `transcribe` leaves out, too.
            frames = len(audio) // self._model.feature_extractor.hop_length
            window = _vendor("faster_whisper.audio").pad_or_trim(features[:, :frames])
            self._encoded = (audio, self._model.encode(window) if frames else None, frames)
        return self._encoded[1], self._encoded[2]

    def _options(self, request: RecognitionRequest) -> dict[str, Any]:
        penalty = request.options.length_penalty
        return {
            **arguments(
                request,
                multilingual=self._model.model.is_multilingual,
                vocabulary=self._model.hf_tokenizer.get_vocab_size(),
            ),
            "length_penalty": 1.0 if penalty is None else penalty,
            "log_prob_threshold": request.options.logprob_threshold,
            "hotwords": request.options.hotwords,
        }


def _alignment(
    find: Callable[..., list[list[Any]]], tokenizer: Any, tokens: Sequence[Any], encoded: Any, frames: int, *more: Any
) -> list[list[Any]]:
    """Aligns the texts `tokens` to words with `find`; returns no words where the window is too short."""
    if frames < ALIGNABLE_FRAMES:
        return [[] for _ in tokens]
    return find(tokenizer, tokens, encoded, frames, *more)


def _vendor(module: str) -> Any:
    return import_module(module, engine=NAME, remedy=REMEDY)


def _incomplete(model: str, path: Path, reason: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"The speech model {model!r} cannot be loaded: {reason}.",
        hint="Replace it with a complete CTranslate2 model (model.bin, config.json, tokenizer.json, vocabulary).",
        where=str(path),
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _short(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip(". ")[:300]
