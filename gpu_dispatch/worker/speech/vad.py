"""Which parts of a recording to listen to. Whisper invents words where nobody speaks, so it never hears those."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from gpu_dispatch.worker.speech.audio import Pcm, to_samples
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE, import_module

PIECE_S = 600
"""Silero looks at this much at a time: its buffers take four times the size of the sound."""

MIN_SILENCE_S = 2.0
"""A shorter pause stays in."""

PAD_S = 0.4
"""Kept before and after what was found."""

AUDIBLE = 32768 // 2000
"""A peak below this (-66 dBFS) is dither or the noise of a silent input, never speech."""

FRAME = SAMPLE_RATE // 10


@dataclass(frozen=True, slots=True)
class Span:
    """Samples from `start` up to `end`."""

    start: int
    end: int


def has_detector() -> bool:
    """Whether Silero's voice detector is installed: faster-whisper brings it, and either engine may use it."""
    return all(importlib.util.find_spec(name) for name in ("faster_whisper", "onnxruntime"))


def speech_spans(pcm: Pcm, before_piece: Callable[[], None] = lambda: None) -> tuple[Span, ...]:
    """Where somebody speaks; without the detector, where anything is to be heard.

    `before_piece` is called about once a second of work and may raise to stop it.
    """
    if not has_detector():
        return audible_spans(pcm)
    vad = import_module("faster_whisper.vad", engine="voice detector", remedy="pip install faster-whisper")
    found: list[Span] = []
    for start in range(0, len(pcm), PIECE_S * SAMPLE_RATE):
        before_piece()
        piece = to_samples(pcm[start : start + PIECE_S * SAMPLE_RATE])
        options = vad.VadOptions(min_silence_duration_ms=int(MIN_SILENCE_S * 1000), speech_pad_ms=int(PAD_S * 1000))
        found += [
            Span(start + int(s["start"]), start + int(s["end"])) for s in vad.get_speech_timestamps(piece, options)
        ]
    return joined_spans(found)


def audible_spans(pcm: Pcm) -> tuple[Span, ...]:
    """Everything but digital silence of MIN_SILENCE_S and more."""
    whole = len(pcm) // FRAME * FRAME
    # min and max in place of abs: -32768 has no positive counterpart, and an hour of absolute values takes 115 MB.
    frames = pcm[:whole].reshape(-1, FRAME)
    loud = (frames.max(axis=1, initial=0) >= AUDIBLE) | (frames.min(axis=1, initial=0) <= -AUDIBLE)
    rest = pcm[whole:]
    loud = np.append(loud, bool(len(rest)) and bool((rest >= AUDIBLE).any() or (rest <= -AUDIBLE).any()))
    pad = int(PAD_S * SAMPLE_RATE)
    return joined_spans(
        Span(max(0, int(i) * FRAME - pad), min(len(pcm), (int(i) + 1) * FRAME + pad)) for i in np.flatnonzero(loud)
    )


def joined_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """`spans`, in order, with those that are nearer than MIN_SILENCE_S (their padding counted in) made one."""
    gap = int((MIN_SILENCE_S - 2 * PAD_S) * SAMPLE_RATE)
    result: list[Span] = []
    for span in spans:
        if result and span.start - result[-1].end < gap:
            result[-1] = Span(result[-1].start, max(result[-1].end, span.end))
        else:
            result.append(span)
    return tuple(result)
