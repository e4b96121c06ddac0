"""Every speech engine, on the same real weights, behind the operation that workers call."""

from __future__ import annotations

import asyncio
import difflib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_dispatch.speech_options import lacking
from gpu_dispatch.task import Progress, TranscribeParams
from gpu_dispatch.transcript import Quality, Transcript
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.speech.engine import (
    SAMPLE_RATE,
    BatchRecognizer,
    RecognitionRequest,
    Recognizer,
    Samples,
    WindowReading,
)
from gpu_dispatch.worker.speech.models import ModelStore
from gpu_dispatch.worker.speech.reader import ReadingLimits
from gpu_dispatch.worker.speech.registry import ENGINES
from gpu_dispatch.worker.speech.script_judge import UNSAID
from gpu_dispatch.worker.speech.transcribe import Transcriber
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, find_ffmpeg
from manifests.errors import (
    LanguageUnsupported,
    MediaUnreadable,
    ModelUnavailable,
    NoAudio,
    OptionUnsupported,
    ScriptMismatch,
)
from manifests.options import RecognitionOptions
from support.deadlines import HANG_S
from support.media import Media
from support.speech import Speech
from support.spoken_words import SpokenWords

pytestmark = pytest.mark.model

COUNTRY_TOKEN = 1499
"""" country" in the vocabulary of the English-only models."""

TIME_TOKENS = 50363
"""The first of them, in the same vocabulary."""

GREEDY: dict[str, Any] = {"beam_size": 1, "temperature": (0.0,)}
"""A third of the time of the defaults."""


FOLDERS = {
    "faster-whisper": "model_dir",
    "openai-whisper": "openai_model_dir",
    "transformers": "transformers_model_dir",
}
"""Fixtures with an engine's weights."""


@dataclass(frozen=True)
class Bench:
    """One engine with its model, and a folder to put media into."""

    engine: str
    transcriber: Transcriber
    folder: Path

    async def hear(self, file: Path, *, report: Any = lambda _: None, **options: Any) -> Transcript:
        shutil.copy(file, self.folder / file.name)
        params = TranscribeParams(
            **{"audio": file.name, "model": "tiny.en", "engine": self.engine, **GREEDY, **options}
        )
        async with asyncio.timeout(HANG_S):
            return await self.transcriber(params, JobContext(self.folder, report))

    def without_lacking(self, **options: Any) -> dict[str, Any]:
        """Returns those of `options` that the engine has."""
        refused = lacking(self.engine, RecognitionOptions(**options))
        return {name: value for name, value in options.items() if name not in refused}


@pytest.fixture(
    scope="module",
    params=[
        "faster-whisper",
        pytest.param("openai-whisper", marks=pytest.mark.openai),
        pytest.param("transformers", marks=pytest.mark.transformers),
    ],
)
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def store(engine: str, request: pytest.FixtureRequest) -> ModelStore:
    return ModelStore(request.getfixturevalue(FOLDERS[engine]), allow_download=False)


@pytest.fixture(scope="module")
def transcriber(store: ModelStore) -> Iterator[Transcriber]:
    made = Transcriber(store, FFmpeg(find_ffmpeg()))
    yield made
    asyncio.run(made.close())


