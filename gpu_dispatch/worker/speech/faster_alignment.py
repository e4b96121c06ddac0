"""Lays given texts on sound by faster-whisper's attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpu_dispatch.worker.speech.engine import Samples, import_module
from gpu_dispatch.worker.speech.forced_alignment import (
    ALIGNABLE_FRAMES,
    FORCED_TOKENS,
    ForcedWord,
    forced_words,
    frame_times,
    sayable,
)


class FasterAligner:
    """Keeps the encoding of the last sound, as several texts are tried on one."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._encoded: tuple[Samples, Any, int] | None = None

    def align(self, audio: Samples, text: str, language: str) -> tuple[ForcedWord, ...]:
        """See `Recognizer.align`. Raises RuntimeError or ValueError, as the model does."""
        made = _vendor("faster_whisper.tokenizer").Tokenizer
        multilingual = self._model.model.is_multilingual
        tokenizer = made(self._model.hf_tokenizer, multilingual, task="transcribe", language=language)
        tokens: list[int] = tokenizer.encode(sayable(text))
        encoded, frames = self._encode(audio)
        if not tokens or len(tokens) > FORCED_TOKENS or frames < ALIGNABLE_FRAMES:
            return ()
        (found,) = self._model.model.align(encoded, tokenizer.sot_sequence, [tokens], frames)
        texts, parts = tokenizer.split_to_word_tokens([*tokens, tokenizer.eot])
        likely = np.log(np.maximum(np.array(found.text_token_probs), 1e-12)).tolist()
        sizes = [len(part) for part in parts[:-1]]
        return forced_words(texts[:-1], sizes, frame_times(found.alignments, sizes), likely)

    def _encode(self, audio: Samples) -> tuple[Any, int]:
        """Returns the encoder's output and its valid frames of 10 ms."""
        if self._encoded is None or self._encoded[0] is not audio:
            features = self._model.feature_extractor(audio)[:, : self._model.feature_extractor.nb_max_frames]
            # The features end with a frame that `transcribe` leaves out, too.
            frames = len(audio) // self._model.feature_extractor.hop_length
            window = _vendor("faster_whisper.audio").pad_or_trim(features[:, :frames])
            self._encoded = (audio, self._model.encode(window) if frames else None, frames)
        return self._encoded[1], self._encoded[2]


def _vendor(module: str) -> Any:
    return import_module(module, engine="faster-whisper", remedy="pip install faster-whisper")
