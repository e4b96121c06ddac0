"""The claim of an attempt: it names the one job that does the task, and is written by the first job that begins."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from hmac import compare_digest

from pydantic import TypeAdapter, ValidationError

from gpu_dispatch.signatures import mac

MAX_BYTES = 4096

_ID = re.compile(r"(?!\.+$)[\w.:-]{0,200}", re.ASCII)
"""An id of a job or an endpoint: they appear in addresses and logs."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The job that does an attempt at a task."""

    task_id: str
    job_id: str
    """The provider's id; "" in a withdrawal."""
    endpoint_id: str
    """The provider's id."""
    worker: str
    """Tells machines apart."""
    at: float
    """Seconds since the epoch."""
    begun: int = 1
    """Workers that have begun the job: more than one when the provider ran it again."""

    @property
    def withdrawn(self) -> bool:
        """Whether the listener has withdrawn the attempt, so that no job may do it."""
        return not self.job_id


def withdrawal(task_id: str, at: float) -> Claim:
    """Returns what the listener writes over an attempt's claim: the job that holds it stops, later jobs do nothing."""
    return Claim(task_id, job_id="", endpoint_id="", worker="listener", at=at)


@dataclass(frozen=True, slots=True)
class _Signed(Claim):
    mac: str = ""


_CLAIM: TypeAdapter[Claim] = TypeAdapter(Claim)
_SIGNED: TypeAdapter[_Signed] = TypeAdapter(_Signed)


def claim_bytes(claim: Claim, key: bytes | None = None) -> bytes:
    """Serialises `claim`, signed where there is a key. Workers of earlier releases ignore the signature's field."""
    data = _CLAIM.dump_json(claim)
    return data if key is None else _SIGNED.dump_json(_Signed(**asdict(claim), mac=mac(data, key, "claim").hex()))


def claim_from_bytes(data: bytes, key: bytes | None = None) -> Claim | None:
    """Parses a claim; None for anything else and, where there is a key, for a claim not signed with it."""
    try:
        given = _SIGNED.validate_json(data)
    except ValidationError:
        return None
    claim = Claim(**{name: value for name, value in asdict(given).items() if name != "mac"})
    if key is not None:
        vouched = mac(_CLAIM.dump_json(claim), key, "claim").hex()
        if not compare_digest(given.mac.encode(), vouched.encode()):
            return None
    return claim if _ID.fullmatch(claim.job_id) and _ID.fullmatch(claim.endpoint_id) else None
