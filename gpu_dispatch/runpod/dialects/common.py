"""What the dialects of published Whisper workers share: models, refusals, audio addresses and parsing of results."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

from gpu_dispatch.runpod.dialects.errors import failure_error
from gpu_dispatch.runpod.dialects.transcripts import ForeignTranscript, known_language_code
from gpu_dispatch.runpod.dialects.values import lenient_fields
from gpu_dispatch.speech_names import SAME_MODELS
from gpu_dispatch.task import (
    Capability,
    GpuResult,
    GpuTask,
    TaskParams,
    TranscribeParams,
)
from gpu_dispatch.transcript import Transcript
from manifests.errors import GpuDropError, TaskRefused, WorkerError
from manifests.options import RecognitionOptions, SoundSource

DEFAULTS = TranscribeParams(audio="")
"""The parameters with every option at its default: no worker refuses a default."""

CAPABILITIES: frozenset[Capability] = frozenset({"whisper"})
"""The capabilities of these workers."""

MODELS = frozenset({"tiny", "base", "small", "medium", "large-v1", "large-v2", "large-v3", "turbo"})
"""Models that both published workers accept."""

_OF_EVERY_WORKER = frozenset({"model", "engine", "language", "strategy"})
"""Options that every worker takes and whose values are checked one by one; both strategies allow what they do, decoding
one window after the other."""


def model_name(params: TranscribeParams) -> str:
    return next((names[0] for names in SAME_MODELS if params.model in names), params.model)


def language_code(params: TranscribeParams) -> str | None:
    """Returns Whisper's code of the requested language; None when it is to be detected or the model lacks it."""
    return None if params.language is None else known_language_code(params.language, model_name(params))


def unsupported(params: TranscribeParams, *, engine: str, supported: Set[str]) -> list[str]:
    """Returns what workers of `engine` cannot do of `params`; options outside `supported` must have their defaults."""
    reasons: list[str] = []
    if params.engine not in (None, engine):
        reasons.append(f"run {params.engine}")
    if model_name(params) not in MODELS:
        reasons.append(f"load the model {params.model!r}")
    elif params.language is not None and language_code(params) is None:
        reasons.append(f"recognise {params.language!r} with the model {params.model!r}")
    if params.script:
        reasons.append("follow a script")
    names = (*RecognitionOptions.model_fields, *SoundSource.model_fields)
    fixed = (name for name in names if name not in supported | _OF_EVERY_WORKER)
    return reasons + [f"take another {name}" for name in fixed if getattr(params, name) != getattr(DEFAULTS, name)]


def transcription(dialect: str, refusal: Callable[[TaskParams], str], task: GpuTask) -> TranscribeParams:
    """Returns the task's parameters. Raises TaskRefused where the dialect's workers cannot do the task."""
    reason = refusal(task.params)
    if reason or not isinstance(task.params, TranscribeParams):
        raise TaskRefused(
            f"The task is not for endpoints of dialect {dialect}: {reason}.",
            hint="Ask for what they can do, or give config.yaml an endpoint with gpudrop's own image.",
        )
    return task.params


def audio_url(dialect: str, task: GpuTask, name: str, schemes: Set[str] = frozenset({"http", "https"})) -> str:
    """Returns the address of the input `name`. Raises TaskRefused where the workers cannot open it."""
    url = next((given.url for given in task.inputs if given.name == name), "")
    scheme = url.partition(":")[0].lower()
    if scheme in schemes:
        return url
    if scheme == "file":
        message = "a file of a folder store can only be read on its own machine"
    elif scheme == "data":
        message = "bytes that lie in the manifest cannot be given to them"
    else:
        message = f"the task names no {name!r} that they could fetch"
    raise TaskRefused(
        f"The workers of dialect {dialect} cannot do the task: {message}.",
        hint="Put the file into a bucket that the endpoint can reach, or run the task on this machine.",
        where="audio",
    )


def result_from_output(
    dialect: str, job_id: str, output: Any, error: Any, read: Callable[[ForeignTranscript], Transcript]
) -> GpuResult | None:
    """Returns the result of an ended job; `read` parses output with segments or words and may raise GpuDropError."""
    fields = lenient_fields(output)
    if problem := error or fields.get("error"):
        return GpuResult(job_id, error=failure_error(dialect, problem).info)
    if not output:
        return None
    heard = ForeignTranscript(fields)
    try:
        if not isinstance(fields.get("segments"), list) and not isinstance(fields.get("word_timestamps"), list):
            raise _unreadable(dialect)
        return GpuResult(job_id, read(heard), device=heard.device)
    except GpuDropError as e:
        return GpuResult(job_id, error=e.info, device=heard.device)


def _unreadable(dialect: str) -> WorkerError:
    return WorkerError(
        f"The endpoint answered with something that is no transcript of a {dialect} worker.",
        hint="Check `dialect` and `id` of the endpoint in config.yaml.",
    )
