"""The engine openai-whisper: the reference implementation, on PyTorch."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import PickleError
from typing import Any

from gpu_dispatch.transcript import Segment
from gpu_dispatch.worker.speech.engine import (
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
from gpu_dispatch.worker.speech.forced_alignment import ForcedWord
from gpu_dispatch.worker.speech.memory import windows_at_once
from gpu_dispatch.worker.speech.models import PUBLISHED, ModelStore, model_unavailable
from gpu_dispatch.worker.speech.openai_alignment import force_text
from gpu_dispatch.worker.speech.openai_batches import EncoderCache, attend_together, batch_task
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

NAME = "openai-whisper"
REMEDY = "pip install 'gpudrop[openai]'"


@dataclass(frozen=True, slots=True)
class OpenAIWhisper:
    name: str = NAME
    modules: tuple[str, ...] = ("whisper", "torch")
    remedy: str = REMEDY

    def find(self, store: ModelStore, model: str) -> Path | None:
        if found := store.checkpoint(model):
            return found
        if not self.can_fetch(model):
            return None
        cached = self._target(store, model)
        return cached if cached.is_file() else None

    def can_fetch(self, model: str) -> bool:
        return model in PUBLISHED

    def fetch(self, store: ModelStore, model: str) -> Path:
        """Downloads `model` and verifies its SHA-256; `load` does not verify it again."""
        whisper = _vendor("whisper")
        target = self._target(store, model)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # Downloaded elsewhere and renamed: an interrupted download must not look like a model.
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
                Path(whisper._download(whisper._MODELS[model], scratch, False)).replace(target)
        except (OSError, RuntimeError) as e:
            raise model_unavailable(model, f"Its download failed: {e}.", store.checkpoints(), retryable=True) from e
        return target

    def load(self, path: Path, model: str, device: Device) -> Recognizer:
        whisper, torch = _vendor("whisper"), _vendor("torch")
        heads = whisper._ALIGNMENT_HEADS.get(model) or whisper._ALIGNMENT_HEADS.get(path.stem)
        try:
            loaded = whisper.load_model(str(path), device=device)
            if heads is not None:
                # A checkpoint loaded by path lacks them; word times would differ by up to 0.4 s (tiny.en).
                loaded.set_alignment_heads(heads)
                loaded.to(device)
        except (RuntimeError, ValueError, MemoryError, OSError, EOFError, KeyError, TypeError, PickleError) as e:
            raise load_failure(e, _damaged(e, model, path), engine=NAME, device=device) from e
        if device == "cuda":
            halve(loaded, torch)
            torch.set_float32_matmul_precision("high")  # TF32 for what stays float32
        return OpenAIRecognizer(loaded, device)

    def devices(self) -> tuple[Device, ...]:
        return ("cuda", "cpu") if _vendor("torch").cuda.is_available() else ("cpu",)

    def _target(self, store: ModelStore, model: str) -> Path:
        folder = store.download_dir or Path.home() / ".cache" / "whisper"
        return folder / Path(_vendor("whisper")._MODELS[model]).name


class OpenAIRecognizer:
    def __init__(self, model: Any, device: Device) -> None:
        self._model = model
        self._whisper = _vendor("whisper")
        self._torch = _vendor("torch")
        self._windows = EncoderCache(model.encoder.forward, self._torch)
        model.encoder.forward = self._windows.encode
        for block in model.decoder.blocks:
            block.cross_attn.qkv_attention = partial(attend_together, block.cross_attn.qkv_attention)
        self.device: Device = device
        codes: dict[str, str] = self._whisper.tokenizer.LANGUAGES
        self.languages = frozenset(list(codes)[: model.num_languages] if model.is_multilingual else ["en"])

    def detect(self, audio: Samples) -> tuple[SpokenLanguage, ...]:
        if not self._model.is_multilingual:
            return (SpokenLanguage("en", 1.0),)
        try:
            _, found = self._model.detect_language(self._spectrogram(audio)[0])
        except (RuntimeError, ValueError, MemoryError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e
        spoken = [SpokenLanguage(code, float(chance)) for code, chance in found.items()]
        return tuple(sorted(spoken, key=lambda each: -each.probability))

    def recognise(self, audio: Samples, request: RecognitionRequest) -> list[Segment]:
        # Makes sampling at temperatures above 0 give the same words for the same sound.
        self._torch.manual_seed(0)
        self._windows.listen(request.on_progress)
        try:
            answer = self._model.transcribe(audio, **self._options(request))
        except (RuntimeError, ValueError, MemoryError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e
        finally:
            self._windows.listen(None)
        return [segment_of(s, dict[str, Any].get) for s in answer["segments"] if s["text"].strip()]

    def align(self, audio: Samples, text: str, language: str) -> tuple[ForcedWord, ...]:
        try:
            window, frames = self._spectrogram(audio)
            return force_text(self._model, window, frames, text, language)
        except (RuntimeError, ValueError, MemoryError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e

    def windows_at_once(self, options: RecognitionOptions) -> int:
        weights = sum(p.numel() * p.element_size() for p in self._model.parameters())
        half = weights if self.device == "cuda" else weights // 2
        return windows_at_once(half, hypotheses(options), self.device)

    def recognise_together(self, windows: Sequence[Samples], request: RecognitionRequest) -> list[WindowReading]:
        self._torch.manual_seed(0)
        try:
            with self._torch.no_grad():
                return self._together(windows, request)
        except (RuntimeError, ValueError, MemoryError) as e:
            if self.device == "cuda":
                self._torch.cuda.empty_cache()
            raise engine_failure(e, engine=NAME, device=self.device) from e

    def close(self) -> None:
        del self._model, self._windows
        gc.collect()
        if self.device == "cuda":
            self._torch.cuda.empty_cache()

    def _together(self, windows: Sequence[Samples], request: RecognitionRequest) -> list[WindowReading]:
        spectrograms = [self._spectrogram(window) for window in windows]
        encoded = self._windows.encode_all([mel for mel, _ in spectrograms], request.on_progress, self.device == "cuda")
        options = self._decoding(request)
        task = batch_task()(self._model, options)
        readings: list[WindowReading] = []
        for (mel, frames), result in zip(spectrograms, task.run(encoded), strict=True):
            decoded = Decoded(
                text=result.text,
                sentences=list(sentences(result.tokens, task.tokenizer)),
                temperature=options.temperature,
                avg_logprob=float(result.avg_logprob),
                no_speech_prob=float(result.no_speech_prob),
            )
            self._whisper.timing.add_word_timestamps(
                segments=decoded.sentences,
                model=self._model,
                tokenizer=task.tokenizer,
                mel=mel,
                num_frames=frames,
                prepend_punctuations=PREPENDED,
                append_punctuations=APPENDED,
                last_speech_timestamp=0.0,
            )
            readings.append(decoded.reading())
        return readings

    def _spectrogram(self, audio: Samples) -> tuple[Any, int]:
        """Returns the first window's spectrogram, cut as `transcribe` does, and how many of its frames are sound."""
        whisper = self._whisper.audio
        mel = whisper.log_mel_spectrogram(audio, self._model.dims.n_mels, padding=whisper.N_SAMPLES)
        frames = min(mel.shape[-1] - whisper.N_FRAMES, whisper.N_FRAMES)
        window = whisper.pad_or_trim(mel[:, :frames], whisper.N_FRAMES).to(self.device)
        return (window.half() if self.device == "cuda" else window), frames

    def _decoding(self, request: RecognitionRequest) -> Any:
        """Returns the options of `decode` for the first temperature."""
        given = self._options(request)
        names = ("task", "language", "length_penalty", "suppress_tokens", "fp16")
        temperature = request.options.temperature[0]
        search = ("best_of",) if temperature > 0 else ("beam_size", "patience")
        # Without time tokens no text is lost behind the last one; the alignment gives the times.
        return self._whisper.DecodingOptions(
            **{name: given[name] for name in (*names, *search)}, temperature=temperature, without_timestamps=True
        )

    def _options(self, request: RecognitionRequest) -> dict[str, Any]:
        greedy = request.options.beam_size == 1
        return {
            **arguments(request, multilingual=self._model.is_multilingual, vocabulary=self._model.dims.n_vocab),
            **({"beam_size": None, "patience": None} if greedy else {}),
            "logprob_threshold": request.options.logprob_threshold,
            "fp16": self.device == "cuda",
            "verbose": None,
        }


def halve(model: Any, torch: Any) -> None:
    """Converts the weights to half precision, except the layer norms', which Whisper computes in float32."""
    for module in model.modules():
        if not isinstance(module, torch.nn.LayerNorm):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.half()


def _vendor(module: str) -> Any:
    return import_module(module, engine=NAME, remedy=REMEDY)


def _damaged(error: Exception, model: str, path: Path) -> ModelUnavailable:
    return ModelUnavailable(
        f"The speech model {model!r} cannot be loaded: {type(error).__name__}.",
        hint="Replace it with a complete checkpoint of openai-whisper.",
        where=str(path),
    )
