"""Control groups of worker processes: what the kernel holds them to, whose they are, and where they may be made."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from gpu_dispatch.local.cgroup_mounts import lies_in_memory, mounts, own_groups
from gpu_dispatch.local.cgroups import LEAF, Delegation, find, make, open_for_groups, sweep
from gpu_dispatch.transcript import Transcript
from support.deadlines import HANG_S
from support.media import Media
from support.places import local_place
from support.processes import lives
from support.scripts import ROOT

HERE = find(prepare=False)
needs_groups = pytest.mark.skipif(not HERE.holds_memory, reason=f"no control groups here: {HERE.why}")

MAKER = """
import os, signal, sys
from gpu_dispatch.local.cgroups import find, make
group = make(find(prepare=True), memory=2**28, processes=5)
print(*group.folders.values(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def ours(where: Delegation) -> set[Path]:
    return {folder for parent in (where.folders or {}).values() for folder in parent.glob("gpudrop-job-*")}


def held_by(processes: Iterable[psutil.Process]) -> set[Path]:
    """The groups that hold one of these: other tests have theirs at the same time."""
    pids = {str(process.pid) for process in processes}
    return {folder for folder in ours(HERE) if pids & set(words_in(folder / "cgroup.procs"))}


def words_in(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


@needs_groups
@pytest.mark.parametrize(("burst", "what"), [("memory", "memory"), ("here", "memory"), ("processes", "processes")])
async def test_what_happens_between_two_looks_is_held_too(
    tmp_path: Path, media: Media, monkeypatch: pytest.MonkeyPatch, burst: str, what: str
) -> None:
    """The watchdog does not look at all here, and what takes too much has ended before it could: a program that the
    worker has started, or the worker itself."""
    monkeypatch.setattr("gpu_dispatch.local.backend.CHECK_INTERVAL_S", 3600.0)
    async with local_place(tmp_path, media, "odd", None, memory=400 * 2**20, processes=1) as place:
        status = await place.result(place.odd(f"burst-{burst}"))
        assert status.result and status.result.error
        error = status.result.error
        assert (status.state, error.code, error.retryable) == ("failed", "resource_exhausted", False)
        assert what in error.message
        assert (await place.result(place.odd("fine"))).state == "completed"
        held = held_by(place.workers())
        assert held
    assert not held & ours(HERE)


@needs_groups
async def test_a_process_that_leaves_its_session_ends_with_its_worker(tmp_path: Path, media: Media) -> None:
    async with local_place(tmp_path, media, "odd") as place:
        status = await place.result(place.odd("escape"))
        assert status.result and isinstance(status.result.payload, Transcript)
        escaped = psutil.Process(int(status.result.payload.text))
        assert escaped.is_running()
    async with asyncio.timeout(HANG_S):
        while lives(escaped):
            await asyncio.sleep(0.02)


@needs_groups
def test_groups_of_an_owner_that_was_killed_are_removed_and_no_others() -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", MAKER], capture_output=True, text=True, env=environ, check=False)
    left = {Path(word) for word in said.stdout.split()}
    mine = make(find(prepare=True), memory=2**28, processes=5)
    assert left and mine and all(folder.is_dir() for folder in left), said.stderr
    try:
        sweep(HERE)
        assert not any(folder.exists() for folder in left)
        assert all(folder.exists() for folder in mine.folders.values())
    finally:
        mine.remove()
    assert not any(folder.exists() for folder in mine.folders.values())


def test_a_folder_in_memory_is_told_from_others() -> None:
    """Its files count in a group, and are no memory of the job's."""
    kinds = {mount.point: mount.kind for mount in mounts()}
    if kinds.get(Path("/dev/shm")) != "tmpfs":
        pytest.skip("there is no tmpfs at /dev/shm")
    assert lies_in_memory(Path("/dev/shm")) and not lies_in_memory(Path("/proc/self"))


@pytest.mark.parametrize("kinds", [("tmpfs", "ext4"), ("ext4", "tmpfs")])
def test_of_several_file_systems_at_one_place_the_last_counts(tmp_path: Path, kinds: tuple[str, str]) -> None:
    lines = [f"{number} 1 0:{number} / {tmp_path} rw - {kind} none rw" for number, kind in enumerate(kinds)]
    (tmp_path / "mountinfo").write_text("\n".join(["9 1 0:9 / / rw - overlay none rw", *lines]))
    assert lies_in_memory(tmp_path, tmp_path) is (kinds[-1] == "tmpfs")


@pytest.fixture
def unified() -> Iterator[Path]:
    """A group of version 2 with a controller to hand on, as systemd or a container's engine leaves one to a service."""
    root = next((mount.point for mount in mounts() if mount.kind == "cgroup2"), None)
    if root is None or not os.access(root / "cgroup.subtree_control", os.W_OK):
        pytest.skip("no control groups of version 2 that may be written here")
    control = root / "cgroup.subtree_control"
    offered, given = (root / "cgroup.controllers").read_text().split(), control.read_text().split()
    if not offered:
        pytest.skip("no controller of version 2 here")
    name = offered[0]
    folder = root / f"gpudrop-test-{os.getpid()}"
    if name not in given:
        control.write_text(f"+{name}")
    folder.mkdir()
    try:
        yield folder
    finally:
        for each in (*folder.iterdir(), folder):
            if each.is_dir():
                with suppress(OSError):
                    each.rmdir()
        if name not in given:
            control.write_text(f"-{name}")


def test_processes_make_way_for_groups_of_version_2(unified: Path) -> None:
    """Groups may lie only where no process is."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            (unified / "cgroup.procs").write_text(str(process.pid))
            controllers = (unified / "cgroup.controllers").read_text().split()[:1]
            for _ in range(2):
                open_for_groups(unified, controllers)
                assert (unified / "cgroup.subtree_control").read_text().split() == controllers
                assert (unified / LEAF / "cgroup.procs").read_text().split() == [str(process.pid)]
            group = make(Delegation(2, {"pids": unified}), memory=0, processes=0)
            assert group
            inside = group.command_in_group(["cat"])
            with subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as joined:
                assert joined.stdin and joined.stdout
                joined.stdin.write(b"there\n")
                joined.stdin.flush()
                assert joined.stdout.readline() == b"there\n"
                assert group.members() == {joined.pid}
                group.remove()
                assert joined.wait(HANG_S) == -9
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "controller", "folder"),
    [
        ("0::/", "30 24 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate", "", "/sys/fs/cgroup"),
        (
            "0::/system.slice/gpudrop.service",
            "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate",
            "",
            "/sys/fs/cgroup/system.slice/gpudrop.service",
        ),
        (
            "9:memory:/docker/0a1b\n0::/docker/0a1b",
            "40 31 0:32 /docker/0a1b /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory",
            "memory",
            "/sys/fs/cgroup/memory",
        ),
        (
            "4:cpu,cpuacct:/\n3:pids:/jobs/a",
            "40 31 0:32 / /mnt/odd\\040name rw master:3 - cgroup cgroup rw,pids",
            "pids",
            "/mnt/odd name/jobs/a",
        ),
        (
            "9:memory:/docker/other",
            "40 31 0:32 /docker/0a1b /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory",
            "memory",
            None,
        ),
    ],
)
def test_a_group_is_found_where_its_part_of_the_tree_is_mounted(
    tmp_path: Path, cgroup: str, mountinfo: str, controller: str, folder: str | None
) -> None:
    (tmp_path / "cgroup").write_text(f"{cgroup}\n")
    (tmp_path / "mountinfo").write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n{mountinfo}\n")
    there = [m for m in mounts(tmp_path) if controller in m.controllers or (not controller and m.kind == "cgroup2")]
    found = [place for mount in there if (place := mount.path_of(own_groups(tmp_path)[controller]))]
    assert found == ([Path(folder)] if folder else [])
