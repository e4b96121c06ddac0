"""Drops that share a name: each has sidecars of its own."""

from __future__ import annotations

import json
from typing import Any

from support.installation import SAMPLES, Installation

MEDIA = SAMPLES / "media"
LONG = {"images": [{"image": "dawn.jpg", "duration": 120}]}


def mux(output: str) -> str:
    return json.dumps({"video": "clip.mp4", "audio": "chord.ogg", "output_filename": output})


def read(install: Installation, key: str) -> dict[str, Any] | None:
    data = install.drops.get(key)
    return json.loads(data) if data is not None else None


def put_media(install: Installation) -> None:
    for name in ("clip.mp4", "chord.ogg", "dawn.jpg"):
        install.drops.put(name, (MEDIA / name).read_bytes())


def test_two_manifests_of_one_name_have_sidecars_of_their_own(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    install.drops.put("w.job.json", mux("one.mp4").encode())
    first = install.done("w.job.json")
    install.drops.put("w.job.yaml", mux("two.mp4").encode())
    second = install.until(lambda: read(install, "w.job.yaml.done.json"))
    assert second["key"] == "w.job.yaml"
    assert [o["key"] for o in second["outputs"]] == ["two.mp4"]
    assert install.document("w.job.json", "done") == first

    redriven = install.command("redrive", second["run_id"])
    assert redriven.returncode == 0
    again = install.until(lambda: (d := read(install, "w.job.yaml.done.json")) and d != second and d)
    assert again["key"] == "w.job.yaml"
    assert install.document("w.job.json", "done") == first
    assert not [key for key in install.drops.listing() if key.endswith(".status.json")]


def test_a_name_is_free_again_once_its_drop_is_gone(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    install.drops.put("w.job.json", mux("one.mp4").encode())
    install.done("w.job.json")
    install.drops.delete("w.job.json")
    install.until(lambda: [e for e in install.logged("event_ended") if e["outcome"] == "removed"])
    install.drops.put("w.job.yaml", mux("two.mp4").encode())
    second = install.until(lambda: (d := install.document("w.job.json", "done")) and d["key"] == "w.job.yaml" and d)
    assert [o["key"] for o in second["outputs"]] == ["two.mp4"]


def test_a_cancel_ends_all_of_its_name_or_the_one_of_its_full_name(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    for suffix, path in (("json", "j/"), ("yaml", "y/"), ("yml", "m/")):
        install.drops.put(f"w.job.{suffix}", json.dumps({**LONG, "path": path}).encode())
        install.until(lambda key=f"w.job.{suffix}": [e for e in install.logged("run_accepted") if e["key"] == key])
    install.drops.put("w.job.yaml.cancel", b"x")
    assert install.until(lambda: read(install, "w.job.yaml.error.json"))["code"] == "cancelled"
    assert "w.job.yaml.cancel" not in install.drops.listing()
    assert not {"w.error.json", "w.job.yml.error.json"} & install.drops.listing()
    install.drops.put("w.cancel", b"x")
    assert install.until(lambda: read(install, "w.error.json"))["code"] == "cancelled"
    assert install.until(lambda: read(install, "w.job.yml.error.json"))["code"] == "cancelled"
