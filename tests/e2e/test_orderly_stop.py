"""SIGTERM while runs are in every phase: the log knows of no trouble, and every run goes on afterwards."""

from __future__ import annotations

import json
import sqlite3
from functools import partial

from support.installation import SAMPLES, Installation

MEDIA = SAMPLES / "media"
WORKING, LATE, REMOVED = 30, 15, 155
KEYS = [f"{i:03}.job.json" for i in range(WORKING + LATE + REMOVED)]
FINISHED, TAKEN_AWAY = KEYS[: WORKING + LATE], KEYS[WORKING + LATE :]
NOISE = ("run_defect", "Traceback", "cannot schedule", "never retrieved", "part_failed", "is closed", "destroyed but")


def manifest(number: int) -> bytes:
    """A quick job; all but the first wait for a sound that is not there yet."""
    audio = "chord.ogg" if number < WORKING else "late.ogg"
    return json.dumps({"video": "clip.mp4", "audio": audio, "output_filename": f"{number:03}.mp4"}).encode()


def states(install: Installation) -> dict[str, str]:
    with sqlite3.connect(install.folder / "state" / "ledger.sqlite") as db:
        return dict(db.execute("SELECT key, state FROM gpudrop_runs").fetchall())


def reached(install: Installation, *, accepted: int, done: int) -> bool:
    found = list(states(install).values())
    return len(found) >= accepted and found.count("done") >= done


def test_two_hundred_runs_are_let_go_and_go_on(install: Installation) -> None:
    # Removals of which nobody told, while it was away, are found by listing.
    install.start(triggers=[], state=str(install.folder / "state"), reconcile={"interval": "10 s"})
    for name in ("clip.mp4", "chord.ogg"):
        install.drops.put(name, (MEDIA / name).read_bytes())
    for number, key in sorted(enumerate(KEYS), reverse=True):
        install.drops.put(key, manifest(number))
    for accepted, done in ((20, 0), (len(KEYS), 5), (len(KEYS), 12)):
        install.until(partial(reached, install, accepted=accepted, done=done))
        install.stop()
        assert install.process
        assert install.process.returncode == 0
        assert [word for word in NOISE if word in install.log_text()] == [], install.log_text()[-6000:]
        assert [entry for entry in entries(install) if entry["level"] in ("error", "critical")] == []
        assert set(states(install).values()) <= {"accepted", "waiting", "queued", "running", "writing", "done"}
        install.start()
    install.drops.put("late.ogg", (MEDIA / "chord.ogg").read_bytes())
    for key in TAKEN_AWAY:
        install.drops.delete(key)
    for key in FINISHED:
        install.done(key)
    expected = dict.fromkeys(FINISHED, "done") | dict.fromkeys(TAKEN_AWAY, "cancelled")
    install.until(lambda: states(install) == expected)
    install.stop()
    assert [word for word in NOISE if word in install.log_text()] == []


def entries(install: Installation) -> list[dict[str, str]]:
    return [json.loads(line) for line in install.log_text().splitlines() if line.startswith("{")]