@pytest.fixture(scope="module")
def recognizer(engine: str, store: ModelStore) -> Iterator[Recognizer]:
    made = next(each for each in ENGINES if each.name == engine)
    path = made.find(store, "tiny.en")
    assert path
    loaded = made.load(path, "tiny.en", "cpu")
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def sound(speech: Speech, tmp_path_factory: pytest.TempPathFactory) -> Samples:
    raw = tmp_path_factory.mktemp("sound") / "speech.f32"
    decoded = ("-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "f32le")
    subprocess.run([find_ffmpeg(), "-v", "error", "-i", str(speech.file), *decoded, str(raw)], check=True)
    return np.fromfile(raw, np.float32)


@pytest.fixture
def bench(engine: str, transcriber: Transcriber, tmp_path: Path) -> Bench:
    return Bench(engine, transcriber, tmp_path)


async def test_speech_becomes_words_with_times_and_progress(bench: Bench, speech: Speech) -> None:
    seen: list[Progress] = []
    usual = TranscribeParams(audio="")
    transcript = await bench.hear(
        speech.file, report=seen.append, beam_size=usual.beam_size, temperature=usual.temperature
    )
    assert speech.word_error_rate(transcript.text) <= 0.2
    check_times(transcript)
    assert transcript.duration == pytest.approx(speech.duration, abs=0.05)
    assert (transcript.language, transcript.model, transcript.engine) == ("en", "tiny.en", bench.engine)
    assert "".join(w.text for s in transcript.segments for w in s.words) == "".join(s.text for s in transcript.segments)
    assert [p.stage for p in seen[:2]] == ["load", "transcribe"]
    assert seen[-1] == Progress(100.0, "transcribe")
    assert [p.percent for p in seen] == sorted(p.percent for p in seen)


async def test_short_blocks_give_the_same_words(bench: Bench, store: ModelStore, speech: Speech) -> None:
    """Long recordings are read block by block; blocks of 6 s show on 10 s what blocks of minutes show on hours."""
    blockwise = Transcriber(store, FFmpeg(find_ffmpeg()), limits=ReadingLimits(chunk_s=6.0))
    bench = Bench(bench.engine, blockwise, bench.folder)
    try:
        transcript = await bench.hear(speech.file)
    finally:
        await blockwise.close()
    assert speech.word_error_rate(transcript.text) <= 0.2
    check_times(transcript)
    (before_the_pause,) = [w for w in transcript.words if w.text.strip(" .,").lower() == "americans"]
    assert before_the_pause.end == pytest.approx(2.7, abs=0.6)


@pytest.mark.parametrize("vad", [True, False])
async def test_nobody_speaks_in_silence(bench: Bench, media: Media, vad: bool) -> None:
    transcript = await bench.hear(media.silence(30.0), vad=vad)
    assert transcript.segments == ()
    assert (transcript.language, transcript.duration) == ("und", 30.0)


@pytest.mark.parametrize("language", ["pt", "en", "es", "ja", "ko", "tr", None])
async def test_nobody_speaks_in_noise(bench: Bench, media: Media, language: str | None) -> None:
    noise = media.make(".wav", "-f", "lavfi", "-i", "anoisesrc=color=pink:amplitude=0.2:sample_rate=16000:duration=20")
    transcript = await bench.hear(noise, language=language)
    assert transcript.segments == ()
    assert transcript.quality == Quality(speech_ratio=0.0, silent_s=20.0)


async def test_words_start_with_their_sound(bench: Bench, spoken_words: SpokenWords, tmp_path: Path) -> None:
    """Slow and fast, with pauses up to 5 s; among the words are some that the model takes for others."""
    transcript = await bench.hear(spoken_words.write(tmp_path / "known" / "words.wav"))
    check_times(transcript)
    assert all(word.end - word.start >= 0.02 - 1e-6 for word in transcript.words)
    assert transcript.quality
    assert 0.2 < transcript.quality.speech_ratio < 0.8
    heard = [(re.sub(r"\W", "", w.text).lower(), w.start) for w in transcript.words]
    known = [(text.lower(), start) for text, start, _ in spoken_words.words]
    matched = difflib.SequenceMatcher(None, [w for w, _ in heard], [w for w, _ in known], autojunk=False)
    blocks = [(heard[b.a + k][1], known[b.b + k][1]) for b in matched.get_matching_blocks() for k in range(b.size)]
    off = np.abs([start - truth for start, truth in blocks])
    assert len(off) >= 0.7 * len(known)
    assert np.median(off) <= 0.05
    assert np.percentile(off, 95) <= 0.2


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 319, 320, SAMPLE_RATE // 10])
def test_a_window_too_short_for_word_times_is_harmless(recognizer: Recognizer, samples: int) -> None:
    """Sound of a tenth of a second and less, and the model made to say something: it can be no word with a time."""
    noise = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    params = TranscribeParams(audio="a", no_speech_threshold=None, logprob_threshold=None, **GREEDY)
    segments = recognizer.recognise(noise, RecognitionRequest(params, "en", None, lambda _: None))
    assert all(word.end <= 1.0 for segment in segments for word in segment.words)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_windows_are_decoded_together_as_each_would_be_alone(
    recognizer: Recognizer, sound: Samples, speech: Speech, beam_size: int
) -> None:
    if not isinstance(recognizer, BatchRecognizer):
        pytest.skip("transformers batches by itself, see batch_size")
    params = TranscribeParams(audio="", temperature=(0.0,), beam_size=beam_size)
    request = RecognitionRequest(params, "en", None, lambda _: None)
    pause = 4 * SAMPLE_RATE
    windows = [sound, sound[:pause], sound[pause:]]
    together = recognizer.recognise_together(windows, request)
    for window, reading in zip(windows, together, strict=True):
        (alone,) = recognizer.recognise_together([window], request)
        assert text_of(reading) == text_of(alone)
        assert reading.avg_logprob == pytest.approx(alone.avg_logprob, abs=0.02)
        assert reading.no_speech_prob == pytest.approx(alone.no_speech_prob, abs=0.02)
        words = [word for segment in reading.segments for word in segment.words]
        assert "".join(word.text for word in words) == text_of(reading)
        assert all(0.0 <= word.start <= word.end <= len(window) / SAMPLE_RATE for word in words)
    assert len(together[0].segments) >= 2
    assert all(segment.text.endswith(".") for segment in together[0].segments)
    assert speech.word_error_rate(text_of(together[0])) <= 0.2
    assert speech.word_error_rate(text_of(together[1]) + text_of(together[2])) <= 0.3
    assert 1 <= recognizer.windows_at_once(params) <= 32


@pytest.mark.parametrize("doubtful", [False, True])
async def test_a_long_recording_is_read_in_batches(
    bench: Bench, store: ModelStore, media: Media, speech: Speech, doubtful: bool
) -> None:
    """40 s in two windows. With every window doubtful, each is decoded again alone, and time tokens come back."""
    batched = Transcriber(store, FFmpeg(find_ffmpeg()), limits=ReadingLimits(sequential_s=5.0))
    long = media.make(".wav", "-stream_loop", "3", "-i", str(speech.file), "-ac", "1")
    usual: dict[str, Any] = {"compression_ratio_threshold": None, "temperature": (0.0, 0.0)}
    try:
        transcript = await Bench(bench.engine, batched, bench.folder).hear(
            long, **usual, logprob_threshold=0.0 if doubtful else None, no_speech_threshold=None
        )
    finally:
        await batched.close()
    quarter = speech.duration
    for i in range(4):
        spoken = [w.text for w in transcript.words if i * quarter <= w.start < (i + 1) * quarter]
        assert speech.word_error_rate(" ".join(spoken)) <= 0.3
    check_times(transcript)
    again = doubtful and bench.engine != "transformers"  # which batches by itself
    assert any(token >= TIME_TOKENS for s in transcript.segments for token in s.tokens) is again


async def test_a_long_pause_stays_empty_and_moves_what_follows(bench: Bench, media: Media, speech: Speech) -> None:
    pause = 10.0
    graph = f"[0:a]aresample=16000[a];[1:a]atrim=duration={pause}[p];[a]asplit[x][y];[x][p][y]concat=n=3:v=0:a=1"
    quiet = ("-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono")
    file = media.make(".wav", "-i", str(speech.file), *quiet, "-filter_complex", graph, "-ac", "1")
    transcript = await bench.hear(file)
    check_times(transcript)
    first = [w for w in transcript.words if w.end < 12.0]
    second = [w for w in transcript.words if w.start > speech.duration + pause - 1.0]
    assert len(first) + len(second) == len(transcript.words)
    assert speech.word_error_rate(" ".join(w.text for w in first)) <= 0.2
    assert speech.word_error_rate(" ".join(w.text for w in second)) <= 0.2


async def test_options_reach_the_model(bench: Bench, speech: Speech) -> None:
    transcript = await bench.hear(
        speech.file,
        language="en-GB",
        suppress_tokens=(-1, COUNTRY_TOKEN, 10**6),
        temperature=(0.2,),
        word_timestamps=False,
        vad=False,
        **bench.without_lacking(best_of=2, condition_on_previous_text=True),
    )
    assert speech.word_error_rate(transcript.text) <= 0.4
    assert COUNTRY_TOKEN not in {token for s in transcript.segments for token in s.tokens}
    assert {s.temperature for s in transcript.segments} == {0.2}
    assert transcript.words == ()
    check_times(transcript)


async def test_the_prompt_is_heard(bench: Bench, speech: Speech) -> None:
    narrow: dict[str, Any] = {"beam_size": 2, "word_timestamps": False, **bench.without_lacking(patience=0.1)}
    plain = await bench.hear(speech.file, **narrow)
    led = await bench.hear(
        speech.file,
        **narrow,
        initial_prompt="all of this is in lower case, it never starts with a capital",
    )
    assert plain.text.startswith("And so")
    assert led.text.startswith("and so")
    assert COUNTRY_TOKEN in {token for s in plain.segments for token in s.tokens}


@pytest.mark.parametrize("timestamps", ["none", "segment"])
async def test_times_are_given_as_asked(bench: Bench, speech: Speech, timestamps: str) -> None:
    transcript = await bench.hear(speech.file, timestamps=timestamps)
    assert speech.word_error_rate(transcript.text) <= 0.2
    assert transcript.words == ()
    check_times(transcript)


async def test_what_an_engine_lacks_is_refused_by_name(bench: Bench, speech: Speech) -> None:
    asked = {"hotwords": "Kennedy", "chunk_length": 5.0, "patience": 2.0}
    refused = set(lacking(bench.engine, RecognitionOptions(**asked)))
    assert refused
    for name in refused:
        with pytest.raises(OptionUnsupported, match=f"{bench.engine} has no {name}") as caught:
            await bench.hear(speech.file, **{name: asked[name]})
        assert caught.value.info.where == name


async def test_a_model_that_cannot_translate_says_so(bench: Bench, speech: Speech) -> None:
    with pytest.raises(OptionUnsupported, match=r"'tiny\.en' cannot translate"):
        await bench.hear(speech.file, translate=True)


async def test_an_english_model_refuses_another_language(bench: Bench, speech: Speech) -> None:
    with pytest.raises(LanguageUnsupported, match="English only"):
        await bench.hear(speech.file, language="pt")


async def test_a_missing_model_names_those_that_are_there(bench: Bench, media: Media) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        await bench.hear(media.tone(), model="large-v3")
    assert "tiny.en" in caught.value.info.hint


async def test_a_damaged_model_is_told(bench: Bench, store: ModelStore, speech: Speech, tmp_path: Path) -> None:
    places = {"faster-whisper": "damaged/model.bin", "openai-whisper": "damaged.pt"}
    damaged = tmp_path / places.get(bench.engine, "damaged/model.safetensors")
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(b"not a model" * 100)
    for name in ("tokenizer.json", "config.json"):
        (damaged.parent / name).write_text("{}")
    transcriber = Transcriber(ModelStore(tmp_path), FFmpeg(find_ffmpeg()))
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        await Bench(bench.engine, transcriber, tmp_path).hear(speech.file, model="damaged")
    await transcriber.close()


async def test_what_is_no_sound_is_refused(bench: Bench, media: Media, tmp_path: Path) -> None:
    text = tmp_path / "in" / "song.mp3"
    text.parent.mkdir()
    text.write_text("This is no music at all.\n" * 200)
    with pytest.raises(MediaUnreadable):
        await bench.hear(text)
    with pytest.raises(NoAudio):
        await bench.hear(media.video())


async def test_cancelling_stops_the_engine_and_leaves_it_usable(bench: Bench, media: Media, speech: Speech) -> None:
    long = media.make(".wav", "-stream_loop", "9", "-i", str(speech.file), "-ac", "1")
    seen: list[Progress] = []
    listening = asyncio.Event()
    loop = asyncio.get_running_loop()

    def report(progress: Progress) -> None:
        seen.append(progress)
        if progress.stage == "transcribe":
            loop.call_soon_threadsafe(listening.set)

    job = asyncio.create_task(bench.hear(long, report=report))
    async with asyncio.timeout(HANG_S):
        await listening.wait()
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    # The one thread answers the next job only once it has let go of this one.
    assert speech.word_error_rate((await bench.hear(speech.file)).text) <= 0.2
    assert seen[-1].percent < 60.0


def test_a_given_text_is_laid_on_the_sound(recognizer: Recognizer, speech: Speech) -> None:
    sound = speech.samples()
    words = recognizer.align(sound, " " + speech.text, "en")
    assert "".join(w.text for w in words) == " " + speech.text
    assert all(0.0 <= w.start <= w.end <= speech.duration for w in words)
    assert all(earlier.end <= later.start for earlier, later in pairwise(words))
    begins = {w.text.strip(): w.start for w in reversed(words)}
    assert begins["Ask"] - begins["Americans"] >= 1.0  # a pause lies between them
    assert all(w.log_probability <= w.least <= 0.0 for w in words)

    other = recognizer.align(sound, " And so, my purple fellow Americans.", "en")
    least = {w.text.strip(): w.least for w in other}
    assert least["purple"] < UNSAID < min(w.least for w in words)
    assert least["purple"] < least["fellow"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(5.0, ""), (0.0, " word"), (0.01, " word"), (5.0, " word" * 1000), (5.0, "<|endoftext|>")]
)
def test_what_cannot_be_laid_on_sound_is_harmless(
    recognizer: Recognizer, speech: Speech, seconds: float, text: str
) -> None:
    words = recognizer.align(speech.samples()[: int(seconds * SAMPLE_RATE)], text, "en")
    assert "".join("".join(w.text for w in words).split()) in ("", "<|endoftext|>")


