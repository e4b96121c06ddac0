"""Which runs are told here, and how many are begun side by side.

A run is being begun until it waits for something, or for HOT_S: of thousands that are begun at once, each would wait
for all others at every step of its way.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

from listener.fair_shares import Bound

AT_ONCE = 6
HOT_S = 5.0


class Admission:
    """`freed` is called when a place may have become free. `now` never goes back."""

    def __init__(self, freed: Callable[[], None], *, now: Callable[[], float] = time.monotonic) -> None:
        self._freed = freed
        self._now = now
        self._told: dict[str, str] = {}
        self._begun: dict[str, float] = {}
        self.crowded = False
        """Whether no place is free: a run that waits is better told later, from the top, than to the end."""

    def is_crowded(self) -> bool:
        return self.crowded

    @property
    def room(self) -> int:
        """How many more may be begun now."""
        since = self._now() - HOT_S
        self._begun = {run_id: at for run_id, at in self._begun.items() if at > since}
        return AT_ONCE - len(self._begun)

    def bounds(self, limit: int, idle: Mapping[str, int]) -> tuple[Bound, ...]:
        """What each share holds of `limit` places, without its tasks in `idle`, and of those where runs are begun."""
        held = Counter(self._told.values())
        held.subtract(idle)
        begun = Counter(self._told[run_id] for run_id in self._begun if run_id in self._told)
        return Bound(held, limit), Bound(begun, AT_ONCE, kept=1)

    def begun(self, run_id: str, share: str) -> None:
        self.told(run_id, share)
        self._begun[run_id] = self._now()

    def told(self, run_id: str, share: str) -> None:
        """The run holds a place until `ended`."""
        self._told[run_id] = share

    def waits(self, run_id: str) -> None:
        """The run has been begun, and waits for something now."""
        if self._begun.pop(run_id, None) is not None:
            self._freed()

    def ended(self, run_id: str) -> None:
        """The run is told here no longer."""
        self._told.pop(run_id, None)
        self._begun.pop(run_id, None)
        self._freed()
