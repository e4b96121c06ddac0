"""What goes wrong, and when, drawn from a seed. Pure: `StoreProxy` and `Player` carry it out."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Way = Literal["away", "refuse", "cut_request", "cut_answer", "lost_answer", "slow", "held"]
"""away: every connection is reset. refuse: `status` and `code` instead of service. cut_request: half of what is sent
arrives. cut_answer: half of the answer does. lost_answer: it was served, nobody hears of it. slow: `seconds` late.
held: a PUT arrives `seconds` late, whether or not its sender still waits for it."""

Side = Literal["all", "listener", "workers"]


@dataclass(frozen=True, slots=True)
class StoreFault:
    """Meets a `share` of the requests of one `side`; `suffix`: of those keys alone that end so."""

    way: Way
    share: float = 1.0
    side: Side = "all"
    status: int = 0
    code: str = ""
    seconds: float = 0.0
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """`fault` meets requests from `at` on, `lasts` seconds long."""

    at: float
    lasts: float
    fault: StoreFault


Blow = Literal["kill", "stop", "kill_store", "kill_worker", "lose_job", "repeat_job"]
"""kill, stop: the listener, by SIGKILL or SIGTERM, and a new one. kill_store: the store's server by SIGKILL, and again.
kill_worker: one that works. lose_job: the provider forgets one that runs. repeat_job: it gives a job that has ended to
a worker once more."""


@dataclass(frozen=True, slots=True)
class Strike:
    """At `at` seconds; what was ended comes back after `away` seconds."""

    at: float
    blow: Blow
    away: float = 0.0


@dataclass(frozen=True, slots=True)
class ApiFault:
    """The provider's next `times` answers to `op` from `at` seconds on are spoiled in the way that `fault` names."""

    at: float
    op: str
    fault: str
    times: int


@dataclass(frozen=True, slots=True)
class Schedule:
    windows: tuple[Window, ...]
    strikes: tuple[Strike, ...]
    api_faults: tuple[ApiFault, ...]


REFUSALS: tuple[tuple[int, str], ...] = (
    (403, "AccessDenied"),
    (403, "InvalidAccessKeyId"),
    (403, "RequestTimeTooSkewed"),
    (400, "RequestTimeout"),
    (400, "IncompleteBody"),
    (404, "NoSuchBucket"),
    (409, "OperationAborted"),
    (499, "ClientDisconnected"),
    (500, "InternalError"),
    (503, "SlowDown"),
)

API_FAULTS = ("reset", "reset_taken", "reset_mid_body", "failing", "failing_taken", "too_many", "html", "empty")
"""As in `support.runpod.faults`."""

MOST_AWAY_S = 4.0


def make_schedule(rng: random.Random, span_s: float) -> Schedule:
    """Everything is over by `span_s`."""
    return Schedule(tuple(_windows(rng, span_s)), tuple(_strikes(rng, span_s)), tuple(_api_faults(rng, span_s)))


def _windows(rng: random.Random, span_s: float) -> list[Window]:
    """One after the other, with calm between, and lighter ones beside them the whole time."""
    found: list[Window] = []
    at = rng.uniform(0.5, 2.0)
    while at < span_s - 1.0:
        lasts = min(rng.uniform(0.5, MOST_AWAY_S), span_s - at)
        found.append(Window(at, lasts, rng.choice(_MAKERS)(rng)))
        at += lasts + rng.uniform(0.3, 2.5)
    for suffix in (".status.json", ".done.json", ".error.json", "transcript.txt", ".answer"):
        at = rng.uniform(0.0, span_s * 0.8)
        held = StoreFault("held", share=0.5, seconds=rng.uniform(1.0, 6.0), suffix=suffix)
        found.append(Window(at, span_s * 0.15, held))
    return sorted(found, key=lambda window: window.at)


def _away(rng: random.Random) -> StoreFault:
    del rng
    return StoreFault("away")


def _refuse(rng: random.Random) -> StoreFault:
    status, code = rng.choice(REFUSALS)
    # A worker cannot tell a refusal for now from one for good; what it makes of it is another matter.
    return StoreFault("refuse", side="listener", share=rng.choice((0.3, 1.0)), status=status, code=code)


def _cut(rng: random.Random) -> StoreFault:
    ways: tuple[Way, ...] = ("cut_request", "cut_answer", "lost_answer")
    return StoreFault(rng.choice(ways), share=rng.uniform(0.1, 0.5))


def _slow(rng: random.Random) -> StoreFault:
    return StoreFault("slow", share=rng.uniform(0.2, 0.6), seconds=rng.uniform(0.2, 1.5))


_MAKERS: tuple[Callable[[random.Random], StoreFault], ...] = (_away, _refuse, _refuse, _refuse, _cut, _cut, _slow)


def _strikes(rng: random.Random, span_s: float) -> list[Strike]:
    rates: dict[Blow, float] = {
        "kill": 1 / 7,
        "stop": 1 / 20,
        "kill_store": 1 / 25,
        "kill_worker": 1 / 10,
        "lose_job": 1 / 8,
        "repeat_job": 1 / 5,
    }
    found: list[Strike] = []
    for blow, rate in rates.items():
        times = max(1, round(rate * span_s))
        found += [
            Strike(rng.uniform(1.0, span_s), blow, rng.choice((0.0, rng.uniform(0.0, 3.0)))) for _ in range(times)
        ]
    return sorted(found, key=lambda strike: strike.at)


def _api_faults(rng: random.Random, span_s: float) -> list[ApiFault]:
    ops = ("run", "run", "status", "cancel", "job-done")
    found = [
        ApiFault(rng.uniform(0.0, span_s - 1.0), rng.choice(ops), rng.choice(API_FAULTS), rng.choice((1, 1, 2, 3)))
        for _ in range(round(span_s / 3))
    ]
    return sorted(found, key=lambda fault: fault.at)