async def test_a_script_comes_back_word_for_word(bench: Bench, speech: Speech) -> None:
    """Names and marks as they are written, whatever was heard; what nobody says is left out and told."""
    written = "And so, my fellow Amerikans:\n\nask *not* — purple — what your country can do for you…"
    paragraphs = (*written.split("\n\n"), "\nAsk what you can do 4 your country!")
    transcript = await bench.hear(speech.file, script=(paragraphs[0], "\n" + paragraphs[1], paragraphs[2]))
    assert "".join(s.text for s in transcript.segments) == (
        "And so, my fellow Amerikans:\n\nask *not* — what your country can do for you…"
        "\n\nAsk what you can do 4 your country!"
    )
    check_times(transcript)
    report = transcript.script
    assert report is not None
    assert (report.unspoken, report.unwritten) == (1, 0)
    assert [d.script for d in report.differences if not d.heard] == ["purple —"]
    plain = await bench.hear(speech.file)
    starts = {w.text.strip(" .,"): w.start for w in plain.words}
    assert transcript.words[0].start == pytest.approx(plain.words[0].start, abs=0.05)
    assert next(w for w in transcript.words if "Amerikans" in w.text).start == pytest.approx(
        starts["Americans"], abs=0.3
    )


async def test_what_is_said_and_not_written_shifts_nothing(bench: Bench, speech: Speech) -> None:
    script = ("And so, my fellow Americans.", "Ask what you can do for your country.")
    transcript = await bench.hear(speech.file, script=script)
    assert speech.word_error_rate(transcript.text) <= 0.2
    report = transcript.script
    assert report is not None
    assert (report.unspoken, report.unwritten) == (0, 9)
    kept = await bench.hear(speech.file, script=script, keep_script=True)
    assert [s.text.strip() for s in kept.segments] == list(script)
    assert [round(s.start, 1) for s in kept.segments] == [round(transcript.segments[k].start, 1) for k in (0, -1)]


