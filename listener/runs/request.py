"""What a run is, as recorded when its event was accepted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from listener.triggers import Trigger
from manifests.names import Sidecar, drop_folder, drop_name, drop_path

REDRIVE = "redrive"
"""The source of a run that a user has driven again."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Everything a run needs to be told from the start. The trigger is kept as it was when the event came.

    `received` and `object_time` are seconds since the epoch. `lineage` counts the runs whose outputs led here.
    """

    run_id: str
    bucket: str
    key: str
    version: str
    trigger: Trigger
    received: float
    object_time: float
    source: str
    lineage: int = 0
    sidecars: str = ""
    """What the keys of its sidecars begin with; "": the folder and name of the drop."""
    waited: float = 0.0
    """Until when it waited for its inputs, told nowhere, in seconds since the epoch; 0: it has not."""

    @property
    def fresh(self) -> float:
        """The moment from which its age counts: to wait for inputs makes no run older."""
        return max(self.received, min(self.waited, self.received + self.trigger.wait_for_inputs_s))

    @property
    def folder(self) -> str:
        """Where the drop lies: "" or ending in "/"."""
        return drop_folder(self.key)

    @property
    def name(self) -> str:
        return drop_name(self.key)

    @property
    def is_first(self) -> bool:
        """Whether no run of this version came before it: its id is told by the version alone."""
        return self.run_id == run_id_of(self.bucket, self.key, self.version)

    def sidecar(self, kind: Sidecar) -> str:
        """Where its `kind` of sidecar lies. Another drop's may never lie there."""
        return f"{self.sidecars or drop_path(self.key)}.{kind}.json"


def run_id_of(bucket: str, key: str, version: str, *, redrive: int = 0, written: str = "") -> str:
    """The same version of the same object always has the same id; a redrive is another run of it.

    `written` tells versions apart that HEAD does not.
    """
    parts = [bucket, key, version] + ([f"redrive {redrive}"] if redrive else [])
    parts += [f"written {written}"] if written else []
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:24]
