"""Corrects what a model says by the sound itself: the times of words, and loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gpu_dispatch.transcript import Segment
from gpu_dispatch.worker.speech.audio import Pcm
from gpu_dispatch.worker.speech.energy import energy_of
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE
from gpu_dispatch.worker.speech.postprocess import Cleaned, monotonic, postprocess
from gpu_dispatch.worker.speech.repeats import Evidence
from gpu_dispatch.worker.speech.word_times import SETTLED, refined

Correction = Callable[[Sequence[Segment], Pcm, float | None], Cleaned]
"""Takes what a model says, the recording, and the threshold of `postprocess`."""


def corrected(segments: Sequence[Segment], pcm: Pcm, repetition: float | None) -> Cleaned:
    """Returns `segments` with words where they sound and without loops that the sound does not bear out.

    `repetition` is as in `postprocess`.
    """
    duration = round(len(pcm) / SAMPLE_RATE, 3)
    energy = energy_of(pcm)
    timed = refined(monotonic(segments, duration), energy, duration)
    cleaned = postprocess(timed, duration, repetition=repetition, bears_out=Evidence(pcm, energy).bears_out)
    if not cleaned.loops:
        return cleaned
    return replace(cleaned, segments=tuple(monotonic(refined(cleaned.segments, energy, duration, SETTLED), duration)))