async def test_a_script_of_another_recording_is_refused(bench: Bench, media: Media, speech: Speech) -> None:
    other = ("Der Ausschuss hat den Haushalt des kommenden Jahres am Dienstag ohne Aussprache angenommen.",)
    with pytest.raises(ScriptMismatch) as caught:
        await bench.hear(speech.file, script=other)
    assert not caught.value.retryable
    with pytest.raises(ScriptMismatch, match="Nothing is said"):
        await bench.hear(media.silence(3.0), script=other)


async def test_models_are_swapped(bench: Bench, store: ModelStore, speech: Speech) -> None:
    (path,) = (each.find(store, "tiny.en") for each in ENGINES if each.name == bench.engine)
    assert path is not None
    transcriber = Transcriber(ModelStore(extra={"one": path, "two": path}), FFmpeg(find_ffmpeg()))
    bench = Bench(bench.engine, transcriber, bench.folder)
    heard = [await bench.hear(speech.file, model=name, word_timestamps=False) for name in ("one", "two", "one")]
    await transcriber.close()
    assert [t.model for t in heard] == ["one", "two", "one"]
    assert len({t.text for t in heard}) == 1


def text_of(reading: WindowReading) -> str:
    return "".join(segment.text for segment in reading.segments)


def check_times(transcript: Transcript) -> None:
    for items in (transcript.segments, transcript.words):
        assert all(0.0 <= item.start <= item.end <= transcript.duration for item in items)
        assert all(earlier.end <= later.start for earlier, later in pairwise(items))
    assert [s.id for s in transcript.segments] == list(range(len(transcript.segments)))


