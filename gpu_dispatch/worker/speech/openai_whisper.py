"""The engine openai-whisper: the reference implementation, on PyTorch."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import PickleError
from typing import Any

from gpu_dispatch.task import Segment
from gpu_dispatch.worker.speech.engine import (
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
    sayable,
)
from gpu_dispatch.worker.speech.models import PUBLISHED, ModelStore, model_unavailable
from gpu_dispatch.worker.speech.whisper import arguments, segment_of
from manifests.errors import ModelUnavailable

NAME = "openai-whisper"
REMEDY = "pip install 'gpudrop[openai]'"

WINDOW_S = 30.0
"""Length of the encoder's window."""


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
        except (RuntimeError, ValueError, OSError, EOFError, KeyError, TypeError, PickleError) as e:
            raise load_failure(e, _damaged(e, model, path), engine=NAME, device=device) from e
        if device == "cuda":
            halve(loaded, torch)
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
        self._windows = _EncoderCache(model.encoder.forward, self._torch.equal)
        model.encoder.forward = self._windows.encode
        self.device: Device = device
        codes: dict[str, str] = self._whisper.tokenizer.LANGUAGES
        self.languages = frozenset(list(codes)[: model.num_languages] if model.is_multilingual else ["en"])

    def detect(self, audio: Samples) -> tuple[SpokenLanguage, ...]:
        if not self._model.is_multilingual:
            return (SpokenLanguage("en", 1.0),)
        whisper = self._whisper.audio
        # Cut like the first window of `transcribe`, so that it is encoded once for both.
        mel = whisper.log_mel_spectrogram(audio, self._model.dims.n_mels, padding=whisper.N_SAMPLES)
        content = mel.shape[-1] - whisper.N_FRAMES
        window = whisper.pad_or_trim(mel[:, : min(content, whisper.N_FRAMES)], whisper.N_FRAMES).to(self.device)
        try:
            _, found = self._model.detect_language(window.half() if self.device == "cuda" else window)
        except (RuntimeError, ValueError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e
        spoken = [SpokenLanguage(code, float(chance)) for code, chance in found.items()]
        return tuple(sorted(spoken, key=lambda each: -each.probability))

    def recognise(self, audio: Samples, request: RecognitionRequest) -> list[Segment]:
        # Makes sampling at temperatures above 0 give the same words for the same sound.
        self._torch.manual_seed(0)
        self._windows.listen(request.on_progress)
        try:
            answer = self._model.transcribe(audio, **self._options(request))
        except (RuntimeError, ValueError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e
        finally:
            self._windows.listen(None)
        return [segment_of(s, dict[str, Any].get) for s in answer["segments"] if s["text"].strip()]

    def align(self, audio: Samples, text: str, language: str) -> tuple[ForcedWord, ...]:
        multilingual, languages = self._model.is_multilingual, self._model.num_languages
        tokenizer = self._whisper.tokenizer.get_tokenizer(
            multilingual, num_languages=languages, language=language, task="transcribe"
        )
        tokens: list[int] = tokenizer.encode(sayable(text))
        frames = min(len(audio) // self._whisper.audio.HOP_LENGTH, self._whisper.audio.N_FRAMES)
        if not tokens or len(tokens) > FORCED_TOKENS or frames < ALIGNABLE_FRAMES:
            return ()
        mel = self._whisper.audio.log_mel_spectrogram(audio, self._model.dims.n_mels)
        window = self._whisper.audio.pad_or_trim(mel, self._whisper.audio.N_FRAMES).to(self.device)
        answers: list[Any] = []

        def keep(_module: Any, _given: Any, answer: Any) -> None:
            answers.append(answer)

        listening = self._model.decoder.register_forward_hook(keep)
        try:
            window = window.half() if self.device == "cuda" else window
            timed = _vendor("whisper.timing").find_alignment(self._model, tokenizer, tokens, window, frames)
        except (RuntimeError, ValueError) as e:
            raise engine_failure(e, engine=NAME, device=self.device) from e
        finally:
            listening.remove()
        begin = len(tokenizer.sot_sequence)
        logits = answers[0][0, begin : begin + len(tokens), : tokenizer.eot].float()
        likely = logits.log_softmax(dim=-1).gather(1, self._torch.tensor(tokens, device=self.device)[:, None])
        sizes, times = [len(word.tokens) for word in timed], [(word.start, word.end) for word in timed]
        return forced_words([word.word for word in timed], sizes, times, likely[:, 0].tolist())

    def close(self) -> None:
        del self._model, self._windows
        gc.collect()
        if self.device == "cuda":
            self._torch.cuda.empty_cache()

    def _options(self, request: RecognitionRequest) -> dict[str, Any]:
        greedy = request.options.beam_size == 1
        return {
            **arguments(request, multilingual=self._model.is_multilingual, vocabulary=self._model.dims.n_vocab),
            **({"beam_size": None, "patience": None} if greedy else {}),
            "logprob_threshold": request.options.logprob_threshold,
            "fp16": self.device == "cuda",
            "verbose": None,
        }


class _EncoderCache:
    """Wraps the encoder's forward pass, caches its last result and reports progress.

    Whisper encodes a window again for the language, for every temperature and for the word times: a third of the time
    on a CPU. Each new window also shows how far `transcribe` is, which it does not report itself.
    """

    def __init__(self, forward: Callable[[Any], Any], equal: Callable[[Any, Any], bool]) -> None:
        self._forward = forward
        self._equal = equal
        self._last: tuple[Any, Any] | None = None
        self._on_progress: Callable[[float], None] | None = None
        self._count = 0

    def listen(self, on_progress: Callable[[float], None] | None) -> None:
        self._on_progress = on_progress
        self._count = 0
        if on_progress is None:
            self._last = None

    def encode(self, mel: Any) -> Any:
        if self._last is not None and self._last[0].shape == mel.shape and self._equal(self._last[0], mel):
            return self._last[1]
        if self._on_progress is not None:
            self._on_progress(self._count * WINDOW_S)
        self._count += 1
        encoded = self._forward(mel)
        self._last = (mel, encoded)
        return encoded


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
