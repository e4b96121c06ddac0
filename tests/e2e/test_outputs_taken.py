"""No drop's output is overwritten by another drop's run, and nothing is paid to find that out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.installation import SAMPLES, Installation

MEDIA = SAMPLES / "media"
SPEECH = (SAMPLES / "speech.ogg").read_bytes()
CHANNEL = "canais/Channel/Video"


def mux(output: str = "same.mp4") -> bytes:
    return json.dumps({"video": "clip.mp4", "audio": "chord.ogg", "output_filename": output}).encode()


def put_media(install: Installation) -> None:
    for name in ("clip.mp4", "chord.ogg"):
        install.drops.put(name, (MEDIA / name).read_bytes())


def refused(install: Installation, key: str, owner: str) -> dict[str, Any]:
    error = install.failed(key)
    assert error["code"] == "output_taken", error
    assert repr(owner) in error["message"]
    assert owner in error["hint"]
    letter = install.drops.get(error["dead_letter"])
    assert letter is not None
    assert json.loads(letter)["attempts"] == [], "work was done for it"
    return error


@pytest.fixture
def hearing(install: Installation, model_dir: Path) -> Installation:
    install.environ["GPUDROP_MODEL_DIR"] = str(model_dir)
    install.config["defaults"] = {"transcribe": {"model": "tiny.en"}}
    return install


def test_recordings_of_one_folder_have_outputs_of_their_own(hearing: Installation) -> None:
    """With the triggers of the project's own config.yaml."""
    hearing.start()
    drops = [f"{CHANNEL}/audios/{name}" for name in ("one.ogg", "two.ogg")]
    for key in drops:
        hearing.drops.put(key, SPEECH)
    outputs = [{o["key"] for o in hearing.done(key)["outputs"]} for key in drops]
    assert f"{CHANNEL}/transcriptions/one/segments.srt" in outputs[0]
    assert f"{CHANNEL}/transcriptions/two/segments.srt" in outputs[1]
    hearing.drops.put(f"{CHANNEL}/audios/one.mp3", SPEECH)
    refused(hearing, f"{CHANNEL}/audios/one.mp3", drops[0])


@pytest.mark.parametrize("language", [None, "en"])
def test_names_that_depend_on_the_language(hearing: Installation, language: str | None) -> None:
    """A name is spoken for before the language is known."""
    asked = {"operation": "transcribe", "naming": "media", "formats": ["srt"], "language": language}
    manifest = {name: value for name, value in asked.items() if value}
    hearing.start(triggers=[{"name": "audio", "pattern": "*.{ogg,mp3}", "manifest": manifest}])
    hearing.drops.put("same.ogg", SPEECH)
    done = hearing.done("same.ogg")
    assert [o["key"] for o in done["outputs"]] == ["same.en.srt"]
    hearing.drops.put("same.mp3", SPEECH)
    refused(hearing, "same.mp3", "same.ogg")
    assert hearing.document("same.ogg", "done") == done


def test_an_output_stays_its_drops(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    install.drops.put("one.job.json", mux())
    first = install.done("one.job.json")
    made = install.drops.get("same.mp4")
    install.stop()
    install.start()
    install.drops.put("two.job.json", mux())
    refused(install, "two.job.json", "one.job.json")
    assert install.document("one.job.json", "done") == first
    assert install.drops.get("same.mp4") == made
    again = install.command("redrive", first["run_id"])
    assert again.returncode == 0
    install.until(lambda: (d := install.document("one.job.json", "done")) and d["run_id"] != first["run_id"])


def test_owners_are_known_when_the_state_was_lost(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    install.drops.put("one.job.json", mux())
    first = install.done("one.job.json")
    install.stop()
    shutil.rmtree(install.config.get("state") or install.folder / ".gpudrop")
    install.start()
    install.until(lambda: install.logged("earlier_outputs_found"))
    install.drops.put("two.job.json", mux())
    refused(install, "two.job.json", "one.job.json")
    assert install.document("one.job.json", "done") == first


def test_of_two_at_the_same_moment_one_is_refused(install: Installation) -> None:
    put_media(install)
    keys = ["one.job.json", "two.job.json", "three.job.json"]
    for key in keys:
        install.drops.put(key, mux())
    install.start(triggers=[])
    codes = {key: install.ended(key)["code"] for key in keys}
    assert sorted(map(str, codes.values())) == ["200", "output_taken", "output_taken"]


@pytest.mark.parametrize("what", ["one.job.json", "same.mp4"])
def test_an_output_is_free_once_it_or_its_drop_is_gone(install: Installation, what: str) -> None:
    install.start(triggers=[], reconcile={"interval": "1h"})
    put_media(install)
    install.drops.put("one.job.json", mux())
    install.done("one.job.json")
    install.drops.delete(what)
    install.drops.put("two.job.json", mux())
    assert [o["key"] for o in install.done("two.job.json")["outputs"]] == ["same.mp4"]


def test_a_run_that_failed_owns_nothing(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    install.drops.put("broken.mp4", b"no video")
    manifest = {"video": "broken.mp4", "audio": "chord.ogg", "output_filename": "same.mp4"}
    install.drops.put("one.job.json", json.dumps(manifest).encode())
    assert install.failed("one.job.json")["code"] != "output_taken"
    install.drops.put("two.job.json", mux())
    install.done("two.job.json")


def test_a_drop_that_is_renamed_while_it_runs_waits_for_its_own_end(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    install.drops.put("dawn.jpg", (MEDIA / "dawn.jpg").read_bytes())
    long = json.dumps({"images": [{"image": "dawn.jpg", "duration": 120}], "path": "clips/"}).encode()
    install.drops.put("one.job.json", long)
    install.running("one.job.json")
    short = json.dumps({"images": [{"image": "dawn.jpg", "duration": 0.5}], "path": "clips/"}).encode()
    install.drops.delete("one.job.json")
    install.drops.put("two.job.json", short)
    assert [o["key"] for o in install.done("two.job.json")["outputs"]] == ["clips/video_1.mp4"]
    assert install.failed("one.job.json")["code"] == "cancelled"


def test_a_drop_is_not_overwritten(install: Installation) -> None:
    """Bare media that started a run of its own."""
    soft = {"operation": "caption", "srt": "/cues.srt", "burn": False}
    install.start(triggers=[{"name": "mp4", "pattern": "same.mp4", "manifest": soft}])
    put_media(install)
    install.drops.put("cues.srt", (MEDIA / "clip.srt").read_bytes())
    install.drops.put("same.mp4", (MEDIA / "clip.mp4").read_bytes())
    install.done("same.mp4")
    install.drops.put("one.job.json", mux())
    refused(install, "one.job.json", "same.mp4")
    assert install.drops.get("same.mp4") == (MEDIA / "clip.mp4").read_bytes()
