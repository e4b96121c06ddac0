"""Workers in bubblewrap: they do their work, and find neither other processes, nor the state, nor secrets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_dispatch.sandbox import Sandbox, sandboxed, why_unusable
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
    require(not why_unusable(), "There is no bubblewrap that works here.", "apt-get install bubblewrap")


def test_what_a_worker_finds(tmp_path: Path) -> None:
    state, drop, work, home = [tmp_path / name for name in ("state", "drop", "work", "home")]
    for folder in (state, drop, work, home):
        folder.mkdir()
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


def test_drops_are_done_there(folder_install: Installation) -> None:
    install = folder_install
    install.start(triggers=[], local={"sandbox": "bubblewrap"})
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
