"""Records that are lost, the ledger's with the whole state or the engine's alone: nothing is done or paid for twice."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support.deadlines import HANG_S
from support.installation import SAMPLES, Installation
from support.runpod.installation import RunPodInstallation, patched

MEDIA_TRIGGER = {
    "name": "mp4",
    "pattern": "*.mp4",
    "manifest": {"operation": "caption", "srt": "/cues.srt", "burn": False},
}
MUX = json.dumps({"video": "clip.mp4", "audio": "chord.ogg", "output_filename": "muxed.mp4"}).encode()
CLOSER = "listener.runs.finalizer:RunFinalizer"
SECRET = ".gpudrop/secret"
LEDGER = "listener.ledger.jobs:JobLedger"


def state_of(install: Installation) -> Path:
    return Path(install.config.get("state") or install.folder / ".gpudrop")


def lose_engine(install: Installation) -> None:
    lost = list(state_of(install).glob("engine.sqlite*"))
    assert lost
    for path in lost:
        path.unlink()


def killed_at(rp: RunPodInstallation, folder: Path, point: str) -> str:
    """The drop whose listener dies at `point`; the next one does not."""
    plain = dict(rp.install.environ)
    rp.install.environ |= patched(folder, STOP_AT=point)
    rp.install.start()
    key = rp.drop("killed")
    assert rp.install.process
    assert rp.install.process.wait(HANG_S) == -9
    rp.install.environ = plain
    return key


def paid_once(rp: RunPodInstallation, key: str) -> dict[str, Any]:
    done = rp.install.done(key)
    rp.quiet(key)
    assert rp.runs(key) == 1
    assert [e.outcome for e in rp.worked(key)] == ["completed"]
    return done


@pytest.mark.parametrize(
    "point",
    [
        f"after {LEDGER}:sent",
        f"after {LEDGER}:ended",
        f"before {CLOSER}:write",
        f"after {CLOSER}:write",
        f"after {CLOSER}:done",
    ],
)
def test_the_engines_database_is_lost(rp: RunPodInstallation, tmp_path: Path, point: str) -> None:
    rp.work()
    key = killed_at(rp, tmp_path, point)
    lose_engine(rp.install)
    rp.install.start()
    paid_once(rp, key)
    rp.install.until(lambda: "done" in rp.install.command("status", key).stdout)
    assert len(rp.install.logged("run_accepted")) == 1


def test_what_was_fetched_before_its_end_was_recorded_is_neither_missed_nor_written_again(
    rp: RunPodInstallation, tmp_path: Path
) -> None:
    rp.work()
    key = killed_at(rp, tmp_path, f"after {CLOSER}:done")
    outputs = [each["key"] for each in rp.install.done(key)["outputs"]]
    rp.install.drops.delete("killed.done.json")
    rp.install.drops.delete(outputs[0])
    rp.install.start()
    rp.install.until(lambda: "done" in rp.install.command("status", key).stdout)
    follower = rp.drop("follower")
    rp.install.done(follower)
    left = {k for k in rp.install.drops.listing() if k.startswith("killed") and k != key}
    assert left == set(outputs[1:])
    assert rp.runs(key) == 1


def test_the_state_is_lost(rp: RunPodInstallation) -> None:
    rp.work()
    rp.install.start()
    key = rp.drop("kept")
    failing = rp.drop("failing", "no-such-model", formats=["nonsense"])
    done, failed = paid_once(rp, key), rp.install.failed(failing)
    rp.install.stop()
    shutil.rmtree(state_of(rp.install))
    rp.install.start()
    rp.install.until(lambda: len(rp.install.logged("run_found_ended")) == 2)
    assert rp.install.document(key, "done") == done
    assert rp.install.document(failing, "error") == failed
    assert rp.runs(key) == 1
    # Both may be asked for again, and an overwrite is another version.
    rp.install.until(lambda: rp.install.command("redrive", key).returncode == 0)
    rp.install.until(lambda: rp.runs(key) == 2)
    again = rp.install.until(lambda: (d := rp.install.document(key, "done")) and d != done and d)
    assert again["run_id"] != done["run_id"]
    rp.install.stop()
    shutil.rmtree(state_of(rp.install))
    rp.install.start()
    rp.install.until(lambda: len(rp.install.logged("run_found_ended")) == 4)
    assert rp.install.document(key, "done") == again
    assert rp.runs(key) == 2


@pytest.mark.parametrize("found", ["beside the ledger", "in the store", "in the environment"])
def test_a_listener_that_lost_its_ledger_knows_a_job_under_way_by_its_secret(
    rp: RunPodInstallation, found: str
) -> None:
    if found == "in the environment":
        rp.install.environ["GPUDROP_SECRET"] = "0123456789abcdef" * 2
    rp.work()
    rp.install.start()
    if found == "in the store":
        rp.install.until(lambda: rp.install.drops.get(SECRET) is not None)
    key = rp.drop("kept", "wait-2")
    job = rp.running(key)
    rp.install.kill()
    if found == "beside the ledger":
        for path in state_of(rp.install).glob("ledger.sqlite*"):
            path.unlink()
    else:
        shutil.rmtree(state_of(rp.install))
    rp.install.start()
    rp.install.done(key)
    rp.quiet(key)
    assert [e.outcome for e in rp.worked(key)] == ["completed"]
    assert [e.outcome for e in job.executions] == ["completed"]
    assert len(rp.install.logged("secret_recovered")) == (found != "in the environment")
    assert (rp.install.drops.get(SECRET) is None) == (found == "in the environment")


def change(install: Installation, database: str, statement: str) -> None:
    with closing(sqlite3.connect(state_of(install) / f"{database}.sqlite")) as db:
        assert db.execute(statement).rowcount == 1
        db.commit()


def put_media(install: Installation) -> None:
    for name in ("clip.mp4", "chord.ogg", "dawn.jpg"):
        install.drops.put(name, (SAMPLES / "media" / name).read_bytes())


def status_of(install: Installation) -> str:
    return install.command("status", "a.job.json").stdout


@pytest.mark.parametrize("sidecar", ["there", "gone"])
def test_a_ledger_that_was_set_back_closes_what_the_engine_has_ended(
    folder_install: Installation, sidecar: str
) -> None:
    install = folder_install
    put_media(install)
    install.start(triggers=[])
    install.drops.put("a.job.json", MUX)
    done = install.done("a.job.json")
    install.until(lambda: "done" in status_of(install))
    install.stop()
    change(install, "ledger", "UPDATE gpudrop_runs SET state = 'running', error_code = ''")
    if sidecar == "gone":
        install.drops.delete("a.done.json")
    install.start()
    install.until(lambda: install.logged("run_closed_again"))
    if sidecar == "there":
        install.until(lambda: "done" in status_of(install))
        assert install.document("a.job.json", "done") == done
    else:
        install.until(lambda: "failed" in status_of(install))
        assert install.document("a.job.json", "done") is None
    assert not install.logged("run_told_again")


def test_a_story_that_the_engine_has_broken_off_is_told_again(folder_install: Installation) -> None:
    install = folder_install
    put_media(install)
    install.start(triggers=[])
    install.drops.put("a.job.json", json.dumps({"images": [{"image": "dawn.jpg", "duration": 12}]}).encode())
    install.running("a.job.json", percent=12)
    install.kill()
    change(install, "engine", "UPDATE workflow_status SET status = 'ERROR' WHERE name = 'run'")
    install.start()
    install.done("a.job.json")
    assert [entry["because"] for entry in install.logged("run_told_again")] == ["broken"]
    assert len(install.logged("run_accepted")) == 1


def test_outputs_of_a_lost_state_start_nothing(install: Installation) -> None:
    samples = SAMPLES / "media"
    install.drops.put("cues.srt", (samples / "clip.srt").read_bytes())
    install.start(triggers=[MEDIA_TRIGGER])
    install.drops.put("one.mp4", (samples / "clip.mp4").read_bytes())
    done = install.done("one.mp4")
    (output,) = [each["key"] for each in done["outputs"]]
    install.stop()
    shutil.rmtree(state_of(install))
    install.start()
    install.until(lambda: install.logged("run_found_ended"))
    marker = {"video": "one.mp4", "audio": "none.ogg"}
    install.drops.put("last.job.json", json.dumps(marker).encode())
    install.until(lambda: install.document("last.job.json", "status"))
    assert install.document("one.mp4", "done") == done
    assert {entry["key"] for entry in install.logged("run_accepted")} == {"one.mp4", "last.job.json"}
    assert install.document(output, "status") is None
    assert install.document(output, "done") is None
