"""Limits of transfers, in time and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_dispatch.net.retries import TRANSFER, TRUSTED_TRANSFER, RetryPolicy
from manifests.errors import InputTooLarge


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """The limits of one file's transfer. Times are seconds."""

    connect_s: float = 10.0
    idle_s: float = 60.0
    """Longest silence of the other side."""
    total_s: float = 3600.0
    """All attempts and waits of one file together."""
    retries: RetryPolicy = TRANSFER
    trusted_retries: RetryPolicy = TRUSTED_TRANSFER
    """For hosts that the task trusts."""
    redirects: int = 5


class TransferBudget:
    """The bytes that a job may still read, shared by all its inputs."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit

    def take(self, count: int, where: str) -> None:
        """Takes `count` bytes. Raises InputTooLarge when fewer are left."""
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
