"""What is listened to, in blocks, and the way back to the recording's own times."""

from __future__ import annotations

import wave
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.transcript import Segment, Word
from gpu_dispatch.worker.speech.audio import Pcm
from gpu_dispatch.worker.speech.chunks import Chunk, Span, audible_spans, detect_speech, plan_chunks
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, find_ffmpeg
from support.media import Media
from support.speech import Speech
from support.spoken_words import SpokenWords

SECOND = SAMPLE_RATE
BASE = 2000
"""Loud enough to be left as it is."""


@st.composite
def recordings(draw: Any) -> tuple[Pcm, tuple[Span, ...]]:
    """A recording with spans of 0.2-25 s; each sample of it says where it lies (in steps of 10 ms, from BASE)."""
    spans: list[Span] = []
    at = 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 50), st.integers(2, 250)), min_size=1, max_size=6)):
        start = at + gap * SECOND // 10
        at = start + length * SECOND // 10
        spans.append(Span(start, at))
    steps = np.arange(at + SECOND) // (SECOND // 100)
    return (BASE + steps).astype(np.int16), tuple(spans)


@given(recordings(), st.sampled_from([4.0, 11.0, 300.0]))
def test_blocks_hold_every_span_once_and_in_order(recording: tuple[Pcm, tuple[Span, ...]], limit: float) -> None:
    pcm, spans = recording
    blocks = plan_chunks(pcm, spans, limit)
    pieces = [span for block in blocks for span in block.spans]
    assert all(earlier.end <= later.start for earlier, later in pairwise(pieces))
    assert sum(p.end - p.start for p in pieces) == sum(s.end - s.start for s in spans)
    assert all(any(s.start <= p.start and p.end <= s.end for s in spans) for p in pieces)
    assert all(0 < sum(s.end - s.start for s in block.spans) <= limit * SECOND for block in blocks)


@given(recordings(), st.data())
def test_a_moment_of_a_block_is_the_moment_its_sound_comes_from(
    recording: tuple[Pcm, tuple[Span, ...]], data: st.DataObject
) -> None:
    pcm, spans = recording
    block = data.draw(st.sampled_from(plan_chunks(pcm, spans, 11.0)))
    samples = block.samples(pcm)
    index = data.draw(st.integers(0, len(samples) - 1))
    heard_at = (samples[index] * 32768 - BASE) / 100
    word = Word("so", (index + 0.5) / SECOND, (index + 0.5) / SECOND)
    (placed,) = block.place(Segment(0, word.start, word.end, "so", (word,))).words
    assert abs(placed.start - heard_at) <= 0.0101
    bare = block.place(Segment(0, word.start, word.end, "so"))
    assert abs(bare.start - heard_at) <= 0.0101


def test_a_word_stays_on_its_side_of_a_join() -> None:
    block = Chunk((Span(0, 2 * SECOND), Span(10 * SECOND, 12 * SECOND)))
    words = (Word("before", 1.5, 2.2), Word("after", 1.9, 2.6))
    placed = block.place(Segment(0, 1.5, 2.6, "before after", words))
    assert [(w.start, w.end) for w in placed.words] == [(1.5, 2.0), (10.0, 10.6)]
    assert (placed.start, placed.end) == (1.5, 10.6)


def test_a_long_span_is_cut_where_it_is_quietest() -> None:
    pcm = (np.random.default_rng(7).standard_normal(60 * SECOND) * 3000).astype(np.int16)
    pcm[int(31.4 * SECOND) : int(31.8 * SECOND)] //= 100
    first, second = plan_chunks(pcm, [Span(0, len(pcm))], limit_s=40.0)
    assert 31.4 <= first.spans[0].end / SECOND <= 31.8
    assert second.spans[0].start == first.spans[0].end


def test_only_silence_is_inaudible() -> None:
    pcm = np.zeros(20 * SECOND + 77, np.int16)
    assert audible_spans(pcm) == ()
    assert audible_spans(pcm[:0]) == ()
    pcm[5 * SECOND : 6 * SECOND] = 400
    pcm[-3] = -32768
    early, late = audible_spans(pcm)
    assert (early.start / SECOND, early.end / SECOND) == (4.6, 6.4)
    assert late.end == len(pcm)


