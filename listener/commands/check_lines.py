"""What `gpudrop check` prints."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_dispatch.cgroups import Delegation
from gpu_dispatch.local_limits import LOOK_S
from manifests.errors import GpuDropError


@dataclass(frozen=True, slots=True)
class CheckLine:
    """`ok` None: nothing wrong, but worth knowing."""

    subject: str
    ok: bool | None
    detail: str
    remedy: str = ""


def problem_line(subject: str, error: GpuDropError) -> CheckLine:
    return CheckLine(subject, False, str(error), error.info.hint)


def limits_line(where: Delegation) -> CheckLine:
    """How workers on this machine are kept to what they may take."""
    if where.holds_memory:
        return CheckLine(
            "limits", True, f"control groups (version {where.version}) hold each worker process to its memory"
        )
    why = where.why or "the controller memory is not there"
    detail = f"workers' memory is looked at every {LOOK_S:g} s; no control group holds it: {why}"
    return CheckLine(
        "limits", None, detail, "With systemd, set Delegate=yes for the service. A job is ended all the same."
    )
