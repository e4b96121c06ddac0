"""What an error means for an accepted run: the one table that intake, runs and dispatch use.

The store and the ledger serve every run. Their errors pass or are repaired, and a run waits for that. Only an error
about one object (a manifest, an input, an output) is the run's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from manifests.errors import (
    AddressNotAllowed,
    DuplicateJob,
    EncodeFailed,
    EngineUnavailable,
    ErrorInfo,
    FontMissing,
    GpuDropError,
    ImageTooLarge,
    ImageUnreadable,
    InputDenied,
    InputEmpty,
    InputMissing,
    InputTooLarge,
    InvalidPath,
    LanguageUnsupported,
    MediaUnreadable,
    ModelUnavailable,
    NoAudio,
    NoVideo,
    ObjectDenied,
    OptionUnsupported,
    ResourceExhausted,
    RunCancelled,
    RunSuperseded,
    ScriptMismatch,
    StoreDenied,
    StoreUnavailable,
    TaskRefused,
    TaskTimedOut,
    TransferFailed,
    WorkerCrashed,
    WorkerError,
)
from manifests.text import plain_text

_WAITED_FOR: tuple[type[GpuDropError], ...] = (StoreUnavailable, StoreDenied)
_ABOUT_ONE_OBJECT: tuple[type[GpuDropError], ...] = (ObjectDenied,)
_REQUESTED_ENDS: tuple[type[GpuDropError], ...] = (RunCancelled, RunSuperseded)

_OF_WORKERS: Mapping[type[GpuDropError], bool] = {
    AddressNotAllowed: False,
    DuplicateJob: False,
    EncodeFailed: True,
    EngineUnavailable: False,
    FontMissing: False,
    ImageTooLarge: False,
    ImageUnreadable: False,
    InputDenied: True,
    InputEmpty: False,
    InputMissing: False,
    InputTooLarge: False,
    InvalidPath: False,
    LanguageUnsupported: False,
    OptionUnsupported: False,
    MediaUnreadable: True,
    ModelUnavailable: True,
    NoAudio: False,
    NoVideo: False,
    ResourceExhausted: False,
    RunCancelled: False,
    ScriptMismatch: False,
    StoreDenied: True,
    TaskRefused: False,
    TaskTimedOut: False,
    TransferFailed: True,
    WorkerCrashed: True,
    WorkerError: True,
}
"""The errors that a worker can know, and whether another attempt may succeed; only then may the worker ask for one.

Only the listener raises the other codes. `duplicate_job` and `cancelled` concern the claim, and count only as far as
the claim in the store confirms them.
"""

WORKER_CODES: Mapping[str, bool] = {kind.code: again for kind, again in _OF_WORKERS.items()}


def validated_error(error: ErrorInfo) -> ErrorInfo:
    """Returns a worker's error in text fit to show; a code that no worker can know becomes `worker_error`."""
    message, hint, where = plain_text(error.message), plain_text(error.hint), plain_text(error.where)
    if error.code not in WORKER_CODES:
        return WorkerError(
            plain_text(
                f"The worker answered with an error that no worker can know ({plain_text(error.code, 64)}): {message}"
            ),
            hint="Run listener and workers of the same version, from images that you trust.",
        ).info
    retryable = error.retryable and WORKER_CODES[error.code]
    return replace(error, message=message, hint=hint, where=where, retryable=retryable)


def is_waited_for(error: BaseException) -> bool:
    """Returns whether a run waits until `error` has passed, instead of ending with it."""
    return isinstance(error, _WAITED_FOR) and not isinstance(error, _ABOUT_ONE_OBJECT)


def decisive_error(errors: Sequence[BaseException]) -> BaseException:
    """Returns the error that decides among several errors of the same work; `errors` is not empty.

    An error outside GpuDropError is a defect and comes first, then the run's cancellation or replacement. An
    unavailable store comes before final errors, because it makes other work fail.
    """
    return min(errors, key=_rank)


def _rank(error: BaseException) -> int:
    if not isinstance(error, GpuDropError):
        return 0
    if isinstance(error, _REQUESTED_ENDS):
        return 1
    return 2 if is_waited_for(error) else 3
