"""The operation transcribe: recognises the speech of a media file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Event
from typing import Literal, TypeVar

from gpu_dispatch.speech_names import UNDETERMINED
from gpu_dispatch.speech_options import check_options
from gpu_dispatch.task import Progress, ScriptReport, Segment, TranscribeParams, Transcript
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.speech.audio import Pcm, Sound, decode_audio, to_samples
from gpu_dispatch.worker.speech.chunks import CHUNK_S, Chunk, audible_spans, detect_speech, plan_chunks, whole_of
from gpu_dispatch.worker.speech.correction import Correction, corrected
from gpu_dispatch.worker.speech.engine import (
    SAMPLE_RATE,
    Device,
    RecognitionRequest,
    Recognizer,
    SpeechEngine,
    whisper_code,
)
from gpu_dispatch.worker.speech.forced_alignment import ForcedWord
from gpu_dispatch.worker.speech.languages import (
    ChunksInLanguage,
    Heard,
    allowed_codes,
    detect,
    detect_parts,
    language_warnings,
)
from gpu_dispatch.worker.speech.models import ModelStore
from gpu_dispatch.worker.speech.postprocess import Cleaned
from gpu_dispatch.worker.speech.quality import quality_of
from gpu_dispatch.worker.speech.registry import ENGINES, EngineChoice, WarmModel, choose_engine
from gpu_dispatch.worker.speech.script import follow_script, nothing_said
from gpu_dispatch.worker.video.ffmpeg import FFmpeg
from manifests.errors import EngineUnavailable, RunCancelled

T = TypeVar("T")

REPORT_EVERY_S = 0.5
PROMPT_CHARACTERS = 1000
"""More than the 223 tokens of a prompt that Whisper uses."""


class Transcriber:
    """An Operation that keeps its model in memory between jobs. Jobs share one model and one thread, in turn.

    A cancelled job returns at once; its thread stops at the end of the current window, at most 30 s of sound.
    """

    def __init__(
        self,
        store: ModelStore,
        ffmpeg: FFmpeg,
        *,
        engines: Sequence[SpeechEngine] = ENGINES,
        device: Device | Literal["auto"] = "auto",
        chunk_s: float = CHUNK_S,
        correct: Correction = corrected,
    ) -> None:
        """`chunk_s` is how many seconds of speech are recognised at once; it bounds the memory."""
        self._store = store
        self._ffmpeg = ffmpeg
        self._engines = engines
        self._device = device
        self._block_s = chunk_s
        self._correct = correct
        self._warm = WarmModel()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="speech")
        self._stops: set[Event] = set()

    async def __call__(self, params: TranscribeParams, job: JobContext) -> Transcript:
        """Returns the transcript; its words are in order within [0, duration], and silence gives no segments.

        Raises ModelUnavailable, EngineUnavailable, OptionUnsupported, LanguageUnsupported, ScriptMismatch, and what
        `decode_audio` raises.
        """
        check_options(params)
        progress = _Reporter(job.report)
        progress(0.0, "load")
        choice = await self._run(choose_engine, params.engine, params.model, self._store, self._engines, params)
        sound = await decode_audio(job.path(params.audio), self._ffmpeg, params)
        stop = Event()
        self._stops.add(stop)
        try:
            return await self._run(self._transcribe, params, choice, sound, progress, stop)
        finally:
            stop.set()
            self._stops.discard(stop)

    async def idle(self) -> None:
        """Returns when the thread has finished all earlier work."""
        await self._run(int)

    async def close(self) -> None:
        """Stops running jobs and releases the model's memory."""
        for stop in self._stops:
            stop.set()
        self._thread.submit(self._warm.release)
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def _transcribe(
        self, params: TranscribeParams, choice: EngineChoice, sound: Sound, progress: _Reporter, stop: Event
    ) -> Transcript:
        pcm = sound.pcm
        voice = detect_speech(pcm, lambda: _continue(stop)) if params.vad else whole_of(audible_spans(pcm))
        chunks = plan_chunks(pcm, voice.spans, self._block_s)
        duration = round(len(pcm) / SAMPLE_RATE, 3)
        heard = Heard(params.language or UNDETERMINED, 0.0)
        told = Cleaned((), ())
        device: Device = "cpu"
        report: ScriptReport | None = None
        _continue(stop)
        if chunks:  # a recording without speech needs no model and no GPU
            device = self._pick_device(choice.engine)
            recognizer = self._warm.get(choice, self._store, device)
            heard, parts = _languages(params, recognizer, pcm, chunks, self._block_s, stop)
            found: list[Segment] = []
            for part in parts:
                reading = _Transcription(recognizer, params, part.language, pcm, duration, progress, stop)
                own = part.language if len(parts) > 1 else ""
                found += [replace(segment, language=own) for segment in reading.read(part.chunks)]
            told = self._correct(found, pcm, params.compression_ratio_threshold)
            if params.script:
                progress(0.0, "align")
                aligned = _Alignment(recognizer, heard.language, pcm, stop)
                scripted = follow_script(params.script, told.segments, duration, aligned.read, keep=params.keep_script)
                told, report = replace(told, segments=scripted.segments), scripted.report
        elif params.script:
            raise nothing_said()
        progress(100.0, "transcribe")
        return Transcript(
            language=heard.language,
            language_probability=heard.probability,
            duration=duration,
            segments=told.segments,
            model=params.model,
            engine=choice.engine.name,
            device=device,
            warnings=(
                *sound.warnings,
                *(() if params.multilingual else language_warnings(heard)),
                *(() if told.segments else (sound.no_speech,)),
            ),
            quality=quality_of(
                told.segments,
                told.loops,
                voice_s=voice.voice_s,
                duration=duration,
                first_temperature=params.temperature[0],
            ),
            script=report,
        )

    def _pick_device(self, engine: SpeechEngine) -> Device:
        offered = engine.devices()
        if self._device == "auto":
            return offered[0]
        if self._device not in offered:
            raise EngineUnavailable(f"{engine.name} sees no GPU here.", hint="Check the driver, or use the CPU.")
        return self._device


