"""Tokens of one window become segments with times and words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpu_dispatch.transcript import Segment, Word
from gpu_dispatch.worker.speech.postprocess import compression_ratio
from manifests.options import RecognitionOptions

TIMESTAMP_S = 0.02
"""Seconds between two of Whisper's timestamp tokens."""


@dataclass(frozen=True, slots=True)
class WindowText:
    """What a model wrote for one window, at one temperature."""

    tokens: tuple[int, ...]
    """Text and timestamps, without the end token."""
    text: str
    temperature: float
    avg_logprob: float
    """Mean of the text's tokens and the end token, in nats."""
    no_speech_prob: float

    @property
    def compression_ratio(self) -> float:
        return compression_ratio(self.text)

    def is_silence(self, options: RecognitionOptions) -> bool:
        """Whether Whisper's rule drops the window: no speech is probable, and the text is not."""
        silent, improbable = options.no_speech_threshold, options.logprob_threshold
        return (
            silent is not None
            and self.no_speech_prob > silent
            and (improbable is None or self.avg_logprob < improbable)
        )

    def is_good(self, options: RecognitionOptions) -> bool:
        """Whether no other temperature is tried."""
        repeats, improbable = options.compression_ratio_threshold, options.logprob_threshold
        return self.is_silence(options) or (
            (repeats is None or self.compression_ratio <= repeats)
            and (improbable is None or self.avg_logprob >= improbable)
        )


@dataclass(frozen=True, slots=True)
class TimedTokens:
    """A stretch of a window's text tokens, with times in seconds from the window's start."""

    start: float
    end: float
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stretches:
    """The stretches between timestamp tokens."""

    found: tuple[TimedTokens, ...]
    heard_s: float
    """Where the last whole one ends; the window's length when the model was done with it."""


def stretches_of(tokens: Sequence[int], *, first_timestamp: int, window_s: float) -> Stretches:
    """Splits `tokens` as the reference implementation does.

    Two timestamps in a row end one stretch and begin the next. What follows the last such pair is unfinished, unless a
    single timestamp ends it: then the model heard nothing after that.
    """
    stamps = [token >= first_timestamp for token in tokens]
    cuts = [i for i in range(1, len(tokens)) if stamps[i - 1] and stamps[i]]
    done = stamps[-2:] == [False, True]
    if not cuts:
        text = tuple(token for token in tokens if token < first_timestamp)
        times = [_seconds(token, first_timestamp) for token in tokens if token >= first_timestamp]
        end = times[-1] if times and times[-1] > 0 else window_s
        return Stretches((TimedTokens(0.0, min(end, window_s), text),) if text else (), window_s)
    found: list[TimedTokens] = []
    begin = 0
    for cut in [*cuts, len(tokens)] if done else cuts:
        part = tokens[begin:cut]
        start, end = _seconds(part[0], first_timestamp), _seconds(part[-1], first_timestamp)
        text = tuple(token for token in part if token < first_timestamp)
        if text:
            found.append(TimedTokens(min(start, window_s), min(max(start, end), window_s), text))
        begin = cut
    heard = window_s if done else min(_seconds(tokens[begin - 1], first_timestamp), window_s)
    return Stretches(tuple(found), heard)


def segments_of(
    stretches: Sequence[TimedTokens],
    words: Sequence[tuple[Word, int]],
    text: WindowText,
    *,
    offset_s: float,
    decode: Callable[[Sequence[int]], str],
) -> tuple[Segment, ...]:
    """Returns a segment for each stretch, with its share of `words`, each of which has a count of tokens."""
    result: list[Segment] = []
    left = list(words)
    for stretch in stretches:
        own: list[Word] = []
        wanted = len(stretch.tokens)
        while left and wanted > 0:
            word, count = left.pop(0)
            own.append(Word(word.text, word.start + offset_s, word.end + offset_s, word.probability))
            wanted -= count
        result.append(
            Segment(
                id=len(result),
                start=own[0].start if own else stretch.start + offset_s,
                end=own[-1].end if own else stretch.end + offset_s,
                text=decode(stretch.tokens),
                words=tuple(own),
                seek=round(offset_s * 100),
                tokens=stretch.tokens,
                temperature=text.temperature,
                avg_logprob=text.avg_logprob,
                compression_ratio=text.compression_ratio,
                no_speech_prob=text.no_speech_prob,
            )
        )
    return tuple(segment for segment in result if segment.text.strip())


def _seconds(token: int, first_timestamp: int) -> float:
    return max(0, token - first_timestamp) * TIMESTAMP_S
