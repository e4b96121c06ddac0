"""The root of every error that a user can meet, and the error codes.

An error crosses processes, workflow steps and documents as an `ErrorInfo`; `GpuDropError.from_info` restores it. Codes
are stable: sidecars, dead letters and logs hold them, and scripts branch on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """What went wrong, as data."""

    code: str
    message: str
    """What went wrong, in plain words."""
    hint: str = ""
    """What to do about it."""
    retryable: bool = False
    where: str = ""
    """The place: a field ("images[3].duration"), a key, a line. Empty when the message says it all."""


class GpuDropError(Exception):
    """Root of the project's errors; each subclass is one cause, and its `code` never changes.

    A subclass names its code, and whether another attempt may succeed, as keywords:
    `class JobLost(GpuDropError, code="job_lost", retryable=True): ...`. Without them it has its parent's.
    """

    code: ClassVar[str] = "internal_error"
    default_retryable: ClassVar[bool] = False
    _by_code: ClassVar[dict[str, type[GpuDropError]]] = {}

    def __init_subclass__(cls, *, code: str | None = None, retryable: bool | None = None) -> None:
        super().__init_subclass__()
        if retryable is not None:
            cls.default_retryable = retryable
        if code is not None:
            cls.code = code
            GpuDropError._by_code[code] = cls

    def __init__(self, message: str, *, hint: str = "", where: str = "", retryable: bool | None = None) -> None:
        super().__init__(message)
        self.info = ErrorInfo(
            code=type(self).code,
            message=message,
            hint=hint,
            retryable=type(self).default_retryable if retryable is None else retryable,
            where=where,
        )

    @property
    def retryable(self) -> bool:
        return self.info.retryable

    @staticmethod
    def from_info(info: ErrorInfo) -> GpuDropError:
        """Restores the error in the class of its code; `info` keeps an unknown (third-party) code."""
        kind = GpuDropError._by_code.get(info.code, GpuDropError)
        error = kind(info.message, hint=info.hint, where=info.where, retryable=info.retryable)
        error.info = info
        return error


# Manifests: the request cannot be understood or is not permitted.
class ManifestError(GpuDropError, code="manifest_invalid"): ...


class ManifestSyntax(ManifestError, code="manifest_syntax"): ...


class ManifestTooLarge(ManifestError, code="manifest_too_large"): ...


class ManifestTooDeep(ManifestError, code="manifest_too_deep"): ...


class DocumentTooCostly(GpuDropError, code="document_too_costly"):
    """Parsing a manifest, or subtitles that it names, takes more time or memory than one document may."""


class ManifestAliases(ManifestError, code="manifest_aliases"): ...


class UnknownField(ManifestError, code="unknown_field"): ...


class MissingField(ManifestError, code="missing_field"): ...


class UnknownOperation(ManifestError, code="unknown_operation"): ...


class InvalidDuration(ManifestError, code="invalid_duration"): ...


class NoImages(ManifestError, code="no_images"): ...


class TooManyImages(ManifestError, code="too_many_images"): ...


class InvalidPath(ManifestError, code="invalid_path"): ...


class UnusableKey(ManifestError, code="unusable_key"): ...


class OutputOverwritesInput(ManifestError, code="output_overwrites_input"): ...


class OutputTaken(GpuDropError, code="output_taken"): ...


class BucketNotAllowed(ManifestError, code="bucket_not_allowed"): ...


class AddressNotAllowed(ManifestError, code="address_not_allowed"): ...


class OutOfReach(ManifestError, code="out_of_reach"):
    """A manifest names, or would write, an object outside the folders that it reaches."""


# Inputs: the manifest is valid, what it names is not.
class InputMissing(GpuDropError, code="input_missing"): ...


class InputDenied(GpuDropError, code="input_denied"): ...


class InputUnsettled(GpuDropError, code="input_unsettled"):
    """An input is still being written when the time to wait for it is over."""


class InputEmpty(GpuDropError, code="input_empty"): ...


class InputTooLarge(GpuDropError, code="input_too_large"): ...


class MediaUnreadable(GpuDropError, code="media_unreadable"): ...


class ImageUnreadable(GpuDropError, code="image_unreadable"): ...


class ImageTooLarge(GpuDropError, code="image_too_large"): ...


class NoAudio(GpuDropError, code="no_audio"): ...


class NoVideo(GpuDropError, code="no_video"): ...


class NoSpeech(GpuDropError, code="no_speech"): ...


class SubtitlesUnreadable(GpuDropError, code="subtitles_unreadable"): ...


class FontMissing(GpuDropError, code="font_missing"): ...


class ScriptUnreadable(GpuDropError, code="script_unreadable"): ...


class ScriptMismatch(GpuDropError, code="script_mismatch"):
    """A script, or subtitles to be timed anew, are not what the recording says."""


class ModelUnavailable(GpuDropError, code="model_unavailable"): ...


class EngineUnavailable(GpuDropError, code="engine_unavailable"): ...


class LanguageUnsupported(GpuDropError, code="language_unsupported"): ...


class OptionUnsupported(GpuDropError, code="option_unsupported"):
    """The model or engine that is named cannot do what an option asks for."""


# Tasks: the endpoint that runs them, or the way to it.
class TransferFailed(GpuDropError, code="transfer_failed", retryable=True): ...


class EncodeFailed(GpuDropError, code="encode_failed"): ...


class WorkerCrashed(GpuDropError, code="worker_crashed", retryable=True): ...


class ResourceExhausted(GpuDropError, code="resource_exhausted"):
    """A job exceeded its memory, disk, processes or output size; it is not tried again."""


class WorkerError(GpuDropError, code="worker_error"):
    """A defect of the worker, which no other class explains; the log holds its traceback."""


class OutputMissing(GpuDropError, code="output_missing"): ...


class OutputReplaced(GpuDropError, code="output_replaced"):
    """The object under an output's key is not the one that the run's worker wrote."""


class TaskTimedOut(GpuDropError, code="task_timed_out"): ...


class JobLost(GpuDropError, code="job_lost", retryable=True): ...


class EndpointUnavailable(GpuDropError, code="endpoint_unavailable", retryable=True):
    """An endpoint certainly did not take a task: it is busy, limited, unreachable, or has no workers."""


class EndpointDenied(GpuDropError, code="endpoint_denied"):
    """An endpoint refuses access or does not exist; it did not take the task, and the operator must act."""


class LinksUnsafe(GpuDropError, code="links_unsafe"):
    """A job's links may open more than its objects: no task goes to remote workers until the operator acts."""


