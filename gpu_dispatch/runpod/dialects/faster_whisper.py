"""The dialect of RunPod's own Whisper worker (runpod-workers/worker-faster_whisper)."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from gpu_dispatch.runpod.dialects.common import (
    CAPABILITIES,
    audio_url,
    language_code,
    model_name,
    result_from_output,
    transcription,
    unsupported,
)
from gpu_dispatch.runpod.dialects.transcripts import ForeignTranscript
from gpu_dispatch.runpod.dialects.values import lenient_text
from gpu_dispatch.task import (
    GpuResult,
    GpuTask,
    Progress,
    TaskParams,
    TranscribeParams,
)
from gpu_dispatch.transcript import Segment, Transcript
from manifests.errors import TransferFailed

NAME = "worker-faster_whisper"
ENGINE = "faster-whisper"

NO_FALLBACK_INCREMENT = 2.0
"""A temperature increment that leaves one temperature: the worker always counts up to 1."""
_SUPPORTED = frozenset(
    {
        *("translate", "temperature", "beam_size", "best_of", "patience", "length_penalty", "initial_prompt"),
        *("condition_on_previous_text", "compression_ratio_threshold", "logprob_threshold", "no_speech_threshold"),
        *("vad", "word_timestamps"),
    }
)
"""Options that the worker takes; any other is refused unless it has its default."""

UNREACHABLE_RATIO = 1e9
"""A compression ratio that no text reaches, for a threshold that is off: the worker refuses null."""

_CLOCK = r"([\d:]{1,20}[,.]\d{1,20})"
_CUE = re.compile(rf"{_CLOCK} --> {_CLOCK}\n(.*?)(?=\n\n|\Z)", re.DOTALL)


class FasterWhisperDialect:
    """Translates transcription tasks for this worker, which takes every option but suppress_tokens.

    Its translation is a second pass over the recording, with a detected language and without VAD; it is requested as an
    SRT document and has no word times.
    """

    name = NAME
    capabilities = CAPABILITIES
    claims = False
    names_tasks = False

    def refusal(self, params: TaskParams) -> str:
        if not isinstance(params, TranscribeParams):
            return f"{NAME} workers only transcribe"
        reasons = unsupported(params, engine=ENGINE, supported=_SUPPORTED)
        if _increment(params.temperature) is None:
            reasons.append("try temperatures other than in equal steps up to 1")
        if params.logprob_threshold is None:
            reasons.append("do without a logprob_threshold")
        return f"{NAME} workers cannot {', or '.join(reasons)}" if reasons else ""

    def request(self, task: GpuTask) -> Any:
        """Builds the job's input without fields that are None, as the worker refuses null."""
        params = transcription(NAME, self.refusal, task)
        url = audio_url(NAME, task, params.audio, frozenset({"http", "https", "data"}))
        ratio, silence = params.compression_ratio_threshold, params.no_speech_threshold
        body: dict[str, Any] = {
            **({"audio_base64": _base64(url)} if url[:5].lower() == "data:" else {"audio": url}),
            "model": model_name(params),
            "transcription": "plain_text",
            "translate": params.translate,
            "translation": "srt",
            "language": language_code(params),
            "temperature": params.temperature[0],
            "temperature_increment_on_fallback": _increment(params.temperature),
            "best_of": params.best_of,
            "beam_size": params.beam_size,
            # CTranslate2 requires at least one candidate: patience * beam_size >= 1.
            "patience": max(params.patience, 1 / params.beam_size),
            # The worker's default is 0, the engine's is 1.
            "length_penalty": 1.0 if params.length_penalty is None else params.length_penalty,
            "initial_prompt": params.initial_prompt,
            "condition_on_previous_text": params.condition_on_previous_text,
            "compression_ratio_threshold": UNREACHABLE_RATIO if ratio is None else ratio,
            "logprob_threshold": params.logprob_threshold,
            "no_speech_threshold": 1.0 if silence is None else silence,
            "enable_vad": params.vad,
            "word_timestamps": params.word_timestamps,
        }
        return {name: value for name, value in body.items() if value is not None}

    def progress(self, output: Any) -> Progress | None:
        """Returns None: these workers report no progress."""
        del output

    def result(self, job_id: str, output: Any, error: Any) -> GpuResult | None:
        return result_from_output(NAME, job_id, output, error, _read)


def _read(heard: ForeignTranscript) -> Transcript:
    """Parses the output. Raises TransferFailed for the text "None", which the worker makes of a failed download."""
    translation = heard.fields.get("translation")
    segments = _cues(lenient_text(translation)) if isinstance(translation, str) else None
    transcript = heard.transcript(ENGINE, segments)
    if "None" in (transcript.text, lenient_text(heard.fields.get("transcription")).strip()):
        raise TransferFailed(
            f"The {NAME} worker could not fetch the audio, and transcribed the word None instead.",
            hint="The endpoint's machines must be able to fetch the file: use an address of the store that is public.",
            where="audio",
        )
    return transcript


def _increment(temperatures: Sequence[float]) -> float | None:
    """Returns the step by which the worker reaches exactly `temperatures`; None where it cannot.

    The worker counts with numpy's arange from the first temperature to 1.000001.
    """
    first = temperatures[0]
    if len(temperatures) == 1:
        return NO_FALLBACK_INCREMENT
    step = temperatures[1] - first
    if step <= 0 or math.ceil((1.0 + 1e-6 - first) / step) != len(temperatures):
        return None
    even = all(math.isclose(t, first + i * step, abs_tol=1e-6) for i, t in enumerate(temperatures))
    return step if even else None


def _base64(url: str) -> str:
    """Returns the bytes of a `data:` address in base64."""
    kind, _, data = url.partition(",")
    if kind.lower().endswith(";base64"):
        return unquote_to_bytes(data).decode("ascii", "replace")
    return base64.b64encode(unquote_to_bytes(data)).decode()


def _cues(srt: str) -> list[Segment]:
    """Parses the worker's SRT into segments without words; each text gets a leading space, as English has."""
    segments: list[Segment] = []
    for start, end, text in _CUE.findall(srt):
        if said := " ".join(text.split()):
            segments.append(Segment(len(segments), _seconds(start), max(_seconds(start), _seconds(end)), f" {said}"))
    return segments


def _seconds(clock: str) -> float:
    """Returns the seconds of HH:MM:SS,mmm, at most a hundred hours."""
    total = 0.0
    for part in clock.replace(",", ".").split(":"):
        total = total * 60 + float(part or 0)
    return min(total, 360_000.0)
