"""The engine transformers: Whisper checkpoints in Hugging Face's format, windows of up to 30 s decoded in batches."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_dispatch.speech_names import SAME_MODELS
from gpu_dispatch.transcript import Segment
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
from gpu_dispatch.worker.speech.forced_alignment import ForcedWord
from gpu_dispatch.worker.speech.models import DISTILLED, PUBLISHED, ModelStore, model_unavailable
from gpu_dispatch.worker.speech.pieces import cut_at_pauses
from gpu_dispatch.worker.speech.transformers_decoder import ENCODER_S, Decoder, SoundWindow
from manifests.errors import ModelUnavailable

NAME = "transformers"
REMEDY = "pip install 'gpudrop[transformers]'"

FILES = ("*.json", "*.txt", "model*.safetensors")
"""What is downloaded of a repository: weights as safetensors, not those of other frameworks."""

_NAMES_THERE = {"turbo": "large-v3-turbo", "large-v1": "large"}
"""Models that the hub calls otherwise than openai-whisper."""

SHORTEST_STEP_S = 1.0
"""A window is left by so much at least, however little of it the model finished: at most thirty decodings for one."""

SHORTEST_REST_S = 0.1
"""Less than this at the end of a window is not decoded again."""


@dataclass(frozen=True, slots=True)
class TransformersWhisper:
    name: str = NAME
    modules: tuple[str, ...] = (NAME, "torch", "faster_whisper")
    remedy: str = REMEDY

    def find(self, store: ModelStore, model: str) -> Path | None:
        return store.transformers_folder(model) or self._cached(store, model)

    def can_fetch(self, model: str) -> bool:
        return model in PUBLISHED or model in DISTILLED

    def fetch(self, store: ModelStore, model: str) -> Path:
        hub, hub_error = _vendor("huggingface_hub"), _vendor("huggingface_hub.errors").HTTPError
        try:
            found = hub.snapshot_download(repository(model), allow_patterns=FILES, cache_dir=store.download_dir)
        except (OSError, ValueError, RuntimeError, hub_error) as e:
            reason = f"Its download failed: {' '.join(str(e).split())[:300].rstrip('. ')}."
            raise model_unavailable(model, reason, store.transformers_folders(), retryable=True) from e
        return Path(found)

    def load(self, path: Path, model: str, device: Device) -> Recognizer:
        vendor, torch = _vendor(NAME), _vendor("torch")
        vendor.utils.logging.set_verbosity_error()
        vendor.utils.logging.disable_progress_bar()
        tokenizer = path / "tokenizer.json"
        if not tokenizer.is_file():
            raise _incomplete(model, path, "it has no tokenizer.json")
        kind = torch.float16 if device == "cuda" else torch.float32
        unsafe = _vendor("safetensors").SafetensorError
        try:
            loaded = vendor.WhisperForConditionalGeneration.from_pretrained(path, dtype=kind, local_files_only=True)
            extractor = vendor.WhisperFeatureExtractor.from_pretrained(path, local_files_only=True)
            vocabulary = _vendor("tokenizers").Tokenizer.from_file(str(tokenizer))
            loaded.to(device).eval()
            return TransformersRecognizer(Decoder(loaded, extractor, vocabulary, device), device)
        except (RuntimeError, ValueError, MemoryError, OSError, KeyError, TypeError, AttributeError, unsafe) as e:
            reason = " ".join(str(e).split())[:300].rstrip(". ")
            raise load_failure(e, _incomplete(model, path, reason), engine=NAME, device=device) from e

    def devices(self) -> tuple[Device, ...]:
        return ("cuda", "cpu") if _vendor("torch").cuda.is_available() else ("cpu",)

    def _cached(self, store: ModelStore, model: str) -> Path | None:
        """Returns the model's path in the hub's cache, without a request to the hub at every start."""
        if not self.can_fetch(model):
            return None
        hub = _vendor("huggingface_hub")
        try:
            found = hub.snapshot_download(
                repository(model), allow_patterns=FILES, cache_dir=store.download_dir, local_files_only=True
            )
        except OSError:
            return None
        return Path(found)


def repository(model: str) -> str:
    """Returns the repository on Hugging Face's hub of a published model."""
    if model in DISTILLED:
        return f"distil-whisper/{model}"
    known = next((names[0] for names in SAME_MODELS if model in names), model)
    return f"openai/whisper-{_NAMES_THERE.get(known, known)}"


class TransformersRecognizer:
    def __init__(self, decoder: Decoder, device: Device) -> None:
        self._decoder = decoder
        self.device: Device = device
        self.languages = frozenset(decoder.languages or {"en": 0})

    def detect(self, audio: Samples) -> tuple[SpokenLanguage, ...]:
        if not self._decoder.languages:
            return (SpokenLanguage("en", 1.0),)
        try:
            return self._decoder.detect(audio[: int(ENCODER_S * SAMPLE_RATE)])
        except (RuntimeError, ValueError, MemoryError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e

    def recognise(self, audio: Samples, request: RecognitionRequest) -> list[Segment]:
        try:
            return sorted(self._read(audio, request), key=lambda segment: segment.start)
        except (RuntimeError, ValueError, MemoryError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e

    def align(self, audio: Samples, text: str, language: str) -> tuple[ForcedWord, ...]:
        try:
            return self._decoder.align(audio, text, language)
        except (RuntimeError, ValueError, MemoryError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e

    def close(self) -> None:
        del self._decoder
        gc.collect()
        if self.device == "cuda":
            _vendor("torch").cuda.empty_cache()

    def _read(self, audio: Samples, request: RecognitionRequest) -> Iterator[Segment]:
        """Yields segments; what follows a window's last whole segment is decoded again, as a window of its own."""
        length = min(request.options.chunk_length or ENCODER_S, ENCODER_S)
        pieces = cut_at_pauses(audio, shortest_s=length / 2, longest_s=length)
        waiting = [SoundWindow(audio[piece.start : piece.end], piece.start / SAMPLE_RATE) for piece in pieces]
        size = request.options.batch_size or 1
        while waiting:
            batch, waiting = waiting[:size], waiting[size:]
            for window, reading in zip(batch, self._decoder.read(batch, request), strict=True):
                yield from reading.segments
                rest = window.after(max(reading.heard_s, SHORTEST_STEP_S))
                if rest.seconds > SHORTEST_REST_S:
                    waiting.insert(0, rest)


def _vendor(module: str) -> Any:
    return import_module(module, engine=NAME, remedy=REMEDY)


def _incomplete(model: str, path: Path, reason: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"The speech model {model!r} cannot be loaded: {reason}.",
        hint="Replace it with a complete Whisper checkpoint of Hugging Face (config.json, generation_config.json,"
        " preprocessor_config.json, tokenizer.json, model.safetensors).",
        where=str(path),
    )
