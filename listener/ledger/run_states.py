"""How a run stands in the ledger, and why it is to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from manifests.errors import RunCancelled, RunSuperseded

RunState = Literal["accepted", "waiting", "queued", "running", "writing", "done", "failed", "cancelled", "superseded"]
EndReason = Literal["cancelled", "superseded", "incomplete"]
"""Why a run is to end early. "incomplete": one of its jobs has failed for good, and the others would be for nothing."""
ENDED: frozenset[RunState] = frozenset({"done", "failed", "cancelled", "superseded"})

_STATES: Mapping[str, RunState] = {RunCancelled.code: "cancelled", RunSuperseded.code: "superseded"}


def state_after(error_code: str) -> RunState:
    """How a run has ended whose error has this code; "": it has none."""
    return _STATES.get(error_code, "failed") if error_code else "done"
