"""The dialect of the RunPod Hub's Whisper worker (FresHHerB/whisper-hub)."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urldefrag, urlsplit

from gpu_dispatch.runpod.dialects.common import (
    CAPABILITIES,
    DEFAULTS,
    audio_url,
    language_code,
    model_name,
    result_from_output,
    transcription,
    unsupported,
)
from gpu_dispatch.runpod.dialects.transcripts import ForeignTranscript
from gpu_dispatch.task import (
    GpuResult,
    GpuTask,
    Progress,
    TaskParams,
    TranscribeParams,
)
from gpu_dispatch.transcript import Transcript

NAME = "whisper-hub"
ENGINE = "openai-whisper"
MAX_BEAM = 10

_SUPPORTED = frozenset(
    {
        "temperature",
        "beam_size",
        "word_timestamps",
        *("translate", "initial_prompt"),  # refused below with messages of their own
        *("vad", "condition_on_previous_text"),  # the worker decides
    }
)
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,5}")


class WhisperHubDialect:
    """Translates transcription tasks for this worker: a model, a language, one temperature, a beam size and word times.

    The worker uses no VAD and conditions on previous text, whatever `vad` and `condition_on_previous_text` ask for.
    """

    name = NAME
    capabilities = CAPABILITIES
    claims = False
    names_tasks = False

    def refusal(self, params: TaskParams) -> str:
        if not isinstance(params, TranscribeParams):
            return f"{NAME} workers only transcribe"
        reasons = unsupported(params, engine=ENGINE, supported=_SUPPORTED)
        if params.translate:
            reasons.append("translate")
        if params.initial_prompt:
            reasons.append("take a prompt")
        if params.beam_size > MAX_BEAM:
            reasons.append(f"search with more than {MAX_BEAM} beams")
        if len(params.temperature) > 1 and params.temperature != DEFAULTS.temperature:
            reasons.append("try several temperatures")
        return f"{NAME} workers cannot {', or '.join(reasons)}" if reasons else ""

    def request(self, task: GpuTask) -> Any:
        params = transcription(NAME, self.refusal, task)
        body: dict[str, Any] = {
            "audio": _named(audio_url(NAME, task, params.audio)),
            "model": model_name(params),
            "temperature": params.temperature[0],
            "beam_size": params.beam_size,
            "word_timestamps": params.word_timestamps,
        }
        if code := language_code(params):
            body["language"] = code
        return body

    def progress(self, output: Any) -> Progress | None:
        """Returns None: these workers report no progress."""
        del output

    def result(self, job_id: str, output: Any, error: Any) -> GpuResult | None:
        return result_from_output(NAME, job_id, output, error, _read)


def _read(heard: ForeignTranscript) -> Transcript:
    return heard.transcript(ENGINE)


def _named(url: str) -> str:
    """Returns `url` with a fragment, which is never sent, that ends in a file extension.

    The worker names its copy after everything behind the address's last dot; with a signature there, the name would be
    longer than file systems allow.
    """
    if not url.startswith("http") or not urlsplit(url).query:
        return url
    suffix = PurePosixPath(urlsplit(url).path).suffix
    return f"{urldefrag(url).url}#/audio{suffix if _EXTENSION.fullmatch(suffix) else '.mp3'}"
