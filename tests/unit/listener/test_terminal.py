"""What strangers wrote is printed as it is written, wherever it stands."""

from __future__ import annotations

import io
import subprocess
import sys

from rich.table import Table
from rich.text import Text

from listener.commands.terminal import Terminal

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
from listener.commands.logs import configure
configure("info", "console")
structlog.get_logger("listener").info("refused", key={HOSTILE + chr(10)!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"{SHOWN}\u240a" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not set(done.stderr) & set("\x1b\x9b\u202e")
