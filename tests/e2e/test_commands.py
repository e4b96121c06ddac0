"""Every command, run as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpu_dispatch.local.cgroups import find
from listener.cli.check_lines import limits_line
from support.installation import SAMPLES, Installation
from support.scripts import ROOT

MUX = json.dumps({"video": "clip.mp4", "audio": "chord.ogg", "output_filename": "muxed.mp4"}).encode()
LONG = json.dumps({"images": [{"image": "dawn.jpg", "duration": 60}], "path": "clips/"}).encode()


@pytest.fixture
def cold(folder_install: Installation) -> Installation:
    """One whose commands start from nothing, as a user's do; the others are forked with their modules read."""
    folder_install.environ["PYTHONPATH"] = str(ROOT)
    return folder_install


def put_media(install: Installation) -> None:
    for name in ("clip.mp4", "chord.ogg", "dawn.jpg"):
        install.drops.put(name, (SAMPLES / "media" / name).read_bytes())


def test_status_cancel_and_redrive(install: Installation) -> None:
    install.start(triggers=[])
    put_media(install)
    assert "No runs yet" in install.command("status").stdout
    install.drops.put("slow.job.json", LONG)
    run_id = install.running("slow.job.json", percent=10)["run_id"]
    shown = install.command("status", "slow.job.json").stdout
    assert run_id in shown
    assert "running" in shown
    assert install.command("redrive", run_id).returncode == 1
    assert install.command("cancel", run_id).returncode == 0
    assert install.failed("slow.job.json")["code"] == "cancelled"
    assert install.command("cancel", run_id).returncode == 1
    install.drops.put("quick.job.json", MUX)
    first = install.done("quick.job.json")
    assert install.command("redrive", "quick.job.json").returncode == 0
    again = install.until(lambda: (d := install.document("quick.job.json", "done")) and d != first and d)
    assert again["run_id"] != first["run_id"]
    assert [o["key"] for o in again["outputs"]] == ["muxed.mp4"]


def test_keys_act_on_no_terminal(folder_install: Installation) -> None:
    """What looks like markup is none, and characters that change the order of reading are shown."""
    install = folder_install
    install.start(triggers=[])
    key = "a[/b][red]\u202egnp.job.json"
    install.drops.put(key, b"{")
    install.failed(key)
    shown = install.command("status")
    assert shown.returncode == 0, shown.stderr
    assert "a[/b][red]\ufffdgnp.job.json" in "".join(shown.stdout.split())
    assert "\u202e" not in shown.stdout + install.command("status", key).stdout


def test_a_redrive_waits_for_the_listener(folder_install: Installation) -> None:
    install = folder_install
    install.start(triggers=[])
    put_media(install)
    install.drops.put("quick.job.json", MUX)
    first = install.done("quick.job.json")
    install.stop()
    assert install.command("redrive", "quick.job.json").returncode == 0
    install.start()
    install.until(lambda: (d := install.document("quick.job.json", "done")) and d["run_id"] != first["run_id"])


def test_check_tells_what_is_well(install: Installation, model_dir: Path) -> None:
    install.environ |= {"GPUDROP_MODEL_DIR": str(model_dir), "PYTHONPATH": str(ROOT)}
    install.config_file.write_text(json.dumps(install.config))
    done = install.command("check")
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("configuration", "store", "endpoint", "faster-whisper", "tiny.en", "ffmpeg", "encoder", "fonts"):
        assert word in done.stdout, done.stdout
    assert limits_line(find(prepare=False)).detail in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"stroe": {}}, ("stroe", "store")),
        ({"store": {"kind": "folder", "rot": "x"}}, ("store.rot", "root")),
        ({"reconcile": {"interval": "often"}}, ("reconcile.interval",)),
        ({"triggers": [{"name": "a", "manifest": {"operation": "transcibe"}}]}, ("transcribe",)),
        ({"defaults": {"transcribe": {"modle": "base"}}}, ("model",)),
        ({"sources": ["kafka"]}, ("sources",)),
    ],
)
def test_check_explains_a_bad_configuration(folder_install: Installation, config: object, words: tuple[str]) -> None:
    folder_install.config_file.write_text(json.dumps(config))
    done = folder_install.command("check")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stdout, done.stdout


def test_check_names_a_store_that_is_not_there_and_a_secret_that_is_none(minio_install: Installation) -> None:
    store = {**minio_install.config["store"], "buckets": ["no-such-bucket"]}
    minio_install.config_file.write_text(json.dumps({**minio_install.config, "store": store}))
    minio_install.environ |= {"GPUDROP_CALLBACK_SECRET": "whsec_%"}
    done = minio_install.command("check")
    assert done.returncode == 1
    assert "no-such-bucket" in done.stdout
    assert "BAD  callbacks: GPUDROP_CALLBACK_SECRET" in done.stdout


def test_keys_are_asked_for(minio_install: Installation) -> None:
    minio_install.config_file.write_text(json.dumps(minio_install.config))
    minio_install.environ = dict.fromkeys(minio_install.environ, "")
    done = minio_install.command("run")
    assert done.returncode == 1
    assert "GPUDROP_S3_ACCESS_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_listener_a_state(folder_install: Installation) -> None:
    folder_install.start()
    second = folder_install.command("run")
    assert second.returncode == 1
    assert "Another gpudrop" in second.stderr


def test_validate(cold: Installation, tmp_path: Path) -> None:
    cold.config_file.write_text(json.dumps(cold.config))
    good, bad = tmp_path / "a.job.yaml", tmp_path / "b.job.yaml"
    good.write_text("audio: a.mp3\nlanguage: pt\n")
    bad.write_text("audio: a.mp3\nlangauge: pt\n")
    done = cold.command("validate", str(good))
    assert (done.returncode, json.loads(done.stdout)["operation"]) == (0, "transcribe")
    refused = cold.command("validate", str(bad))
    assert refused.returncode == 1
    assert "language" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_schema(cold: Installation) -> None:
    whole = json.loads(cold.command("schema").stdout)
    assert whole["$schema"]
    one = json.loads(cold.command("schema", "caption").stdout)
    assert "video" in one["properties"]
    assert cold.command("schema", "nothing").returncode == 2
