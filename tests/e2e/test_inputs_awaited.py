"""Runs that wait for their inputs hold no place: nobody else waits for them, and they lose nothing of their own."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from support.installation import SAMPLES, Installation
from support.runpod.installation import patched

CLIP = (SAMPLES / "media" / "clip.mp4").read_bytes()
CHORD = (SAMPLES / "media" / "chord.ogg").read_bytes()


def drop(install: Installation, key: str, *, video: str = "clip.mp4", audio: str = "chord.ogg") -> str:
    install.drops.put(key, json.dumps({"video": video, "audio": audio}).encode())
    return key


def waits_in_the_ledger(install: Installation, count: int) -> bool:
    return sum(entry["runs"] for entry in install.logged("runs_wait_for_inputs")) >= count


def put_media(install: Installation, folder: str) -> None:
    install.drops.put(f"{folder}/clip.mp4", CLIP)
    install.drops.put(f"{folder}/chord.ogg", CHORD)


def test_runs_that_wait_hold_no_place(minio_install: Installation) -> None:
    install = minio_install
    install.start(triggers=[], concurrent_runs=1)
    waiting = [drop(install, f"w/{i}.job.json", video=f"late-{i}.mp4") for i in range(3)]
    install.until(lambda: waits_in_the_ledger(install, 3))
    status = install.document(waiting[0], "status")
    assert status is not None and status["state"] == "waiting"
    assert status["waiting_for"] == ["w/late-0.mp4", "w/chord.ogg"]
    told = install.command("status").stdout
    assert "3 runs wait for their files." in told
    assert "w/1.job.json waits for: w/late-1.mp4; w/chord.ogg" in told
    put_media(install, "other")
    install.done(drop(install, "other/a.job.json"))
    install.drops.put("w/chord.ogg", CHORD)
    install.drops.put("w/late-0.mp4", CLIP)
    install.done(waiting[0])
    # One is cancelled, one replaced, while nothing tells them.
    install.command("cancel", waiting[1])
    assert install.failed(waiting[1])["code"] == "cancelled"
    install.drops.put("w/clip.mp4", CLIP)
    time.sleep(1.1)
    drop(install, waiting[2])
    install.done(waiting[2])


def test_waiting_outlives_kills_and_ends_when_its_time_is_over(folder_install: Installation) -> None:
    install = folder_install
    manifests = {"wait_for_inputs": "12s"}
    install.start(triggers=[], manifests=manifests)
    late, never = drop(install, "w/late.job.json"), drop(install, "w/never.job.json", video="never.mp4")
    dropped = time.monotonic()
    install.until(lambda: waits_in_the_ledger(install, 2))
    install.kill()
    put_media(install, "w")
    install.start(triggers=[], manifests=manifests)
    install.done(late)
    error = install.failed(never)
    assert error["code"] == "input_missing" and "w/never.mp4" in error["message"]
    assert time.monotonic() - dropped >= 12.0


def test_a_run_that_waits_is_not_too_old_for_it(folder_install: Installation) -> None:
    install = folder_install
    install.start(triggers=[], manifests={"max_event_age": "4s", "wait_for_inputs": "20s"})
    late, never = drop(install, "w/late.job.json"), drop(install, "w/never.job.json", video="never.mp4")
    dropped = time.monotonic()
    install.until(lambda: waits_in_the_ledger(install, 2))
    time.sleep(max(0.0, dropped + 5.0 - time.monotonic()))
    put_media(install, "w")
    install.done(late)
    assert install.failed(never)["code"] == "input_missing"


@pytest.mark.parametrize(
    "point",
    [
        "before listener.runs.status:StatusPublisher:_finish",
        "before listener.runs.engine:WorkflowEngine:drop",
        "before listener.ledger.input_waits:InputWaitLedger:begin",
    ],
)
def test_killed_on_its_way_to_the_ledger_a_run_goes_on(
    folder_install: Installation, tmp_path: Path, point: str
) -> None:
    install, plain = folder_install, dict(folder_install.environ)
    key = drop(install, "w/a.job.json")
    install.environ |= patched(tmp_path, STOP_AT=point)
    install.start(triggers=[])
    assert install.process
    assert install.process.wait(120) == -9
    install.environ = plain
    put_media(install, "w")
    install.start(triggers=[])
    install.done(key)
    assert len(install.logged("run_accepted")) == 1
