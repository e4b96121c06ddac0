"""A run as it is recorded when its event is accepted, and its row in the ledger.

Intake records runs and the engine executes them: neither imports the other, both import this.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from listener.fairness import share_of
from listener.ledger.objects import SeenVersion
from listener.ledger.run_rows import RunRow
from listener.triggers.triggers import Trigger
from manifests.names import Sidecar, drop_folder, drop_name, drop_path

REDRIVE = "redrive"
"""The source of a run that a user has redriven."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Everything that a run needs to be executed from the start."""

    run_id: str
    bucket: str
    key: str
    version: str
    trigger: Trigger
    """The trigger as it was when the event came."""
    received: float
    """When the event came, in epoch seconds."""
    object_time: float
    """When the object was written, in epoch seconds."""
    source: str
    lineage: int = 0
    """Number of runs whose outputs led to this one."""
    sidecars: str = ""
    """Prefix of the keys of its sidecars; "": the folder and name of the drop."""
    waited: float = 0.0
    """Until when it waited for its inputs in the ledger, in epoch seconds; 0: it has not waited."""

    @property
    def fresh(self) -> float:
        """The moment from which its age counts, in epoch seconds: waiting for inputs makes no run older."""
        return max(self.received, min(self.waited, self.received + self.trigger.wait_for_inputs_s))

    @property
    def folder(self) -> str:
        """The drop's folder: "" or ending in "/"."""
        return drop_folder(self.key)

    @property
    def name(self) -> str:
        return drop_name(self.key)

    @property
    def is_first(self) -> bool:
        """Whether it is the first run of its version, whose id is derived from the version alone."""
        return self.run_id == run_id_of(self.bucket, self.key, self.version)

    def sidecar(self, kind: Sidecar) -> str:
        """Returns the key of its sidecar of this `kind`, which no other drop's sidecar may have."""
        return f"{self.sidecars or drop_path(self.key)}.{kind}.json"


def run_id_of(bucket: str, key: str, version: str, *, redrive: int = 0, written: str = "") -> str:
    """Returns a run's id: always the same for the same version of the same object, another one for each redrive.

    `written` distinguishes versions that HEAD does not.
    """
    parts = [bucket, key, version] + ([f"redrive {redrive}"] if redrive else [])
    parts += [f"written {written}"] if written else []
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:24]


_REQUEST: TypeAdapter[RunRequest] = TypeAdapter(RunRequest)


def run_row(request: RunRequest, now: float) -> RunRow:
    """Returns the row of a new run, which waits to be started."""
    data: Any = _REQUEST.dump_python(request, mode="json")
    return RunRow(
        run_id=request.run_id,
        bucket=request.bucket,
        key=request.key,
        trigger=request.trigger.name,
        state="accepted",
        accepted=now,
        updated=now,
        request=data,
        share=share_of(request.bucket, request.key),
    )


def with_new_version_id(request: RunRequest, seen: SeenVersion) -> RunRequest:
    """Returns the run of a new version that HEAD cannot distinguish from an earlier one."""
    written = str(seen.moment) if seen.exact else f"{request.received:.6f}"
    return replace(request, run_id=run_id_of(request.bucket, request.key, request.version, written=written))


def redriven_row(row: RunRow, number: int, now: float) -> RunRow:
    """Returns the row of a new run that repeats an ended one; the same `number` gives the same run."""
    old = _REQUEST.validate_python(row.request)
    run_id = run_id_of(old.bucket, old.key, old.version, redrive=number)
    return run_row(replace(old, run_id=run_id, received=now, source=REDRIVE), now)
