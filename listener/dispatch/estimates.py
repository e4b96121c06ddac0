"""Estimates how long a job takes, and so its cost: learned from jobs that were done, guessed before any were."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gpu_dispatch.task import Img2VidParams
from handlers.base import PlannedTask
from listener.ledger.job_rows import JobRow

UNKNOWN = 0.0
"""An amount of work that only the worker can know."""

KEPT = 0.9
"""What is left of a job's weight in the estimate when the next one is done: some twenty jobs count."""

SPREAD = 0.3
"""Jobs whose sizes lie within this share of their mean do not show how the time grows with the size."""

_FULL_MODEL_S = 1.25e-5


@dataclass(frozen=True, slots=True)
class Guess:
    """A guess, in seconds."""

    unit_s: float
    """For each unit of work."""
    job_s: float
    """For a job of unknown size."""


GUESSES: dict[str, Guess] = {
    "transcribe": Guess(_FULL_MODEL_S, 300.0),
    "caption": Guess(4e-7, 180.0),
    "img2vid": Guess(0.02, 120.0),
    "addaudio": Guess(1e-7, 60.0),
}
"""Used before anything is learned, for a card like an L4, rather too much than too little. Speech: a tenth of the
length of a recording at 64 kbit/s, with the largest model. Captions: a quarter of the length of a video at 5 Mbit/s.
Clips: 50 frames a second. Audio added: 10 MB a second, for the cases that encode."""

OTHER = Guess(4e-7, 300.0)

MODELS: dict[str, float] = {
    "tiny": 0.15,
    "base": 0.2,
    "small": 0.35,
    "medium": 0.7,
    "turbo": 0.3,
    "large-v3-turbo": 0.3,
}
"""A model's share of the largest one's time. For the small ones, start and loading are part of it."""


SHORT_S = 30.0
"""Seconds that a short job takes at most, by the guess for a card like an L4: a 2 MB recording, a 75 MB video."""


def is_short(task: PlannedTask) -> bool:
    """Whether `task` is short and should be done soon, by the size of its inputs alone."""
    units = units_of(task)
    return units != UNKNOWN and units * GUESSES.get(task.params.operation, OTHER).unit_s <= SHORT_S


def units_of(task: PlannedTask) -> float:
    """Returns the amount of work: frames of img2vid, else bytes of the inputs; `UNKNOWN` where a size is."""
    if isinstance(task.params, Img2VidParams):
        return float(sum(clip.frames for clip in task.params.clips))
    total = 0
    for file in task.inputs:
        if file.size is None:
            return UNKNOWN
        total += file.size
    return float(total)


@dataclass(slots=True)
class _Learned:
    """Weighted sums over jobs, in which older ones count less; for jobs of known size, also of their units. A job takes
    a fixed time, its worker's start above all, and a time that grows with its units."""

    jobs: float = 0.0
    job_s: float = 0.0
    sized: float = 0.0
    sized_s: float = 0.0
    units: float = 0.0
    squares: float = 0.0
    products: float = 0.0

    def add(self, units: float, seconds: float) -> None:
        self.jobs = self.jobs * KEPT + 1.0
        self.job_s = self.job_s * KEPT + seconds
        if units > UNKNOWN:
            self.sized = self.sized * KEPT + 1.0
            self.sized_s = self.sized_s * KEPT + seconds
            self.units = self.units * KEPT + units
            self.squares = self.squares * KEPT + units * units
            self.products = self.products * KEPT + units * seconds

    def seconds(self, units: float, guessed_unit_s: float) -> float:
        """Returns the seconds of a job of so many units; only where there were `sized` jobs."""
        mean_units, mean_s = self.units / self.sized, self.sized_s / self.sized
        unit_s = self._unit_s(mean_units, mean_s, guessed_unit_s)
        return max(0.0, mean_s - unit_s * mean_units) + unit_s * units

    def _unit_s(self, mean_units: float, mean_s: float, guessed: float) -> float:
        """Returns the slope of the line through the jobs if their sizes differ enough, else the guess, at most their
        mean."""
        variance = self.squares / self.sized - mean_units * mean_units
        if variance > (SPREAD * mean_units) ** 2:
            slope = (self.products / self.sized - mean_units * mean_s) / variance
            return min(max(0.0, slope), mean_s / mean_units)
        return min(guessed, mean_s / mean_units)


class Estimates:
    """Durations learned from jobs. Belongs to one event loop. `rows` are jobs that were done, oldest first."""

    def __init__(self, rows: Iterable[JobRow]) -> None:
        self._here: dict[tuple[str, str, str], _Learned] = {}
        self._anywhere: dict[tuple[str, str], _Learned] = {}
        for row in rows:
            self.learn(row)

    def learn(self, row: JobRow) -> None:
        """Learns from a finished job. One that failed, or whose time is unknown, teaches nothing."""
        if row.outcome != "done" or row.execution_ms <= 0:
            return
        seconds = row.execution_ms / 1000.0
        here = self._here.setdefault((row.operation, row.detail, row.endpoint), _Learned())
        anywhere = self._anywhere.setdefault((row.operation, row.detail), _Learned())
        for learned in (here, anywhere):
            learned.add(row.units, seconds)

    def seconds(self, operation: str, detail: str, endpoint: str, units: float) -> float:
        """Returns the expected seconds: by this endpoint's jobs of that kind, else by any endpoint's, else a guess."""
        here = self._here.get((operation, detail, endpoint))
        anywhere = self._anywhere.get((operation, detail))
        guess = GUESSES.get(operation, OTHER)
        share = MODELS.get(detail.removesuffix(".en"), 1.0)
        for learned in (here, anywhere):
            if learned and units > UNKNOWN and learned.sized:
                return learned.seconds(units, guess.unit_s * share)
            if learned and units <= UNKNOWN:
                return learned.job_s / learned.jobs
        return (units * guess.unit_s if units > UNKNOWN else guess.job_s) * share
