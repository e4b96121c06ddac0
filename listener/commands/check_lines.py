"""What `gpudrop check` prints."""

from __future__ import annotations

from dataclasses import dataclass

from manifests.errors import GpuDropError


@dataclass(frozen=True, slots=True)
class Line:
    """`ok` None: nothing wrong, but worth knowing."""

    subject: str
    ok: bool | None
    detail: str
    remedy: str = ""


def trouble(subject: str, error: GpuDropError) -> Line:
    return Line(subject, False, str(error), error.info.hint)
