"""Decides what a run's inputs still lack: missing, refused, or being written. Reads nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from handlers.base import Reference
from listener.clock import Clock
from listener.runs.defaults import REFUSED_S, object_refused
from listener.runs.steps import Released
from listener.stores.base import ObjectMeta
from manifests.errors import InputMissing, InputUnsettled, StoreDenied
from manifests.references import WHOLE_BUCKET, MediaRef, ObjectRef, Reach

SETTLE_S = 2.0
"""A file changed less than so many seconds ago may still be growing."""

InputRead = ObjectMeta | StoreDenied | None
"""What was read of one input; None: nothing is there, or it is not read."""


@dataclass(frozen=True, slots=True)
class InputTerms:
    """Whose inputs are searched, and on what terms."""

    drop: ObjectRef
    """The object that began the run."""
    folder: str
    received: float
    """When its event came, in epoch seconds."""
    wait_s: float
    """Seconds that the run waits for its inputs."""
    reach: Reach = WHOLE_BUCKET
    operators: tuple[str, ...] = ()
    """Manifest fields that the operator set: they may lead anywhere."""

    @property
    def refused_s(self) -> float:
        """Seconds that a refusal of one input may last."""
        return min(self.wait_s, REFUSED_S)


class InputsAwaited(Released):
    """Releases a run without its inputs: objects (bucket, key) are `missing` or `growing`; `note` says it in words."""

    def __init__(self, missing: frozenset[tuple[str, str]], growing: frozenset[tuple[str, str]], note: str) -> None:
        super().__init__(note)
        self.missing = missing
        self.growing = growing
        self.note = note


@dataclass(frozen=True, slots=True)
class WantedInput:
    reference: Reference
    media: MediaRef

    @property
    def name(self) -> str:
        return self.media.key if isinstance(self.media, ObjectRef) else str(self.media)


class InputGrowth:
    """Finds files that are still being written: touched lately, or changed between two reads. `now` is a monotonic
    clock."""

    def __init__(self, clock: Clock, now: Callable[[], float]) -> None:
        self._clock = clock
        self._now = now
        self._seen: dict[str, tuple[str, float]] = {}

    def grows(self, meta: ObjectMeta) -> bool:
        now, seen = self._now(), self._seen.get(meta.key)
        if seen is None:
            # A time in the future does not say when the file was touched.
            since = now - max(0.0, self._clock.age_s(meta.last_modified.timestamp()))
        else:
            since = seen[1] if seen[0] == meta.version else now
        self._seen[meta.key] = meta.version, since
        return now - since < SETTLE_S


class InputSearch:
    """One run's search: what the last read found lacking, and since when. `now` is a monotonic clock."""

    def __init__(self, terms: InputTerms, growth: InputGrowth | None, now: Callable[[], float]) -> None:
        """Without `growth` objects are complete when they are there."""
        self._terms = terms
        self._growth = growth
        self._now = now
        self._since: dict[str, float] = {}
        self.missing: list[WantedInput] = []
        self.growing: list[WantedInput] = []
        self.refused: list[tuple[WantedInput, StoreDenied]] = []

    @property
    def over(self) -> bool:
        return not (self.missing or self.growing or self.refused)

    def note(self, wanted: Sequence[WantedInput], looks: Sequence[InputRead]) -> None:
        pairs = [(w, look) for w, look in zip(wanted, looks, strict=True) if isinstance(w.media, ObjectRef)]
        self.missing = [w for w, look in pairs if look is None]
        self.refused = [(w, look) for w, look in pairs if isinstance(look, StoreDenied)]
        self.growing = [
            w for w, look in pairs if isinstance(look, ObjectMeta) and self._growth and self._growth.grows(look)
        ]
        lacking = [w.name for w in (*self.growing, *(w for w, _ in self.refused))]
        self._since = {name: self._since.get(name, self._now()) for name in lacking}

    def grows_for(self, seconds: float) -> bool:
        """Whether a file has been growing for so long."""
        return any(self._for_s(w) >= seconds for w in self.growing)

    def words(self) -> tuple[str, ...]:
        """Returns what is waited for. A file that was only just finished is not named."""
        return (
            *(w.name for w in self.missing),
            *(f"{w.name} (refused: {error})" for w, error in self.refused),
            *(f"{w.name} (still being written)" for w in self.growing if self._for_s(w) >= SETTLE_S),
        )

    def check(self, *, late: bool) -> None:
        """Raises the error of an input that is not waited for any more; `late`: `wait_s` is over."""
        if self.missing and late:
            raise missing(self.missing)
        for wanted, error in self.refused:
            if self._for_s(wanted) >= self._terms.refused_s:
                raise object_refused(error, wanted.reference.role)
        slow = [w for w in self.growing if late and self._for_s(w) >= 2 * SETTLE_S]
        if slow:
            raise _unsettled(slow)

    def _for_s(self, wanted: WantedInput) -> float:
        return self._now() - self._since[wanted.name]


def missing(wanted: Sequence[WantedInput]) -> InputMissing:
    return InputMissing(
        f"Not there: {_names(wanted)}.",
        hint="Check the spelling (case counts), put the file there, then drop the manifest again.",
        where=wanted[0].reference.role,
    )


def _unsettled(wanted: Sequence[WantedInput]) -> InputUnsettled:
    return InputUnsettled(
        f"Still being written: {_names(wanted)}.",
        hint="Write the file elsewhere and move it here when it is whole; for slow copies raise wait_for_inputs.",
        where=wanted[0].reference.role,
    )


def _names(wanted: Sequence[WantedInput]) -> str:
    return ", ".join(repr(w.name) for w in wanted[:5]) + (" …" if len(wanted) > 5 else "")