class TaskRefused(GpuDropError, code="task_refused"):
    """An endpoint rejects this task, however often it is sent."""


class SubmitUnknown(GpuDropError, code="submit_unknown"):
    """A task was sent, and whether it was taken is unknown; retryable once it is certain that no job will run it."""


class QueuedTooLong(GpuDropError, code="queued_too_long", retryable=True):
    """A job found no worker in time and was withdrawn."""


class TooManyStarts(GpuDropError, code="too_many_starts"):
    """A task has reached its limit of starts, whatever their results."""


class DuplicateJob(GpuDropError, code="duplicate_job"):
    """Another job claimed the attempt before this one began; this one did nothing."""


class BudgetExceeded(GpuDropError, code="budget_exceeded"): ...


class RunCancelled(GpuDropError, code="cancelled"): ...


class RunSuperseded(GpuDropError, code="superseded"): ...


class EventTooOld(GpuDropError, code="event_too_old"): ...


# The store, the sources and the installation.
class StoreUnavailable(GpuDropError, code="store_unavailable", retryable=True): ...


class StoreDenied(GpuDropError, code="store_denied"): ...


class ObjectDenied(StoreDenied):
    """The store refuses one object permanently, to everyone, while it serves others."""


class SourceUnavailable(GpuDropError, code="source_unavailable", retryable=True):
    """A source of events cannot be reached now."""


class SourceDenied(GpuDropError, code="source_denied"):
    """A source of events refuses access, or is not set up; the operator must act."""


class ConfigError(GpuDropError, code="config_invalid"): ...


class ServerMisbehaves(GpuDropError, code="server_misbehaves"):
    """A server's answers cannot work, and waiting does not help."""


class StateError(ConfigError, code="state_unusable"):
    """The installation's stored state is not usable as it is."""
