"""Workers in bubblewrap: they do their work, and find neither other processes, nor the state, nor secrets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gpu_dispatch.local.sandbox import Sandbox, sandbox_problem, sandboxed
from gpu_dispatch.worker.video.ffmpeg import find_ffmpeg
from support.deadlines import HANG_S
from support.installation import SAMPLES, Installation
from support.requirements import require

SPY = """
import json, os, sys
from pathlib import Path

def tried(work):
    try:
        return work()
    except OSError:
        return None

state, secret, drop, work, home = map(Path, sys.argv[1:])
print(json.dumps({
    "processes": sum(name.isdigit() for name in os.listdir("/proc")),
    "state": sorted(os.listdir(state)),
    "secret": tried(secret.read_text) or "",
    "drop": tried(lambda: (drop / "out").write_text("x")),
    "work": tried(lambda: (work / "out").write_text("x")),
    "home": tried(lambda: (home / "out").write_text("x")),
}))
"""


@pytest.fixture(autouse=True)
def _bubblewrap() -> None:
    require(not sandbox_problem(), "There is no bubblewrap that works here.", "apt-get install bubblewrap")


def test_what_a_worker_finds(tmp_path: Path) -> None:
    state, drop, work, home = [tmp_path / name for name in ("state", "drop", "room/work", "home")]
    for folder in (state, drop, work, home):
        folder.mkdir(parents=True)
    (state / "engine.sqlite").write_text("records")
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t")
    arguments = [str(path) for path in (state, secret, drop, work, home)]
    command = (sys.executable, "-c", SPY, *arguments)
    done = subprocess.run(
        sandboxed(command, Sandbox((drop,), (state, secret)), work),
        capture_output=True, text=True, check=True, timeout=HANG_S,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found.pop("processes") <= 2
    assert found == {"state": [], "secret": "", "drop": 1, "work": 1, "home": None}
    assert (drop / "out").exists() and not (home / "out").exists()


def _found(folder: Path, sandbox: Sandbox, script: str) -> list[str]:
    work = folder / "room" / "work"
    work.mkdir(parents=True, exist_ok=True)
    code = f"import os, tempfile\nfrom pathlib import Path\n{script}"
    command = sandboxed((sys.executable, "-c", code), sandbox, work)
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANG_S, cwd=folder)
    return done.stdout.split()


def test_of_two_places_the_inner_one_has_its_way(tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    look = f"print(*os.listdir({str(inner)!r}), os.access({str(inner)!r}, os.W_OK))"
    assert _found(tmp_path, Sandbox((outer,), (inner,)), look) == ["False"]
    assert _found(tmp_path, Sandbox((inner,), (outer,)), look) == ["file", "True"]
    assert _found(tmp_path, Sandbox((outer, inner), (inner,)), look) == ["False"]
    assert _found(tmp_path, Sandbox((), (outer,), (inner,)), look) == ["file", "False"]


def test_links_and_relative_paths_are_what_they_lead_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    drop, state = tmp_path / "drop", tmp_path / "elsewhere" / "state"
    for folder in (drop, state):
        folder.mkdir(parents=True)
    (state / "file").touch()
    Path("key").write_text("s3cr3t")
    (drop / "state").symlink_to(state)
    (drop / "key").symlink_to(tmp_path / "key")
    sandbox = Sandbox((drop,), (drop / "state", Path("key"), Path("no such file")), (state.parent, tmp_path / "key"))
    script = f"os.chdir({str(drop)!r})\nprint(*os.listdir('state'))\nos.system('cat key')"
    assert _found(tmp_path, sandbox, script) == []


def test_temporary_files_lie_with_the_job_alone(tmp_path: Path) -> None:
    script = "print(tempfile.gettempdir(), *(os.access(p, os.W_OK) for p in ('/tmp', '/var/tmp', Path.cwd().parent)))"
    (tmp_path / "room" / "another").mkdir(parents=True)
    found = _found(tmp_path, Sandbox(), f"{script}\nprint(*os.listdir('..'))")
    assert found == [str(tmp_path / "room" / "work"), "False", "False", "False", "work"]


def test_drops_are_done_there(folder_install: Installation) -> None:
    install = folder_install
    ffmpeg = install.folder / "tools" / "ffmpeg"
    ffmpeg.parent.mkdir()
    ffmpeg.write_text(f'#!/bin/sh\nexec {find_ffmpeg()} "$@"\n')
    ffmpeg.chmod(0o755)
    (install.folder / "token").write_text("s3cr3t")
    install.environ["GPUDROP_EVENTS_TOKEN_FILE"] = "token"
    install.start(triggers=[], local={"sandbox": "bubblewrap", "ffmpeg": str(ffmpeg)})
    for name in ("clip.mp4", "chord.ogg"):
        install.drops.put(name, (SAMPLES / "media" / name).read_bytes())
    install.drops.put("a.job.json", json.dumps({"video": "clip.mp4", "audio": "chord.ogg"}).encode())
    assert install.done("a.job.json")["outputs"]
    assert any("bwrap" in " ".join(child.cmdline()) for child in install.children())
    install.drops.put("b.job.json", json.dumps({"images": [{"image": "no.jpg", "duration": 1}], "path": "b/"}).encode())
    install.drops.put("no.jpg", b"no picture")
    assert install.failed("b.job.json")["code"] == "image_unreadable"
    assert install.stop() < 10
    assert install.children() == []


def test_nothing_is_left_when_the_listener_is_killed(folder_install: Installation) -> None:
    install = folder_install
    install.start(triggers=[], local={"sandbox": "bubblewrap"})
    install.drops.put("a.jpg", (SAMPLES / "media" / "dawn.jpg").read_bytes())
    images = {"images": [{"image": "a.jpg", "duration": 3600}], "path": "a/"}
    install.drops.put("a.job.json", json.dumps(images).encode())
    install.until(lambda: any(child.name().startswith("ffmpeg") for child in install.children()))
    left = install.children()
    install.kill()
    _, alive = psutil.wait_procs(left, HANG_S)
    assert not alive
