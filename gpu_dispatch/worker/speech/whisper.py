"""What faster-whisper and openai-whisper share: the arguments of `transcribe` and the fields of a segment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpu_dispatch.task import Segment, Word
from gpu_dispatch.worker.speech.engine import RecognitionRequest


def arguments(request: RecognitionRequest, *, multilingual: bool, vocabulary: int) -> dict[str, Any]:
    """Returns the arguments with the same name in both engines, for a model with `vocabulary` tokens."""
    options = request.options
    return {
        "language": request.language,
        "task": "translate" if options.translate and multilingual else "transcribe",
        "beam_size": options.beam_size,
        "best_of": options.best_of,
        # The engines require at least one candidate: patience * beam_size >= 1.
        "patience": max(options.patience, 1 / options.beam_size),
        "length_penalty": options.length_penalty,
        "temperature": options.temperature,
        "compression_ratio_threshold": options.compression_ratio_threshold,
        "no_speech_threshold": options.no_speech_threshold,
        "condition_on_previous_text": options.condition_on_previous_text,
        "initial_prompt": request.prompt,
        "suppress_tokens": [token for token in options.suppress_tokens if -1 <= token < vocabulary],
        "word_timestamps": options.word_timestamps,
        "without_timestamps": options.timestamps == "none",
    }


def segment_of(given: Any, get: Callable[[Any, str], Any]) -> Segment:
    """Converts an engine's segment; `get` reads a field of it, or of one of its words, by name."""
    return Segment(
        id=get(given, "id"),
        start=float(get(given, "start")),
        end=float(get(given, "end")),
        text=get(given, "text"),
        words=tuple(_word_of(word, get) for word in get(given, "words") or ()),
        seek=get(given, "seek"),
        tokens=tuple(get(given, "tokens")),
        temperature=float(get(given, "temperature") or 0.0),
        avg_logprob=float(get(given, "avg_logprob")),
        compression_ratio=float(get(given, "compression_ratio")),
        no_speech_prob=float(get(given, "no_speech_prob")),
    )


def _word_of(given: Any, get: Callable[[Any, str], Any]) -> Word:
    return Word(
        get(given, "word"), float(get(given, "start")), float(get(given, "end")), float(get(given, "probability"))
    )
