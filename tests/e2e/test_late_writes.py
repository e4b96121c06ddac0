"""Requests that the store carries out late: a write of a run that has ended, was killed, or gave way to a newer one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from support.held_requests import HoldingProxy
from support.installation import SAMPLES, Installation, MinioDrops

MUX = json.dumps({"video": "clip.mp4", "audio": "chord.ogg", "output_filename": "muxed.mp4"}).encode()
LONG = json.dumps({"images": [{"image": "dawn.jpg", "duration": 60}], "path": "clips/"}).encode()
BAD = json.dumps({"video": "clip.mp4", "audio": "chord.ogg", "no_such_field": 1}).encode()


@dataclass
class Late:
    install: Installation
    proxy: HoldingProxy

    def accepted(self, count: int) -> list[str]:
        """Ids of the runs of a.job.json, once there are so many."""
        entries = self.install.until(lambda: len(found := self.install.logged("run_accepted")) >= count and found)
        return [entry["run_id"] for entry in entries]

    def kinds(self) -> set[str]:
        return {key for key in self.install.drops.listing() if key.startswith("a.") and key != "a.job.json"}


@pytest.fixture
def late(tmp_path: Path, minio_server: Any, minio_client: Minio, minio_bucket: str) -> Iterator[Late]:
    with HoldingProxy(minio_server.endpoint).serving() as proxy:
        config = {
            "store": {"kind": "s3", "endpoint": proxy.endpoint, "buckets": [minio_bucket]},
            "state": str(tmp_path / "state"),
            "triggers": [],
            "reconcile": {"interval": "1s"},
        }
        keys = {"GPUDROP_S3_ACCESS_KEY": minio_server.access_key, "GPUDROP_S3_SECRET_KEY": minio_server.secret_key}
        install = Installation(tmp_path, MinioDrops(minio_client, minio_bucket), config, keys)
        for name in ("clip.mp4", "chord.ogg", "dawn.jpg"):
            install.drops.put(name, (SAMPLES / "media" / name).read_bytes())
        yield Late(install, proxy)
        install.close()


def test_killed_between_the_last_word_and_its_record(late: Late) -> None:
    """The story that is told again writes a status before it finds the last word."""
    install = late.install
    last_word = late.proxy.hold("PUT", "/a.done.json")
    install.start()
    install.drops.put("a.job.json", MUX)
    last_word.wait()
    install.kill()
    last_word.release()
    done = install.done("a.job.json")
    finding = late.proxy.hold("GET", "/a.done.json")
    install.start()
    finding.wait()
    install.until(lambda: install.document("a.job.json", "status"))
    finding.release()
    install.until(lambda: "done" in install.command("status", "a.job.json").stdout)
    install.until(lambda: late.kinds() == {"a.done.json"})
    assert install.document("a.job.json", "done") == done


def test_a_status_that_lands_after_its_listener_was_killed(late: Late) -> None:
    install = late.install
    install.start()
    status = late.proxy.hold("PUT", "/a.status.json")
    install.drops.put("a.job.json", LONG)
    status.wait()
    install.kill()
    install.drops.put("a.cancel", b"")
    install.start()
    assert install.failed("a.job.json")["code"] == "cancelled"
    install.until(lambda: late.kinds() == {"a.error.json"})
    status.release()
    install.until(lambda: install.logged("status_swept"))
    assert late.kinds() == {"a.error.json"}


def test_the_last_word_of_a_run_that_is_replaced_meanwhile(late: Late) -> None:
    install = late.install
    install.start()
    last_word = late.proxy.hold("PUT", "/a.done.json")
    install.drops.put("a.job.json", MUX)
    last_word.wait()
    time.sleep(1.1)
    install.drops.put("a.job.json", BAD)
    _, newer = late.accepted(2)
    time.sleep(1.0)
    last_word.release()
    error = install.until(lambda: install.document("a.job.json", "error"))
    assert error["run_id"] == newer
    install.until(lambda: late.kinds() == {"a.error.json"})
    install.until(lambda: "superseded" in install.command("status", "a.job.json").stdout)
    assert late.kinds() == {"a.error.json"}


def test_the_last_word_of_a_run_that_was_killed_lands_beside_the_newer_ones(late: Late) -> None:
    install = late.install
    install.start()
    last_word = late.proxy.hold("PUT", "/a.done.json")
    install.drops.put("a.job.json", MUX)
    last_word.wait()
    install.kill()
    time.sleep(1.1)
    install.drops.put("a.job.json", BAD)
    install.start()
    _, newer = late.accepted(2)
    install.until(lambda: (e := install.document("a.job.json", "error")) and e["run_id"] == newer)
    last_word.release()
    install.until(lambda: install.logged("late_sidecar_swept"))
    assert late.kinds() == {"a.error.json"}
    assert install.document("a.job.json", "error")["run_id"] == newer
