"""A folder as people and programs use it: slow writers, moves, hidden names, systems that run out of watches."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from listener.events.event import ObjectEvent
from listener.sources.folder import FolderWatch, FolderWatchSettings
from support.handles import run_program
from support.sources import Recorder, running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


class Sizes(Recorder):
    """Also notes how large each file is at the moment it is told."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self.sizes: list[tuple[str, int]] = []

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        self.sizes += [(e.key, (self._root / e.key).stat().st_size) for e in events if (self._root / e.key).exists()]
        await super().accept(events)


def watch(root: Path, **changes: Any) -> FolderWatch:
    return FolderWatch(FolderWatchSettings(root, "drop", **changes))


def begun(inbox: Recorder) -> bool:
    return any("begun" in gap for gap in inbox.gaps)


async def test_a_file_is_told_once_when_it_is_finished(root: Path) -> None:
    inbox = Sizes(root)
    async with running(inbox, watch(root)):
        await inbox.until(lambda: begun(inbox))
        with (root / "slow.mp3").open("wb") as file:
            for _ in range(6):
                file.write(b"x" * 1000)
                file.flush()
                await asyncio.sleep(0.3)
        (root / "after.mp3").write_bytes(b"x")
        await inbox.until(lambda: {"slow.mp3", "after.mp3"} <= set(inbox.created))
    assert sorted(inbox.sizes) == [("after.mp3", 1), ("slow.mp3", 6000)]


class Slow(Recorder):
    """Takes its time with what is called "held"."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.held = asyncio.Event()

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        if any("held" in event.key for event in events):
            self.held.set()
            await self.go_on.wait()
        await super().accept(events)


async def test_a_delivery_that_takes_long_holds_up_no_other(root: Path) -> None:
    inbox = Slow()
    async with running(inbox, watch(root)):
        await inbox.until(lambda: begun(inbox))
        (root / "held.mp3").write_bytes(b"x")
        await inbox.held.wait()
        (root / "after.mp3").write_bytes(b"x")
        await inbox.until(lambda: "after.mp3" in inbox.created)
        assert "held.mp3" not in inbox.created
        inbox.go_on.set()
        await inbox.until(lambda: "held.mp3" in inbox.created)


async def test_what_is_under_way_when_the_watch_ends_is_delivered(root: Path) -> None:
    inbox = Slow()
    async with running(inbox, watch(root)):
        await inbox.until(lambda: begun(inbox))
        (root / "held.mp3").write_bytes(b"x")
        await inbox.held.wait()
        (root / "held.mp3").unlink()
        root.rmdir()
        inbox.go_on.set()
        await inbox.until(lambda: "held.mp3" in inbox.created)
        await inbox.until(lambda: inbox.conditions[-1].ok is False)


async def test_moves_are_followed(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep" / "er").mkdir(parents=True)
    (outside / "a.mp3").write_bytes(b"x")
    (outside / "deep" / "er" / "b.mp3").write_bytes(b"x")
    (outside / "deep" / ".hidden.mp3").write_bytes(b"x")
    inbox = Recorder()
    async with running(inbox, watch(root)):
        await inbox.until(lambda: begun(inbox))
        outside.rename(root / "inside")
        await inbox.until(lambda: {"inside/a.mp3", "inside/deep/er/b.mp3"} <= set(inbox.created))
        (root / "inside/a.mp3").rename(root / "c.mp3")
        await inbox.until(lambda: inbox.created["c.mp3"] and inbox.removed["inside/a.mp3"])
        (root / "inside/deep/er/b.mp3").write_bytes(b"again")
        await inbox.until(lambda: inbox.created["inside/deep/er/b.mp3"] == 2)
    assert set(inbox.created) == {"inside/a.mp3", "inside/deep/er/b.mp3", "c.mp3"}


async def test_unfinished_hidden_and_own_files_are_passed_over(root: Path) -> None:
    inbox = Recorder()
    async with running(inbox, watch(root)):
        await inbox.until(lambda: begun(inbox))
        (root / ".gpudrop").mkdir()
        for name in (".gpudrop/state.mp3", ".x.mp3.Ab12", "x.mp3.part", "x.mp3.crdownload", "notes~"):
            (root / name).write_bytes(b"x")
        (root / "x.mp3.part").rename(root / "x.mp3")
        await inbox.until(lambda: inbox.created["x.mp3"])
        (root / "last.mp3").write_bytes(b"x")
        await inbox.until(lambda: inbox.created["last.mp3"])
    assert set(inbox.created) | set(inbox.removed) == {"x.mp3", "last.mp3"}


async def test_a_name_that_is_not_utf8_stops_nothing(root: Path) -> None:
    inbox = Recorder()
    async with running(inbox, watch(root)):
        await inbox.until(lambda: begun(inbox))
        (Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe.mp3"))).write_bytes(b"x")
        await inbox.until(lambda: len(inbox.gaps) == 2)
        (root / "later.mp3").write_bytes(b"x")
        await inbox.until(lambda: inbox.created["later.mp3"])
    assert set(inbox.created) == {"later.mp3"}


async def test_a_folder_that_is_replaced_is_watched_again(root: Path) -> None:
    inbox = Recorder()
    async with running(inbox, watch(root)):
        await inbox.until(lambda: begun(inbox))
        root.rename(root.with_name("old"))
        root.mkdir()
        await inbox.until(lambda: len(inbox.gaps) == 2)
        (root / "a.mp3").write_bytes(b"x")
        await inbox.until(lambda: inbox.created["a.mp3"])


# Two file handles are too few for the system's notifications, which need three, and enough to poll.
OUT_OF_HANDLES = """
import asyncio, os, sys
from pathlib import Path
from listener.sources.folder import FolderWatch, FolderWatchSettings

class Inbox:
    async def accept(self, events):
        print("told", *(event.key for event in events), flush=True)
        os._exit(0)

    def report(self, source, condition):
        pass

    def gap(self, source, reason):
        (root / "a.mp3").write_bytes(b"x")

async def main():
    use_up_handles()
    await FolderWatch(FolderWatchSettings(root, "drop")).run(Inbox())

root = Path(sys.argv[1])
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_without_watches_to_spare_it_polls(root: Path) -> None:
    told = run_program(OUT_OF_HANDLES, root)
    assert "told a.mp3" in told, told
    assert "folder_polled" in told
    assert "fs.inotify.max_user_watches" in told
