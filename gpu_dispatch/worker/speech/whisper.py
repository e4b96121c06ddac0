"""What faster-whisper and openai-whisper share: the arguments of `transcribe`, sentences, the fields of a segment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gpu_dispatch.transcript import Segment, Word
from gpu_dispatch.worker.speech.engine import RecognitionRequest, WindowReading
from gpu_dispatch.worker.speech.postprocess import compression_ratio
from gpu_dispatch.worker.speech.windows import WINDOW_S
from manifests.options import RecognitionOptions

PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word after and before it: both engines' own defaults."""

ENDS_WITHOUT_SPACE = "。！？"
SENTENCE_ENDS = ".?!…؟।" + ENDS_WITHOUT_SPACE


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


def hypotheses(options: RecognitionOptions) -> int:
    """Returns how many texts a window has at the first temperature."""
    return options.best_of if options.temperature[0] > 0 else options.beam_size


def sentences(tokens: Sequence[int], tokenizer: Any) -> Iterator[dict[str, Any]]:
    """Yields the sentences of a window's text as segments whose words and times either engine can add."""
    words, parts = tokenizer.split_to_word_tokens([token for token in tokens if token < tokenizer.eot])
    sentence: list[int] = []
    text = ""
    for i, part in enumerate(parts):
        sentence += part
        text += words[i]
        told, after = text.rstrip("\"'”’)]"), words[i + 1] if i + 1 < len(words) else " "
        if told.endswith(tuple(SENTENCE_ENDS)) and (after.startswith(" ") or told.endswith(tuple(ENDS_WITHOUT_SPACE))):
            yield _sentence(sentence)
            sentence, text = [], ""
    if sentence:
        yield _sentence(sentence)


def _sentence(tokens: list[int]) -> dict[str, Any]:
    return {"seek": 0, "start": 0.0, "end": WINDOW_S, "tokens": tokens}


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a model produced for one window, without times."""

    text: str
    sentences: list[dict[str, Any]]
    """The engine adds their words."""
    temperature: float
    avg_logprob: float
    no_speech_prob: float

    def reading(self) -> WindowReading:
        """Returns the reading, once the sentences have their words."""
        ratio = compression_ratio(self.text.strip())
        shared = {
            "temperature": self.temperature,
            "avg_logprob": self.avg_logprob,
            "compression_ratio": ratio,
            "no_speech_prob": self.no_speech_prob,
        }
        segments = tuple(
            segment_of({**shared, "id": i, "text": "".join(w["word"] for w in s["words"]), **s}, dict[str, Any].get)
            for i, s in enumerate(self.sentences)
        )
        kept = tuple(segment for segment in segments if segment.text.strip())
        return WindowReading(kept, self.avg_logprob, ratio, self.no_speech_prob)


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
