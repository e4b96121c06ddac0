"""What a run survives, what ends it, and what never starts one."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import psutil

from support.deadlines import HANG_S
from support.installation import SAMPLES, Installation, MinioDrops
from support.processes import lives, name_of
from support.runpod.installation import patched
from support.stores import admin_client, servers, start_minio

CLIP = (SAMPLES / "media" / "clip.mp4").read_bytes()
CHORD = (SAMPLES / "media" / "chord.ogg").read_bytes()
MUX = json.dumps({"video": "clip.mp4", "audio": "chord.ogg", "output_filename": "muxed.mp4"}).encode()
SLOW = {"images": [{"image": "dawn.jpg", "duration": 12}], "path": "clips/"}
LONG = json.dumps({"images": [{"image": "dawn.jpg", "duration": 60}], "path": "clips/"}).encode()
SHORT = json.dumps({"images": [{"image": "dawn.jpg", "duration": 0.5}], "path": "clips/"}).encode()


def put_media(install: Installation) -> None:
    install.drops.put("clip.mp4", CLIP)
    install.drops.put("chord.ogg", CHORD)
    install.drops.put("dawn.jpg", (SAMPLES / "media" / "dawn.jpg").read_bytes())


def accepted(install: Installation) -> Counter[str]:
    return Counter(entry["key"] for entry in install.logged("run_accepted"))


def settled(install: Installation) -> None:
    """Long enough for another event to arrive and be taken."""
    time.sleep(3.0)
    del install


def test_killed_while_a_job_runs_and_started_again(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    install.drops.put("quick.job.json", MUX)
    first = install.done("quick.job.json")
    install.drops.put("slow.job.json", json.dumps(SLOW).encode())
    status = install.running("slow.job.json", percent=12)
    orphans = install.children()
    assert orphans
    install.kill()
    psutil.wait_procs(orphans, timeout=HANG_S)
    assert not [p for p in orphans if lives(p)]
    assert "clips/video_1.mp4" not in install.drops.listing(), "half-written output"
    install.start()
    done = install.done("slow.job.json")
    assert done["run_id"] == status["run_id"]
    assert [o["key"] for o in done["outputs"]] == ["clips/video_1.mp4"]
    settled(install)
    assert accepted(install) == {"quick.job.json": 1, "slow.job.json": 1}
    assert install.document("quick.job.json", "done") == first


def test_stopped_while_a_job_runs(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    install.drops.put("slow.job.json", json.dumps(SLOW).encode())
    install.running("slow.job.json", percent=12)
    children = install.children()
    assert install.stop() < 5.0
    assert install.process
    assert install.process.returncode == 0
    assert not [p for p in children if lives(p)]
    assert "clips/video_1.mp4" not in install.drops.listing()
    assert install.document("slow.job.json", "error") is None
    install.start()
    install.done("slow.job.json")


def test_dropped_while_stopped(install: Installation) -> None:
    put_media(install)
    install.drops.put("early.job.json", MUX)
    install.start(triggers=[])
    install.done("early.job.json")


def test_an_overwritten_manifest_runs_again(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    install.drops.put("a.job.json", MUX)
    first = install.done("a.job.json")
    time.sleep(1.1)
    install.drops.put("a.job.json", MUX)
    second = install.until(lambda: (d := install.document("a.job.json", "done")) and d != first and d)
    assert second["run_id"] != first["run_id"]
    assert accepted(install) == {"a.job.json": 2}


def test_outputs_start_nothing(install: Installation) -> None:
    """A trigger that takes every mp4, also the ones that runs leave."""
    every = {"name": "mp4", "pattern": "*.mp4", "manifest": {"operation": "caption", "srt": "/cues.srt", "burn": False}}
    install.drops.put("cues.srt", (SAMPLES / "media" / "clip.srt").read_bytes())
    install.start(triggers=[every])
    install.drops.put("one.mp4", CLIP)
    install.done("one.mp4")
    settled(install)
    assert "one.mp4.captioned.mp4" in install.drops.listing() or "one.captioned.mp4" in install.drops.listing()
    assert accepted(install) == {"one.mp4": 1}
    install.stop()
    install.start()
    settled(install)
    assert accepted(install) == {"one.mp4": 1}


def test_old_runs_are_forgotten_and_not_run_again(folder_install: Installation) -> None:
    install = folder_install
    install.start(triggers=[])
    put_media(install)
    install.drops.put("a.job.json", MUX)
    done = install.done("a.job.json")
    install.until(lambda: "done" in install.command("status").stdout)
    install.stop()
    install.start(keep_runs="0s")
    install.until(lambda: install.logged("runs_forgotten"))
    install.until(lambda: "No runs yet" in install.command("status").stdout)
    settled(install)
    assert install.document("a.job.json", "done") == done
    assert accepted(install) == {"a.job.json": 1}


def test_a_manifest_before_its_media(install: Installation) -> None:
    install.start(triggers=[])
    install.drops.put("early/a.job.json", MUX)
    waiting = install.until(lambda: (s := install.document("early/a.job.json", "status")) and s["waiting_for"] and s)
    assert waiting["state"] == "waiting"
    assert sorted(waiting["waiting_for"]) == ["early/chord.ogg", "early/clip.mp4"]
    install.drops.put("early/clip.mp4", CLIP)
    install.until(lambda: (s := install.document("early/a.job.json", "status")) and len(s["waiting_for"]) == 1)
    install.drops.put("early/chord.ogg", CHORD)
    install.done("early/a.job.json")


def test_media_that_never_come(install: Installation) -> None:
    install.start(triggers=[], manifests={"wait_for_inputs": "2s"})
    install.drops.put("a.job.json", MUX)
    error = install.failed("a.job.json")
    assert error["code"] == "input_missing"
    assert "clip.mp4" in error["message"]
    assert "chord.ogg" in error["message"]


def test_deleting_the_manifest_cancels(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    install.drops.put("slow.job.json", LONG)
    install.running("slow.job.json", percent=11)
    install.drops.delete("slow.job.json")
    assert install.failed("slow.job.json")["code"] == "cancelled"
    install.until(lambda: not [c for c in install.children() if "ffmpeg" in name_of(c)])
    assert "clips/video_1.mp4" not in install.drops.listing()


def test_a_manifest_deleted_before_it_was_read_cancels(folder_install: Installation, tmp_path: Path) -> None:
    """The event of its removal may come later than the run that looks for it, or never."""
    install = folder_install
    plain = dict(install.environ)
    install.environ |= patched(tmp_path, STOP_AT="before listener.runs.manifests:ManifestReader:read")
    install.start(triggers=[])
    install.drops.put("a.job.json", MUX)
    assert install.process
    assert install.process.wait(HANG_S) == -9
    install.drops.delete("a.job.json")
    install.environ = plain
    install.start()
    assert install.failed("a.job.json")["code"] == "cancelled"


def test_a_cancel_file_cancels_and_goes(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    install.drops.put("slow.job.json", LONG)
    install.running("slow.job.json", percent=11)
    install.drops.put("slow.cancel", b"please")
    assert install.failed("slow.job.json")["code"] == "cancelled"
    install.until(lambda: "slow.cancel" not in install.drops.listing())


def test_a_newer_version_takes_over(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    install.drops.put("a.job.json", LONG)
    old = install.running("a.job.json", percent=11)
    install.drops.put("a.job.json", SHORT)
    done = install.done("a.job.json")
    assert done["run_id"] != old["run_id"]
    assert done["stats"]["frames"] == 12
    settled(install)
    assert install.document("a.job.json", "error") is None
    assert install.document("a.job.json", "status") is None


def test_a_store_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    """MinIO is stopped while a job runs; the run waits for it, and ends done."""
    server = start_minio("minio", tmp_path / "minio")
    try:
        client = admin_client(server)
        client.make_bucket("drops")
        config = {
            "store": {"kind": "s3", "endpoint": server.endpoint, "buckets": ["drops"]},
            "state": str(tmp_path / "state"),
        }
        keys = {"GPUDROP_S3_ACCESS_KEY": server.access_key, "GPUDROP_S3_SECRET_KEY": server.secret_key}
        install = Installation(tmp_path, MinioDrops(client, "drops"), config, keys)
        install.start()
        put_media(install)
        install.drops.put("slow.job.json", json.dumps(SLOW).encode())
        install.running("slow.job.json", percent=20)
        servers.stop(server)
        time.sleep(5)
        server = servers.restart(server)
        done = install.done("slow.job.json")
        assert [o["key"] for o in done["outputs"]] == ["clips/video_1.mp4"]
        install.drops.put("after.job.json", MUX)
        install.done("after.job.json")
        install.close()
    finally:
        servers.stop(server)
