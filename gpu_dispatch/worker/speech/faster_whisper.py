"""The engine faster-whisper: Whisper on CTranslate2. It is the default: several times faster on a CPU, and small."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gpu_dispatch.transcript import Segment
from gpu_dispatch.worker.speech.engine import (
    SAMPLE_RATE,
    Device,
    RecognitionRequest,
    Recognizer,
    Samples,
    SpokenLanguage,
    WindowReading,
    engine_failure,
    import_module,
    load_failure,
)
from gpu_dispatch.worker.speech.faster_alignment import FasterAligner
from gpu_dispatch.worker.speech.forced_alignment import ALIGNABLE_FRAMES, ForcedWord
from gpu_dispatch.worker.speech.memory import windows_at_once
from gpu_dispatch.worker.speech.models import DISTILLED, PUBLISHED, ModelStore, model_unavailable
from gpu_dispatch.worker.speech.whisper import (
    APPENDED,
    PREPENDED,
    Decoded,
    arguments,
    hypotheses,
    segment_of,
    sentences,
)
from manifests.errors import ModelUnavailable
from manifests.options import RecognitionOptions

NAME = "faster-whisper"
REMEDY = "pip install faster-whisper"
_MODULE = "faster_whisper"

COMPUTE_TYPES: dict[Device, tuple[str, ...]] = {"cuda": ("float16", "int8"), "cpu": ("int8",)}
"""In order of preference."""


def compute_type(device: Device, supported: Set[str]) -> str:
    """Returns the fastest kind of numbers that `device` computes with; "default" keeps the weights' own."""
    return next((kind for kind in COMPUTE_TYPES[device] if kind in supported), "default")


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
        kind = compute_type(device, supported)
        try:
            loaded = module.WhisperModel(str(path), device=device, compute_type=kind, cpu_threads=self.threads)
        except (RuntimeError, ValueError, MemoryError, OSError) as e:
            raise load_failure(e, _incomplete(model, path, _short(e)), engine=NAME, device=device) from e
        return FasterRecognizer(loaded, device, (path / "model.bin").stat().st_size)

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
    def __init__(self, model: Any, device: Device, weights: int) -> None:
        """`weights` is the model's size in bytes."""
        self._model = model
        self._weights = weights
        model.find_alignment = partial(_alignment, model.find_alignment)
        self._aligner = FasterAligner(model)
        self.device: Device = device
        self.languages = frozenset[str](model.supported_languages)

    def detect(self, audio: Samples) -> tuple[SpokenLanguage, ...]:
        if not self._model.model.is_multilingual:
            return (SpokenLanguage("en", 1.0),)
        try:
            _, _, found = self._model.detect_language(audio[: 30 * SAMPLE_RATE])
        except (RuntimeError, ValueError, MemoryError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e
        return tuple(SpokenLanguage(language, float(chance)) for language, chance in found)

    def recognise(self, audio: Samples, request: RecognitionRequest) -> list[Segment]:
        found: list[Segment] = []
        try:
            segments, _ = self._model.transcribe(audio, **self._options(request))
            for segment in segments:
                found.append(segment_of(segment, getattr))
                request.on_progress(float(segment.end))
        except (RuntimeError, ValueError, MemoryError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e
        return found

    def align(self, audio: Samples, text: str, language: str) -> tuple[ForcedWord, ...]:
        try:
            return self._aligner.align(audio, text, language)
        except (RuntimeError, ValueError, MemoryError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e

    def windows_at_once(self, options: RecognitionOptions) -> int:
        return windows_at_once(self._weights, hypotheses(options), self.device)

    def recognise_together(self, windows: Sequence[Samples], request: RecognitionRequest) -> list[WindowReading]:
        try:
            return self._together(windows, request)
        except (RuntimeError, ValueError, MemoryError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e

    def close(self) -> None:
        self._model.model.unload_model()

    def _together(self, windows: Sequence[Samples], request: RecognitionRequest) -> list[WindowReading]:
        vendor, model, options = _vendor("faster_whisper.transcribe"), self._model, self._options(request)
        tokenizer = vendor.Tokenizer(
            model.hf_tokenizer, model.model.is_multilingual, task=options["task"], language=request.language
        )
        features = [model.feature_extractor(window)[..., :-1] for window in windows]
        encoded = self._encode([vendor.pad_or_trim(each) for each in features], request)
        # Without time tokens no text is lost behind the last one; the alignment gives the times.
        prompt = model.get_prompt(tokenizer, [], without_timestamps=True, hotwords=options["hotwords"])
        suppressed = options["suppress_tokens"]
        results = model.model.generate(
            _storage(np.concatenate(encoded)),
            [prompt] * len(windows),
            length_penalty=options["length_penalty"],
            max_length=model.max_length,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=suppressed and vendor.get_suppressed_tokens(tokenizer, suppressed),
            **_search(request.options),
        )
        readings: list[WindowReading] = []
        for each, row, result in zip(features, encoded, results, strict=True):
            decoded = _decoded(result, tokenizer, options)
            if decoded.sentences:  # aligned one by one: several at once take 50 MB each with the smallest model
                told, frames = [decoded.sentences], each.shape[-1]
                model.add_word_timestamps(told, tokenizer, _storage(row), frames, PREPENDED, APPENDED, 0.0)
            readings.append(decoded.reading())
        return readings

    def _encode(self, windows: Sequence[Any], request: RecognitionRequest) -> list[Any]:
        """Encodes spectrograms; on a CPU one by one, which takes the memory of one and no more time."""
        batches = [np.stack(windows)] if self.device == "cuda" else [window[np.newaxis] for window in windows]
        encoded: list[Any] = []
        for batch in batches:
            request.on_progress(0.0)
            encoded.append(np.array(self._model.model.encode(_storage(batch), to_cpu=True)))
        return list(np.concatenate(encoded)[:, np.newaxis])

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


def _storage(array: Any) -> Any:
    return _vendor("ctranslate2").StorageView.from_array(np.ascontiguousarray(array))


def _search(options: RecognitionOptions) -> dict[str, Any]:
    """Returns CTranslate2's options for the first temperature."""
    temperature = options.temperature[0]
    if temperature == 0:
        return {"beam_size": options.beam_size, "patience": max(options.patience, 1 / options.beam_size)}
    return {
        "beam_size": 1,
        "num_hypotheses": options.best_of,
        "sampling_topk": 0,
        "sampling_temperature": temperature,
    }


def _decoded(result: Any, tokenizer: Any, options: dict[str, Any]) -> Decoded:
    tokens = result.sequences_ids[0]
    # CTranslate2 divides a hypothesis's log probability by its length, without its last token.
    total = result.scores[0] * len(tokens) ** options["length_penalty"]
    return Decoded(
        text=tokenizer.decode(tokens),
        sentences=list(sentences(tokens, tokenizer)),
        temperature=options["temperature"][0],
        avg_logprob=float(total / (len(tokens) + 1)),
        no_speech_prob=float(result.no_speech_prob),
    )


def _alignment(
    find: Callable[..., list[list[Any]]],
    tokenizer: Any,
    tokens: Sequence[Any],
    encoded: Any,
    frames: int,
    *more: Any,
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
