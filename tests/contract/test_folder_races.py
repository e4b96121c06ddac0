"""Links that are put in the way while the folder store and the worker look, read, write and remove: none is taken."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gpu_dispatch.task import TaskInput, TaskOutput
from gpu_dispatch.transfer.files import inherited
from gpu_dispatch.transfer.safe_paths import PathEscapes, folder_at, open_file, stat_beneath
from gpu_dispatch.transfer.transfer import Transfer
from gpu_dispatch.worker.video.process import run_process
from listener.stores.base import ObjectMeta
from listener.stores.folder import FolderStore
from manifests.errors import GpuDropError, UnusableKey

ROUNDS = 200
SECRET = b"secret of root's"


class Swapper:
    """A thread that makes folders and files below `root` links to `outside`, and takes them back, without a pause."""

    def __init__(self, root: Path, outside: Path) -> None:
        self._root = root
        self._outside = outside
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._swap)
        self.swaps = 0

    def __enter__(self) -> Swapper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _swap(self) -> None:
        links = {name: self._root / f"{name}.link" for name in ("folder", "file.txt")}
        links["folder"].symlink_to(self._outside)
        links["file.txt"].symlink_to(self._outside / "file.txt")
        while not self._end.is_set():
            for name, link in links.items():
                place, kept = self._root / name, self._root / f"{name}.kept"
                with suppress(OSError):
                    place.rename(kept)
                with suppress(OSError):
                    link.rename(place)
                with suppress(OSError):
                    place.rename(link)
                with suppress(OSError):
                    kept.rename(place)
                self.swaps += 1


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file.txt").write_bytes(SECRET)
    return folder


@pytest.fixture
def swapped(tmp_path: Path, outside: Path) -> Iterator[FolderStore]:
    root = tmp_path / "drop"
    (root / "folder").mkdir(parents=True)
    for key in ("file.txt", "folder/file.txt"):
        (root / key).write_bytes(b"harmless")
    with Swapper(root, outside) as swapper:
        yield FolderStore(root)
    assert swapper.swaps > 100
    assert [path.name for path in outside.iterdir()] == ["file.txt"], "something was written or removed outside"
    assert (outside / "file.txt").read_bytes() == SECRET


@pytest.mark.parametrize("key", ["file.txt", "folder/file.txt"])
async def test_nothing_outside_is_read_or_listed(swapped: FolderStore, key: str) -> None:
    found: list[bytes | None] = []
    for _ in range(ROUNDS):
        with suppress(GpuDropError):
            found.append(await swapped.read("drop", key, max_bytes=99))
        with suppress(GpuDropError):
            head = await swapped.head("drop", key)
            assert head is None or head.size == len(b"harmless")
        with suppress(GpuDropError):
            listed = [item async for item in swapped.list("drop") if isinstance(item, ObjectMeta)]
            assert all(item.size == len(b"harmless") for item in listed)
    assert SECRET not in found
    assert b"harmless" in found


async def test_nothing_outside_is_written_or_removed(swapped: FolderStore) -> None:
    done = 0
    for n in range(ROUNDS // 8):
        for work in (
            swapped.write("drop", "folder/new.txt", b"new", content_type=""),
            swapped.create("drop", f"folder/{n}/new.txt", b"new", content_type=""),
            swapped.replace("drop", "folder/file.txt", b"harmless", content_type="", expected=None),
            swapped.delete("drop", "folder/file.txt"),
        ):
            with suppress(GpuDropError):
                await work
                done += 1
    assert done


async def test_a_worker_reads_and_leaves_nothing_outside(swapped: FolderStore, tmp_path: Path) -> None:
    root = swapped.root
    read: set[bytes] = set()
    for n in range(ROUNDS):
        async with Transfer(file_root=root, trusted_hosts=(), max_input_bytes=99) as transfer:
            link, made = tmp_path / f"in-{n}", tmp_path / f"out-{n}"
            made.write_bytes(b"made")
            with suppress(GpuDropError):
                address = (root / "folder" / "file.txt").as_uri()
                await transfer.download(TaskInput("in", address), link, lambda _: None)
                await asyncio.sleep(0.001)
                read.add(link.read_bytes())
            with suppress(GpuDropError):
                target = TaskOutput("out", (root / "folder" / "made.txt").as_uri(), "")
                await transfer.upload(made, target, lambda _: None)
    assert read == {b"harmless"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the link leads to the path")
async def test_an_input_stays_the_file_that_was_looked_at(tmp_path: Path, outside: Path) -> None:
    """Also for the programs that a job starts; it is let go with the job."""
    root = tmp_path / "drop"
    root.mkdir()
    (root / "a.txt").write_bytes(b"harmless")
    link = tmp_path / "in.txt"
    got: list[bytes] = []
    async with Transfer(file_root=root, trusted_hosts=(), max_input_bytes=99) as transfer:
        await transfer.download(TaskInput("in", (root / "a.txt").as_uri()), link, lambda _: None)
        (root / "a.txt").unlink()
        (root / "a.txt").symlink_to(outside / "file.txt")
        assert link.read_bytes() == b"harmless"
        await run_process(["cat", str(link)], timeout_s=60, on_stdout=got.append)
        (handle,) = inherited()
    assert got == [b"harmless"]
    assert inherited() == ()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


@contextmanager
def second_name(folder: Path, name: str) -> Generator[Path]:
    """`folder` under another name too, as where case is ignored or names have a short form."""
    place = folder.with_name(name)
    place.mkdir()
    mounted = subprocess.run(["mount", "--bind", str(folder), str(place)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only who may mount can give a folder a second name")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_the_own_folder_has_no_other_name(tmp_path: Path) -> None:
    own = tmp_path / ".gpudrop" / "tmp"
    own.mkdir(parents=True)
    (own / "x").write_bytes(b"x")
    with second_name(tmp_path / ".gpudrop", "GPUDRO~1") as place:
        with pytest.raises(PathEscapes):
            stat_beneath(tmp_path, place / "tmp" / "x")
        with pytest.raises(PathEscapes):
            open_file(tmp_path, place / "tmp" / "x")
        with pytest.raises(PathEscapes), folder_at(tmp_path, (place.name, "new"), make=True):
            pass
    assert [path.name for path in (tmp_path / ".gpudrop").iterdir()] == ["tmp"]


async def test_names_of_our_own_are_so_in_capitals_where_case_is_ignored(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    spelled = ("_DLQ/x.mp4", "a/_GPUDROP.YAML", "a/.GPUDROP/x.mp4")
    for key in spelled:
        await store.check_writable("drop", key)
    with second_name(tmp_path / ".gpudrop", ".GPUDROP"):
        for key in spelled:
            with pytest.raises(UnusableKey, match="capitals"):
                await store.check_writable("drop", key)
        await store.check_writable("drop", "A/X.MP4")
