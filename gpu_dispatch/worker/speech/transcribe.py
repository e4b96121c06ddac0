"""The operation transcribe: recognises the speech of a media file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Literal, TypeVar

from gpu_dispatch.speech_names import UNDETERMINED
from gpu_dispatch.speech_options import check_options
from gpu_dispatch.task import TranscribeParams
from gpu_dispatch.transcript import Transcript
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.speech.audio import Sound, decode_audio
from gpu_dispatch.worker.speech.chunks import audible_spans, detect_speech, whole_of
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE, Device, SpeechEngine
from gpu_dispatch.worker.speech.languages import Heard, language_warnings
from gpu_dispatch.worker.speech.models import ModelStore
from gpu_dispatch.worker.speech.quality import quality_of
from gpu_dispatch.worker.speech.reader import (
    ProgressReporter,
    ReadingLimits,
    RecordingReader,
    RecordingText,
    check_stop,
)
from gpu_dispatch.worker.speech.registry import ENGINES, EngineChoice, WarmModel, choose_engine
from gpu_dispatch.worker.speech.script import nothing_said
from gpu_dispatch.worker.video.ffmpeg import FFmpeg
from manifests.errors import EngineUnavailable

T = TypeVar("T")


class Transcriber:
    """An Operation that keeps its model in memory between jobs. Jobs share one model and one thread, in turn.

    A cancelled job returns at once; its thread stops at the end of the current window of at most 30 s, or of all those
    that are decoded together with it.
    """

    def __init__(
        self,
        store: ModelStore,
        ffmpeg: FFmpeg,
        *,
        engines: Sequence[SpeechEngine] = ENGINES,
        device: Device | Literal["auto"] = "auto",
        limits: ReadingLimits | None = None,
    ) -> None:
        self._store = store
        self._ffmpeg = ffmpeg
        self._engines = engines
        self._device = device
        self._limits = limits or ReadingLimits()
        self._warm = WarmModel()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="speech")
        self._stops: set[Event] = set()

    async def __call__(self, params: TranscribeParams, job: JobContext) -> Transcript:
        """Returns the transcript; its words are in order within [0, duration], and silence gives no segments.

        Raises ModelUnavailable, EngineUnavailable, OptionUnsupported, LanguageUnsupported, ScriptMismatch, and what
        `decode_audio` raises.
        """
        check_options(params)
        progress = ProgressReporter(job.report)
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
        self, params: TranscribeParams, choice: EngineChoice, sound: Sound, progress: ProgressReporter, stop: Event
    ) -> Transcript:
        pcm = sound.pcm
        voice = detect_speech(pcm, lambda: check_stop(stop)) if params.vad else whole_of(audible_spans(pcm))
        duration = round(len(pcm) / SAMPLE_RATE, 3)
        told = RecordingText(Heard(params.language or UNDETERMINED, 0.0))
        device: Device = "cpu"
        check_stop(stop)
        if voice.spans:  # a recording without speech needs no model and no GPU
            device = self._pick_device(choice.engine)
            recognizer = self._warm.get(choice, self._store, device)
            told = RecordingReader(recognizer, params, pcm, self._limits, progress, stop).read(voice.spans)
        elif params.script:
            raise nothing_said()
        progress(100.0, "transcribe")
        return Transcript(
            language=told.heard.language,
            language_probability=told.heard.probability,
            duration=duration,
            segments=told.segments,
            model=params.model,
            engine=choice.engine.name,
            device=device,
            warnings=(
                *sound.warnings,
                *(() if params.multilingual else language_warnings(told.heard)),
                *(() if told.segments else (sound.no_speech,)),
            ),
            quality=quality_of(
                told.segments,
                told.loops,
                voice_s=voice.voice_s,
                duration=duration,
                first_temperature=params.temperature[0],
                again=told.again,
            ),
            script=told.script,
        )

    def _pick_device(self, engine: SpeechEngine) -> Device:
        offered = engine.devices()
        if self._device == "auto":
            return offered[0]
        if self._device not in offered:
            raise EngineUnavailable(f"{engine.name} sees no GPU here.", hint="Check the driver, or use the CPU.")
        return self._device
