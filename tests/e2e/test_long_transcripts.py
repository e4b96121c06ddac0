"""Transcripts of some hours: what they take of a real listener's memory, and what becomes of the processes it uses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import psutil
import pytest

from gpu_dispatch.task import GpuResult
from handlers.base import Input, Planning
from handlers.transcribe import TranscribeHandler
from listener.processes import call
from manifests.models import SubtitleFormat, Transcribe
from manifests.references import ObjectRef
from support.odd_worker import transcript, words
from support.runpod.installation import RunPodInstallation, patched

WORDS = 230_000
FORMATS = get_args(SubtitleFormat)
MB = 2**20
BOUND = 120 * MB
"""The outputs have more than 30 MB; as objects the words take some hundred."""


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux tells the most that a process has had.")
def test_outputs_of_thirty_megabytes_grow_the_listener_little(rp: RunPodInstallation, tmp_path: Path) -> None:
    rp.work()
    # A listener that is started from nothing: one that is forked begins with the tests' memory.
    rp.install.environ.update(patched(tmp_path))
    rp.install.start()
    key = rp.drop("short")
    rp.install.done(key)
    before = most(rp)
    key = rp.drop("long", f"huge-{WORDS}", formats=FORMATS)
    rp.install.done(key)
    assert most(rp) - before < BOUND
    assert rp.paid(key) == 1
    expected = in_process("long", WORDS, FORMATS)
    assert sum(map(len, expected.values())) > 30 * MB
    assert [name for name, data in expected.items() if rp.install.drops.get(name) != data] == []


def test_a_process_that_is_killed_costs_a_run_nothing(rp: RunPodInstallation) -> None:
    rp.work()
    rp.install.start()
    key = rp.drop("killed", "huge-60000")
    first = rp.install.until(lambda: next(iter(calls(rp)), None))
    first.kill()
    rp.install.done(key)
    assert rp.install.logged("process_failed")[0]["why"] == "ended with -9."
    assert rp.paid(key) == 1
    expected = in_process("killed", 60_000, FORMATS[:3])
    assert [name for name, data in expected.items() if rp.install.drops.get(name) != data] == []


def most(rp: RunPodInstallation) -> int:
    """The most bytes of memory that the listener has had."""
    assert rp.install.process
    lines = Path(f"/proc/{rp.install.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def calls(rp: RunPodInstallation) -> list[psutil.Process]:
    """The processes that handle large results for the listener now."""
    found: list[psutil.Process] = []
    for child in rp.install.children():
        try:
            if call.__name__ in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found


def in_process(name: str, count: int, formats: tuple[str, ...]) -> dict[str, bytes]:
    """The outputs as the handler makes them of the same words, by key."""
    handler = TranscribeHandler()
    manifest = Transcribe.model_validate({"audio": "a.mp3", "formats": formats})
    planning = Planning(manifest, name, "b", f"{name}/", {"audio": Input(ObjectRef("b", "a.mp3"))})
    result = GpuResult("t", transcript("huge", words(count)))
    finished = handler.finish(planning, handler.plan(planning), (result,))
    return {output.key: output.data for output in finished.outputs}
