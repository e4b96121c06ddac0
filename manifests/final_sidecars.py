"""Final sidecars, read back: which run wrote one, and how that run ended.

Anyone who may drop files may write a sidecar. Only the run's id and code, the drop's key and version and the outputs'
keys are taken from it, and of those no more than its writer could have written.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from manifests.documents import document_fields
from manifests.keys import key_problem
from manifests.names import drop_folder, drop_path, is_reserved

DONE_CODE = 200
MAX_OUTPUTS = 10_000


@dataclass(frozen=True, slots=True)
class FinalSidecar:
    """What a final sidecar says about its run."""

    run_id: str
    key: str
    error_code: str = ""
    """Empty when the run succeeded."""
    outputs: tuple[str, ...] = ()
    """Keys in the drop's bucket; none for a failed run."""
    version: str = ""
    """The drop's; empty in sidecars of earlier releases."""


@dataclass(frozen=True, slots=True)
class _Output:
    key: str


@dataclass(frozen=True, slots=True)
class _Sidecar:
    run_id: str
    key: str
    code: int | str | None = None
    version: str = ""
    outputs: list[_Output] = field(default_factory=list[_Output])


_SIDECAR: TypeAdapter[_Sidecar] = TypeAdapter(_Sidecar)


def final_sidecar_from_bytes(body: bytes) -> FinalSidecar | None:
    """Parses a final sidecar; None for anything else."""
    found = _read(body)
    if found is None or len(found.outputs) > MAX_OUTPUTS or any(key_problem(o.key) for o in found.outputs):
        return None
    if found.code == DONE_CODE:
        outputs = tuple(output.key for output in found.outputs)
        return FinalSidecar(found.run_id, found.key, outputs=outputs, version=found.version)
    if isinstance(found.code, str) and not key_problem(found.code):
        return FinalSidecar(found.run_id, found.key, error_code=found.code, version=found.version)
    return None


def may_be_sidecar_of(path: str, key: str) -> bool:
    """Returns whether sidecars whose keys begin with `path` may belong to the drop at `key`."""
    number = path.removeprefix(f"{key}.")
    return path in (drop_path(key), key) or (number != path and number.isdecimal())


def may_vouch_for(drop: str, output: str) -> bool:
    """Returns whether a sidecar of `drop` proves that `output` is its run's: one writer may write both."""
    return output.startswith(drop_folder(drop)) and output != drop and not is_reserved(output)


def run_id_of(body: bytes) -> str:
    """Returns the run that wrote a sidecar, status or final; "" for anything else, such as a user's file."""
    found = _read(body)
    return found.run_id if found else ""


def _read(body: bytes) -> _Sidecar | None:
    """Parses a sidecar. Ids must be valid as keys, because databases do not store arbitrary text."""
    try:
        found = _SIDECAR.validate_python(document_fields(body), strict=False)
    except ValidationError:
        return None
    return None if key_problem(found.run_id) or key_problem(found.key) else found