@dataclass(frozen=True, slots=True)
class _Transcription:
    """Recognises one recording with a loaded model, block by block."""

    recognizer: Recognizer
    params: TranscribeParams
    language: str
    pcm: Pcm
    duration: float
    progress: _Reporter
    stop: Event

    def read(self, chunks: Sequence[Chunk]) -> list[Segment]:
        found: list[Segment] = []
        prompt = self.params.initial_prompt
        for block in chunks:
            segments = self._read_block(block, prompt)
            found += [block.place(s) for s in segments]
            text = "".join(s.text for s in segments)
            prompt = text[-PROMPT_CHARACTERS:] if self.params.condition_on_previous_text and text else None
        return found

    def _read_block(self, block: Chunk, prompt: str | None) -> list[Segment]:
        def on_progress(seconds: float) -> None:
            _continue(self.stop)
            self.progress(100.0 * block.moment(seconds) / self.duration, "transcribe")

        on_progress(0.0)
        request = RecognitionRequest(self.params, self.language, prompt, on_progress)
        return self.recognizer.recognise(block.samples(self.pcm), request)


class _Alignment:
    """Lays texts on parts of one recording with a loaded model."""

    def __init__(self, recognizer: Recognizer, language: str, pcm: Pcm, stop: Event) -> None:
        self._recognizer = recognizer
        self._language = language
        self._pcm = pcm
        self._stop = stop
        self._part: tuple[int, int] = (0, 0)
        self._samples = to_samples(pcm[:0])

    def read(self, start: float, end: float, text: str) -> tuple[ForcedWord, ...]:
        """Lays `text` on the sound between two seconds of the recording: a `ForcedReader`."""
        _continue(self._stop)
        part = (int(start * SAMPLE_RATE), int(end * SAMPLE_RATE))
        if part != self._part:
            self._part, self._samples = part, to_samples(self._pcm[slice(*part)])
        return self._recognizer.align(self._samples, text, self._language)


class _Reporter:
    """Reports progress that never falls: a change of stage at once, else every REPORT_EVERY_S seconds."""

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self._report = report
        self._last = Progress(0.0, "")
        self._at = 0.0

    def __call__(self, percent: float, stage: str) -> None:
        now = time.monotonic()
        due = percent >= 100.0 or now - self._at >= REPORT_EVERY_S
        if stage != self._last.stage or (due and percent > self._last.percent):
            self._last, self._at = Progress(min(max(percent, self._last.percent), 100.0), stage), now
            self._report(self._last)


def _languages(
    params: TranscribeParams, recognizer: Recognizer, pcm: Pcm, chunks: Sequence[Chunk], limit_s: float, stop: Event
) -> tuple[Heard, tuple[ChunksInLanguage, ...]]:
    """Returns the recording's language, and the chunks to read in each: all in one unless `multilingual` is asked."""
    if params.language is not None:
        code = whisper_code(params.language, recognizer.languages, model=params.model)
        return Heard(code, 1.0), (ChunksInLanguage(tuple(chunks), code),)
    allowed = allowed_codes(params.languages, recognizer, model=params.model)
    heard = detect(recognizer, pcm, chunks, allowed)
    if not params.multilingual or len(allowed) == 1:
        return heard, (ChunksInLanguage(tuple(chunks), heard.language),)
    spans = [span for chunk in chunks for span in chunk.spans]
    parts = detect_parts(recognizer, pcm, spans, allowed, lambda: _continue(stop))
    return heard, tuple(ChunksInLanguage(plan_chunks(pcm, p.spans, limit_s), p.language) for p in parts)


def _continue(stop: Event) -> None:
    if stop.is_set():
        raise RunCancelled("The transcription was cancelled.")