async def test_speech_is_told_from_what_is_not(media: Media) -> None:
    from gpu_dispatch.worker.speech.audio import decode_audio

    ffmpeg = FFmpeg(find_ffmpeg())
    spoken = media.speech("Good morning everybody. This is a short message about the weather.")
    said = (await decode_audio(spoken, ffmpeg)).pcm
    tone = (await decode_audio(media.tone(6.0), ffmpeg)).pcm
    heard = detect_speech(np.concatenate([tone, said, tone]))
    (span,) = heard.spans
    assert 0.5 * len(said) / SECOND < heard.voice_s < len(said) / SECOND
    assert abs(span.start - len(tone)) < SECOND
    assert abs(span.end - len(tone) - len(said)) < 1.5 * SECOND


@pytest.mark.parametrize("decibels", [-6, -30, -50, -60])
def test_nobody_speaks_in_sounds_that_are_no_voice(decibels: int) -> None:
    for name, sound in sounds().items():
        pcm = (sound / np.abs(sound).max() * 10 ** (decibels / 20) * 32767).astype(np.int16)
        assert detect_speech(pcm).spans == (), name


def test_a_quiet_speaker_is_heard_from_the_start(spoken_words: SpokenWords) -> None:
    quiet = (spoken_words.pcm * 10 ** (-55 / 20)).astype(np.int16)
    plain, heard = detect_speech(spoken_words.pcm), detect_speech(quiet)
    assert heard.spans[0].start == pytest.approx(plain.spans[0].start, abs=0.2 * SECOND)
    assert heard.voice_s > 0.85 * plain.voice_s
    loudest = np.abs(Chunk(heard.spans).samples(quiet)).max()
    assert 0.1 < loudest <= 1.0
    usual = Chunk(plain.spans).samples(spoken_words.pcm)
    assert np.abs(usual).max() == np.abs(spoken_words.pcm).max() / 32768


@pytest.mark.parametrize("decibels", [0, -20, -30])
def test_a_caller_is_heard_however_loud_the_others_are(speech: Speech, decibels: int) -> None:
    """A voice in a telephone's band."""
    with wave.open(str(speech.file)) as sound:
        said = np.frombuffer(sound.readframes(sound.getnframes()), np.int16)
        said = said[np.arange(0, len(said), sound.getframerate() / SECOND).astype(int)]
    spectrum = np.fft.rfft(said)
    hertz = np.fft.rfftfreq(len(said), 1 / SECOND)
    caller = np.fft.irfft(np.where((hertz > 300) & (hertz < 3400), spectrum, 0), len(said)) * 10 ** (decibels / 20)
    pause = np.zeros(3 * SECOND)
    spans = detect_speech(np.concatenate([said, pause, caller, pause, said]).astype(np.int16)).spans
    first, last = len(said) + len(pause), 2 * len(said) + len(pause)
    covered = sum(min(s.end, last) - max(s.start, first) for s in spans if s.start < last and s.end > first)
    assert covered > 0.8 * len(said)


def sounds() -> dict[str, np.ndarray]:
    """Ten seconds each of what is no speech."""
    draw = np.random.default_rng(3)
    t = np.arange(10 * SECOND) / SECOND
    noise = draw.standard_normal(len(t))
    hertz = np.maximum(np.fft.rfftfreq(len(t), 1 / SECOND), 1.0)
    claps = np.zeros(len(t) + SECOND)
    for at in draw.integers(0, len(t), 800):
        claps[at : at + 800] += draw.standard_normal(800) * np.exp(-np.arange(800) / 150)
    notes = np.repeat(220 * 2 ** (draw.integers(0, 13, 40) / 12), SECOND // 4)
    phase = 2 * np.pi * np.cumsum(notes) / SECOND
    struck = np.exp(-4 * (t % 0.25))
    return {
        "white": noise,
        "pink": np.fft.irfft(np.fft.rfft(noise) / np.sqrt(hertz), len(t)),
        "brown": np.fft.irfft(np.fft.rfft(noise) / hertz, len(t)),
        "applause": claps[: len(t)],
        "hum": sum(np.sin(2 * np.pi * 50 * k * t) / k for k in range(1, 8)),
        "music": struck * sum(np.sin(k * ratio * phase) / k**2 for ratio in (1, 1.26, 1.5) for k in range(1, 6)),
        "beeps": np.sin(2 * np.pi * 1000 * t) * (t % 1 < 0.3),
    }
