"""Keys that a folder cannot hold, and links that lead out of it: each run ends with an error that says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.installation import SAMPLES, FolderDrops, Installation, folder_installation

LONG = "n" * 252
MUX = {"video": "/clip.mp4", "audio": "/chord.ogg"}
SPEECH = {"operation": "transcribe", "audio": "/speech.ogg", "model": "tiny.en"}
CASES: dict[str, tuple[dict[str, str], str]] = {
    "folder.job.json": ({**MUX, "path": f"{LONG}{LONG}/"}, "unusable_key"),
    "words.job.json": ({**SPEECH, "path": f"{LONG}{LONG}/"}, "unusable_key"),
    "linked-folder.job.json": ({**MUX, "path": "out/"}, "store_denied"),
    "linked-words.job.json": ({**SPEECH, "path": "out/"}, "store_denied"),
    "linked-input.job.json": ({**MUX, "audio": "/secret.ogg"}, "store_denied"),
    "linked-words-input.job.json": ({**SPEECH, "audio": "/secret.ogg"}, "store_denied"),
    "linked-folder-input.job.json": ({**MUX, "audio": "/out/secret.ogg"}, "store_denied"),
    "linked-subtitles.job.json": ({"video": "/clip.mp4", "srt": "/secret.srt"}, "store_denied"),
    "long-input.job.json": ({**MUX, "audio": f"/{LONG}.ogg"}, "unusable_key"),
    "file-as-folder.job.json": ({**MUX, "path": "clip.mp4/"}, "unusable_key"),
}
LINKED = "linked-outputs.job.json"
LONG_DROP = "d" * 246 + ".job.json"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.ogg").write_bytes((SAMPLES / "media" / "chord.ogg").read_bytes())
    (folder / "secret.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nsecret\n")
    return folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, outside: Path, model_dir: Path) -> Iterator[Installation]:
    """One listener that is given all of them, and must live on."""
    install = folder_installation(tmp_path_factory.mktemp("keys"), {"GPUDROP_MODEL_DIR": str(model_dir)})
    assert isinstance(install.drops, FolderDrops)
    root = install.drops.root
    for name in ("clip.mp4", "chord.ogg"):
        install.drops.put(name, (SAMPLES / "media" / name).read_bytes())
    install.drops.put("speech.ogg", (SAMPLES / "speech.ogg").read_bytes())
    (root / "out").symlink_to(outside)
    (root / "secret.ogg").symlink_to(outside / "secret.ogg")
    (root / "secret.srt").symlink_to(outside / "secret.srt")
    (root / "linked").mkdir()
    for name in ("segments.srt", "words.json"):
        (root / "linked" / name).symlink_to(outside / "secret.srt")
    install.start(manifests={"wait_for_inputs": "4s"}, triggers=[])
    for key, (fields, _) in CASES.items():
        install.drops.put(key, json.dumps(fields).encode())
    install.drops.put(LINKED, json.dumps({**SPEECH, "path": "linked/"}).encode())
    install.drops.put(LONG_DROP, json.dumps(MUX).encode())
    yield install
    install.close()


@pytest.mark.parametrize("key", CASES)
def test_a_run_ends_with_an_error_about_its_key(hostile: Installation, key: str) -> None:
    error = hostile.failed(key)
    assert error["code"] == CASES[key][1], error
    assert error["hint"]
    assert error["retryable"] is False
    assert hostile.drops.get(error["dead_letter"])
    assert hostile.document(key, "status") is None


def test_what_links_lead_to_stays_as_it_is(hostile: Installation, outside: Path) -> None:
    hostile.ended(LINKED)
    for key in CASES:
        hostile.failed(key)
    assert sorted(path.name for path in outside.iterdir()) == ["secret.ogg", "secret.srt"]
    assert "secret" in (outside / "secret.srt").read_text()


def test_outputs_take_the_place_of_links(hostile: Installation) -> None:
    done = hostile.done(LINKED)
    assert isinstance(hostile.drops, FolderDrops)
    for output in done["outputs"]:
        assert not (hostile.drops.root / output["key"]).is_symlink()


def test_a_drop_whose_sidecars_have_no_name_ends_before_any_work(hostile: Installation) -> None:
    (told,) = hostile.until(lambda: [e for e in hostile.logged("run_end_not_written") if e["key"] == LONG_DROP])
    assert told["hint"]
    letters = [
        json.loads(data) for key in hostile.drops.listing() if "_dlq/" in key and (data := hostile.drops.get(key))
    ]
    (letter,) = [letter for letter in letters if letter["key"] == LONG_DROP]
    assert letter["error"]["code"] == "unusable_key"
    assert letter["attempts"] == []
    assert not [key for key in hostile.drops.listing() if key.startswith("ddd") and key != LONG_DROP]


def test_the_listener_lives_on(hostile: Installation) -> None:
    for key in CASES:
        hostile.failed(key)
    assert hostile.process
    assert hostile.process.poll() is None
    assert not hostile.logged("run_defect")
    assert not hostile.logged("attempt_defect")
    assert "Traceback" not in hostile.log_text()