@pytest.mark.parametrize("seconds", [0.05, *(pytest.param(s, marks=pytest.mark.full) for s in (29.99, 30.0, 30.01))])
async def test_any_length_up_to_and_over_a_window(bench: Bench, media: Media, speech: Speech, seconds: float) -> None:
    repeated = ("-stream_loop", "3", "-i", str(speech.file), "-t", str(seconds))
    transcript = await bench.hear(media.make(".flac", *repeated), vad=False)
    assert transcript.duration == pytest.approx(seconds, abs=0.002)
    check_times(transcript)
    assert transcript.text.lower().count("americans") == (3 if seconds > 29 else 0)


async def test_an_inverted_channel_and_a_cut_end_cost_no_words(
    bench: Bench, media: Media, speech: Speech, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stereo = ("-i", str(speech.file), "-af", "pan=stereo|c0=c0|c1=-1*c0")
    whole = media.make(".mp3", *stereo)
    cut = tmp_path_factory.mktemp("cut") / "cut.mp3"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 9 // 10])
    transcript = await bench.hear(media.make(".wav", *stereo))
    assert speech.word_error_rate(transcript.text) <= 0.2 and transcript.warnings == ()
    broken = await bench.hear(cut)
    assert "americans" in broken.text.lower()
    assert broken.warnings[0].startswith(f"The recording is cut off: its sound ends at {broken.duration:.1f} s of ")


async def test_no_speech_says_why(bench: Bench, media: Media) -> None:
    (reason,) = (await bench.hear(media.silence(2.0))).warnings
    assert reason == "Nothing can be heard: the recording is silent from start to end."
