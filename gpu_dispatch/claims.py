"""What a claim says: which job does a task. Written by the first job that begins, read by whoever asks."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from hmac import compare_digest

from pydantic import TypeAdapter, ValidationError

from gpu_dispatch.signatures import mac

MAX_BYTES = 4096

_ID = re.compile(r"(?!\.+$)[\w.:-]{0,200}", re.ASCII)
"""Of a job, of an endpoint: they stand in addresses and logs."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`job_id` and `endpoint_id` are the provider's; `worker` tells machines apart; `at` is seconds since the epoch.

    `begun` counts the workers that have begun the job: more than one when the provider ran it again.
    """

    task_id: str
    job_id: str
    endpoint_id: str
    worker: str
    at: float
    begun: int = 1

    @property
    def withdrawn(self) -> bool:
        """Whether this is the listener's word that no job may do the attempt any more."""
        return not self.job_id


def withdrawal(task_id: str, at: float) -> Claim:
    """What the listener writes over an attempt's claim: whoever holds it stops, whoever comes later does nothing."""
    return Claim(task_id, job_id="", endpoint_id="", worker="listener", at=at)


@dataclass(frozen=True, slots=True)
class _Signed(Claim):
    mac: str = ""


_CLAIM: TypeAdapter[Claim] = TypeAdapter(Claim)
_SIGNED: TypeAdapter[_Signed] = TypeAdapter(_Signed)


def claim_bytes(claim: Claim, key: bytes | None = None) -> bytes:
    """Signed where there is a key: in a field of its own, that workers of earlier releases pass over."""
    data = _CLAIM.dump_json(claim)
    return data if key is None else _SIGNED.dump_json(_Signed(**asdict(claim), mac=mac(data, key, "claim").hex()))


def claim_from_bytes(data: bytes, key: bytes | None = None) -> Claim | None:
    """None for what is no claim, or, where there is a key, was not signed with it."""
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
