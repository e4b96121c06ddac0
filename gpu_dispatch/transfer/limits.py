"""How long and how much a transfer may take."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_dispatch.net.retries import TRANSFER, TRUSTED_TRANSFER, RetryPolicy
from manifests.errors import InputTooLarge


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """What bounds one file's way. Times are seconds."""

    connect_s: float = 10.0
    idle_s: float = 60.0
    """The longest silence of the other side."""
    total_s: float = 3600.0
    """One file's whole time, attempts and waits together."""
    retries: RetryPolicy = TRANSFER
    trusted_retries: RetryPolicy = TRUSTED_TRANSFER
    """For hosts that a task trusts."""
    redirects: int = 5


class TransferBudget:
    """Bytes a job may still take in, shared by all its inputs."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit

    def take(self, count: int, where: str) -> None:
        """Raises InputTooLarge when `count` bytes are more than what is left."""
        self.check(count, where)
        self._left -= count

    def check(self, count: int, where: str) -> None:
        if count > self._left:
            raise InputTooLarge(
                f"The inputs are larger than the {self._limit:,} bytes one task may read.",
                hint="Use a smaller file; what media may hold is `task_max_input` in config.yaml.",
                where=where,
            )

    def give_back(self, count: int) -> None:
        self._left += count
