"""How long and how much a transfer may take."""

from __future__ import annotations

from dataclasses import dataclass

from manifests.errors import InputTooLarge


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """Seconds, but for the counts. `idle_s` is the longest silence of the other side, `total_s` one file's whole time.

    Between attempts the wait is uniform in 0 to min(`backoff_cap_s`, `backoff_s` * 2^n). Hosts that a task trusts, the
    store above all, get `trusted_attempts`, a minute and more of them: what cannot be left there was paid for.
    """

    connect_s: float = 10.0
    idle_s: float = 60.0
    total_s: float = 3600.0
    attempts: int = 5
    trusted_attempts: int = 14
    backoff_s: float = 0.5
    backoff_cap_s: float = 15.0
    redirects: int = 5


class Budget:
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
