"""What an error means for a run that was accepted: the one table that intake, runs and dispatch ask.

The store and the ledger serve every run. What they answer passes, or somebody mends it, and the run waits that long.
Only an error about one object, a manifest, an input or an output, is the run's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from manifests.errors import GpuDropError, ObjectDenied, RunCancelled, RunSuperseded, StoreDenied, StoreUnavailable

_WAITED_FOR: tuple[type[GpuDropError], ...] = (StoreUnavailable, StoreDenied)
_ABOUT_ONE_OBJECT: tuple[type[GpuDropError], ...] = (ObjectDenied,)
_WISHED: tuple[type[GpuDropError], ...] = (RunCancelled, RunSuperseded)


def is_waited_for(error: BaseException) -> bool:
    """Whether a run waits until `error` has passed, instead of ending with it."""
    return isinstance(error, _WAITED_FOR) and not isinstance(error, _ABOUT_ONE_OBJECT)


def deciding(errors: Sequence[BaseException]) -> BaseException:
    """The one of several errors of the same work that tells what becomes of it; `errors` is not empty.

    An error that no class knows is a defect, whatever stands beside it. A run that is to end ends. A store that is away
    makes others fail that would not fail otherwise: it comes before all that are final.
    """
    return min(errors, key=_rank)


def _rank(error: BaseException) -> int:
    if not isinstance(error, GpuDropError):
        return 0
    if isinstance(error, _WISHED):
        return 1
    return 2 if is_waited_for(error) else 3
