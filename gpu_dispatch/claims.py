"""What a claim says: which job does a task. Written by the first job that begins, read by whoever asks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

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


_CLAIM: TypeAdapter[Claim] = TypeAdapter(Claim)


def claim_bytes(claim: Claim) -> bytes:
    return _CLAIM.dump_json(claim)


def claim_from_bytes(data: bytes) -> Claim | None:
    """None for what is no claim."""
    try:
        claim = _CLAIM.validate_json(data)
    except ValidationError:
        return None
    return claim if _ID.fullmatch(claim.job_id) and _ID.fullmatch(claim.endpoint_id) else None
