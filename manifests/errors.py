"""One root for every error a user can meet, and the codes they may rely on.

An error crosses processes, steps of a run and documents as an `ErrorInfo`; `GpuDropError.from_info` brings it back.
Codes are stable: they stand in sidecars, dead letters and logs, and scripts branch on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """What went wrong, as data: `code` is stable, `message` says it in plain words, `hint` what to do about it.

    `where` names the place: a field ("images[3].duration"), a key, a line. Empty when the message says it all.
    """

    code: str
    message: str
    hint: str = ""
    retryable: bool = False
    where: str = ""


class GpuDropError(Exception):
    """Root of the project's errors. A subclass is one cause; its `code` never changes."""

    code: ClassVar[str] = "internal_error"
    default_retryable: ClassVar[bool] = False
    _by_code: ClassVar[dict[str, type[GpuDropError]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "code" in cls.__dict__:
            GpuDropError._by_code[cls.code] = cls

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
        """The error again, of the class that owns its code; an unknown code (a third party's) keeps it in `info`."""
        kind = GpuDropError._by_code.get(info.code, GpuDropError)
        error = kind(info.message, hint=info.hint, where=info.where, retryable=info.retryable)
        error.info = info
        return error


# Manifests: what was asked cannot be understood or must not be done.
class ManifestError(GpuDropError):
    code = "manifest_invalid"


class ManifestSyntax(ManifestError):
    code = "manifest_syntax"


class ManifestTooLarge(ManifestError):
    code = "manifest_too_large"


class ManifestTooDeep(ManifestError):
    code = "manifest_too_deep"


class DocumentTooCostly(GpuDropError):
    """Reading a manifest, or subtitles it names, takes more time or memory than one document may."""

    code = "document_too_costly"


class ManifestAliases(ManifestError):
    code = "manifest_aliases"


class UnknownField(ManifestError):
    code = "unknown_field"


class MissingField(ManifestError):
    code = "missing_field"


class UnknownOperation(ManifestError):
    code = "unknown_operation"


class InvalidDuration(ManifestError):
    code = "invalid_duration"


class NoImages(ManifestError):
    code = "no_images"


class TooManyImages(ManifestError):
    code = "too_many_images"


class InvalidPath(ManifestError):
    code = "invalid_path"


class UnusableKey(ManifestError):
    code = "unusable_key"


class OutputOverwritesInput(ManifestError):
    code = "output_overwrites_input"


class OutputTaken(GpuDropError):
    code = "output_taken"


class BucketNotAllowed(ManifestError):
    code = "bucket_not_allowed"


class AddressNotAllowed(ManifestError):
    code = "address_not_allowed"


class OutOfReach(ManifestError):
    """A manifest names, or would write, what lies outside the folders that are its own."""

    code = "out_of_reach"


# Inputs: the manifest is fine, what it names is not.
class InputMissing(GpuDropError):
    code = "input_missing"


class InputDenied(GpuDropError):
    code = "input_denied"


class InputUnsettled(GpuDropError):
    """An input is still being written when the time to wait for it is over."""

    code = "input_unsettled"


class InputEmpty(GpuDropError):
    code = "input_empty"


class InputTooLarge(GpuDropError):
    code = "input_too_large"


class MediaUnreadable(GpuDropError):
    code = "media_unreadable"


class ImageUnreadable(GpuDropError):
    code = "image_unreadable"


class ImageTooLarge(GpuDropError):
    code = "image_too_large"


class NoAudio(GpuDropError):
    code = "no_audio"


class NoVideo(GpuDropError):
    code = "no_video"


class NoSpeech(GpuDropError):
    code = "no_speech"


class SubtitlesUnreadable(GpuDropError):
    code = "subtitles_unreadable"


class FontMissing(GpuDropError):
    code = "font_missing"


class ModelUnavailable(GpuDropError):
    code = "model_unavailable"


class EngineUnavailable(GpuDropError):
    code = "engine_unavailable"


class LanguageUnsupported(GpuDropError):
    code = "language_unsupported"


# Work: the place where it runs, or the way there.
class TransferFailed(GpuDropError):
    code = "transfer_failed"
    default_retryable = True


class EncodeFailed(GpuDropError):
    code = "encode_failed"


class WorkerCrashed(GpuDropError):
    code = "worker_crashed"
    default_retryable = True


class ResourceExhausted(GpuDropError):
    """A job took more memory, disk or processes than one may have, or left a larger output: it is not tried again."""

    code = "resource_exhausted"


class WorkerError(GpuDropError):
    """An error of the worker's own that no cause above explains: a defect. The log holds its traceback."""

    code = "worker_error"


class OutputMissing(GpuDropError):
    code = "output_missing"


class OutputReplaced(GpuDropError):
    """What lies under an output's key is not what the run's worker left there."""

    code = "output_replaced"


class TaskTimedOut(GpuDropError):
    code = "task_timed_out"


class JobLost(GpuDropError):
    code = "job_lost"
    default_retryable = True


class EndpointUnavailable(GpuDropError):
    """An endpoint did not take a task, for certain: it is busy, limited, away, or has no workers."""

    code = "endpoint_unavailable"
    default_retryable = True


class EndpointDenied(GpuDropError):
    """An endpoint refuses us, or there is none of that id: somebody has to act. The task was not taken."""

    code = "endpoint_denied"


class LinksUnsafe(GpuDropError):
    """Links of a job may open more of the store than its objects: no task goes to workers elsewhere. Somebody acts."""

    code = "links_unsafe"


class TaskRefused(GpuDropError):
    """An endpoint will not take this task, however often it is asked."""

    code = "task_refused"


class SubmitUnknown(GpuDropError):
    """A task was sent, and nobody can say whether it was taken. Retryable once it is certain that nobody will do it."""

    code = "submit_unknown"


class QueuedTooLong(GpuDropError):
    """A job found no worker in time and was taken back."""

    code = "queued_too_long"
    default_retryable = True


class TooManyStarts(GpuDropError):
    """A task was sent so often that it is not sent again, whatever came of it each time."""

    code = "too_many_starts"


class DuplicateJob(GpuDropError):
    """Another job had claimed the task before this one began: it did nothing."""

    code = "duplicate_job"


class BudgetExceeded(GpuDropError):
    code = "budget_exceeded"


class RunCancelled(GpuDropError):
    code = "cancelled"


class RunSuperseded(GpuDropError):
    code = "superseded"


class EventTooOld(GpuDropError):
    code = "event_too_old"


# The store, and the installation itself.
class StoreUnavailable(GpuDropError):
    code = "store_unavailable"
    default_retryable = True


class StoreDenied(GpuDropError):
    code = "store_denied"


class ObjectDenied(StoreDenied):
    """The store refuses one object for good, whoever asks, while it serves others."""


class SourceUnavailable(GpuDropError):
    """A source of events cannot be reached now."""

    code = "source_unavailable"
    default_retryable = True


class SourceDenied(GpuDropError):
    """A source of events refuses us, or has not been set up: somebody has to act."""

    code = "source_denied"


class ConfigError(GpuDropError):
    code = "config_invalid"


class ServerMisbehaves(GpuDropError):
    """A server answers in a way that cannot work, however long one waits."""

    code = "server_misbehaves"


class StateError(ConfigError):
    """What this installation keeps cannot be used as it lies there."""

    code = "state_unusable"
