"""Reads one recording with a loaded model: languages, windows one by one or together, the sound's times, a script."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Event

from gpu_dispatch.task import Progress, TranscribeParams
from gpu_dispatch.transcript import CutLoop, ScriptReport, Segment
from gpu_dispatch.worker.speech.audio import Pcm, to_samples
from gpu_dispatch.worker.speech.batches import SEQUENTIAL_S, Recognition, batches_pay, read_in_batches, window_s
from gpu_dispatch.worker.speech.chunks import CHUNK_S, Chunk, Span, plan_chunks
from gpu_dispatch.worker.speech.correction import Correction, corrected
from gpu_dispatch.worker.speech.engine import (
    SAMPLE_RATE,
    BatchRecognizer,
    RecognitionRequest,
    Recognizer,
    WindowReading,
    whisper_code,
)
from gpu_dispatch.worker.speech.forced_alignment import ForcedWord
from gpu_dispatch.worker.speech.languages import ChunksInLanguage, Heard, allowed_codes, detect, detect_parts
from gpu_dispatch.worker.speech.script import follow_script
from gpu_dispatch.worker.speech.windows import plan_windows
from manifests.errors import RunCancelled

REPORT_EVERY_S = 0.5
PROMPT_CHARACTERS = 1000
"""More than the 223 tokens of a prompt that Whisper uses."""

SpanPlan = Callable[[Sequence[Span]], tuple[Chunk, ...]]


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """How much is recognised at once, and how what is said is corrected by the sound."""

    chunk_s: float = CHUNK_S
    """Seconds of speech that are recognised at once, one window after the other; it bounds the memory."""
    sequential_s: float = SEQUENTIAL_S
    """Up to how many seconds of speech a CPU decodes one window after the other."""
    correct: Correction = corrected


@dataclass(frozen=True, slots=True)
class RecordingText:
    """What is said in a recording."""

    heard: Heard
    segments: tuple[Segment, ...] = ()
    loops: tuple[CutLoop, ...] = ()
    again: int = 0
    """Windows that were decoded together with others and then again, alone."""
    script: ScriptReport | None = None


class ProgressReporter:
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


@dataclass(frozen=True, slots=True)
class RecordingReader:
    """Reads one recording with a loaded model, which other threads do not use meanwhile."""

    recognizer: Recognizer
    params: TranscribeParams
    pcm: Pcm
    limits: ReadingLimits
    progress: ProgressReporter
    stop: Event

    def read(self, spans: Sequence[Span]) -> RecordingText:
        """Returns what is said in `spans`. Raises LanguageUnsupported, ScriptMismatch or RunCancelled."""
        batches = self._batches(spans)
        size = batches.windows_at_once(self.params) if batches else 0
        heard, parts = self._languages(spans, self._windows if batches else self._chunks)
        found: list[Segment] = []
        again = 0
        for part in parts:
            reading = self._read_together(batches, size, part) if batches else self._read_alone(part)
            own = part.language if len(parts) > 1 else ""
            found += [replace(segment, language=own) for segment in reading.segments]
            again += reading.again
        told = self.limits.correct(found, self.pcm, self.params.compression_ratio_threshold)
        if not self.params.script:
            return RecordingText(heard, told.segments, told.loops, again)
        self.progress(0.0, "align")
        aligner = _ScriptAligner(self.recognizer, heard.language, self.pcm, self.stop)
        duration = round(len(self.pcm) / SAMPLE_RATE, 3)
        scripted = follow_script(
            self.params.script, told.segments, duration, aligner.align, keep=self.params.keep_script
        )
        return RecordingText(heard, scripted.segments, told.loops, again, scripted.report)

    def _batches(self, spans: Sequence[Span]) -> BatchRecognizer | None:
        """Returns the recognizer when it is to decode windows of `spans` together."""
        speech_s = window_s(Chunk(tuple(spans)))
        pay = batches_pay(self.params, self.recognizer.device, speech_s, self.limits.sequential_s)
        return self.recognizer if pay and isinstance(self.recognizer, BatchRecognizer) else None

    def _windows(self, spans: Sequence[Span]) -> tuple[Chunk, ...]:
        return plan_windows(self.pcm, spans)

    def _chunks(self, spans: Sequence[Span]) -> tuple[Chunk, ...]:
        return plan_chunks(self.pcm, spans, self.limits.chunk_s)

    def _languages(self, spans: Sequence[Span], plan: SpanPlan) -> tuple[Heard, tuple[ChunksInLanguage, ...]]:
        """Returns the recording's language, and what to read in each: all in one unless `multilingual` is asked."""
        params, recognizer = self.params, self.recognizer
        if params.language is not None:
            code = whisper_code(params.language, recognizer.languages, model=params.model)
            return Heard(code, 1.0), (ChunksInLanguage(plan(spans), code),)
        allowed = allowed_codes(params.languages, recognizer, model=params.model)
        chunks = plan(spans)
        heard = detect(recognizer, self.pcm, chunks, allowed)
        if not params.multilingual or len(allowed) == 1:
            return heard, (ChunksInLanguage(chunks, heard.language),)
        parts = detect_parts(recognizer, self.pcm, spans, allowed, lambda: check_stop(self.stop))
        if len(parts) == 1:
            return heard, (ChunksInLanguage(chunks, heard.language),)
        return heard, tuple(ChunksInLanguage(plan(part.spans), part.language) for part in parts)

    def _read_alone(self, part: ChunksInLanguage) -> Recognition:
        """Recognises one chunk after the other."""
        found: list[Segment] = []
        prompt = self.params.initial_prompt
        for chunk in part.chunks:
            segments = self._read_chunk(chunk, part.language, prompt)
            found += [chunk.place(s) for s in segments]
            text = "".join(s.text for s in segments)
            prompt = text[-PROMPT_CHARACTERS:] if self.params.condition_on_previous_text and text else None
        return Recognition(tuple(found))

    def _read_together(self, recognizer: BatchRecognizer, size: int, part: ChunksInLanguage) -> Recognition:
        """Recognises several windows at once; the user's prompt goes to the first, alone, as in `_read_alone`."""

        def together(batch: Sequence[Chunk]) -> list[WindowReading]:
            request = self._request(batch[0], part.language, None)
            return recognizer.recognise_together([window.samples(self.pcm) for window in batch], request)

        prompt = self.params.initial_prompt
        prompted = part.chunks[: 1 if prompt else 0]
        first = [w.place(s) for w in prompted for s in self._read_chunk(w, part.language, prompt)]
        rest = read_in_batches(
            part.chunks[len(prompted) :],
            size,
            self.params,
            together=together,
            alone=lambda window: self._read_chunk(window, part.language, None),
        )
        return replace(rest, segments=(*first, *rest.segments))

    def _read_chunk(self, chunk: Chunk, language: str, prompt: str | None) -> list[Segment]:
        return self.recognizer.recognise(chunk.samples(self.pcm), self._request(chunk, language, prompt))

    def _request(self, chunk: Chunk, language: str, prompt: str | None) -> RecognitionRequest:
        def on_progress(seconds: float) -> None:
            check_stop(self.stop)
            self.progress(100.0 * chunk.moment(seconds) * SAMPLE_RATE / len(self.pcm), "transcribe")

        on_progress(0.0)
        return RecognitionRequest(self.params, language, prompt, on_progress)


class _ScriptAligner:
    """Lays texts on parts of one recording with a loaded model."""

    def __init__(self, recognizer: Recognizer, language: str, pcm: Pcm, stop: Event) -> None:
        self._recognizer = recognizer
        self._language = language
        self._pcm = pcm
        self._stop = stop
        self._part: tuple[int, int] = (0, 0)
        self._samples = to_samples(pcm[:0])

    def align(self, start: float, end: float, text: str) -> tuple[ForcedWord, ...]:
        """Lays `text` on the sound between two seconds of the recording: a `ForcedReader`."""
        check_stop(self._stop)
        part = (int(start * SAMPLE_RATE), int(end * SAMPLE_RATE))
        if part != self._part:
            self._part, self._samples = part, to_samples(self._pcm[slice(*part)])
        return self._recognizer.align(self._samples, text, self._language)


def check_stop(stop: Event) -> None:
    """Raises RunCancelled once `stop` is set."""
    if stop.is_set():
        raise RunCancelled("The transcription was cancelled.")
