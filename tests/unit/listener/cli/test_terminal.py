"""What strangers wrote is printed as it is written, wherever it stands."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

from rich.table import Table
from rich.text import Text

from listener.cli.output import Terminal

HOSTILE = "[/b][link=x]:smile:\x1b[2J\x9b2J\u202e"
SHOWN = "[/b][link=x]:smile:\u241b[2J\ufffd2J\ufffd"


def test_text_tables_and_titles() -> None:
    file = io.StringIO()
    terminal = Terminal(file)
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    terminal.print(HOSTILE)
    terminal.print(Text(HOSTILE), table)
    assert file.getvalue().count(SHOWN) == 5
    assert not set(file.getvalue()) & set("\x1b\x9b\u202e")


def test_the_log() -> None:
    program = f"""
import structlog
from listener.cli.output import configure
configure("info", "console")
structlog.get_logger("listener").info("refused", key={HOSTILE + chr(10)!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"{SHOWN}\u240a" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not set(done.stderr) & set("\x1b\x9b\u202e")


def test_the_log_in_json_means_the_same() -> None:
    program = f"""
from listener.cli.output import configure
import structlog
configure("info", "json")
structlog.get_logger("listener").info("refused", key={HOSTILE + chr(10) + chr(0xDC80) + "東京"!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stderr) & set("\x1b\x9b\u202e") and "東京" in done.stderr
    assert json.loads(done.stderr)["key"] == HOSTILE + "\n\udc80東京"


def test_a_manifest_of_a_stranger_is_printed_as_json(tmp_path: Path) -> None:
    file = tmp_path / "a.job.json"
    fields = {"operation": "transcribe", "audio": "a.mp3", "metadata": {"note": HOSTILE}}
    file.write_text(json.dumps(fields))
    done = subprocess.run(
        [sys.executable, "-m", "listener", "validate", str(file)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout) & set("\x1b\x9b\u202e")
    assert json.loads(done.stdout)["metadata"] == {"note": HOSTILE}
