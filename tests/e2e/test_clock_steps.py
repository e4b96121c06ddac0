"""The machine's clock is set while runs are open: none ends of it, and it is told in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from support.faked_time import WallClock, wall_clock
from support.installation import Installation
from support.runpod.cloud import Cloud
from support.runpod.installation import RunPodInstallation, runpod_installation

pytestmark = pytest.mark.minio


@pytest.fixture
def clocked(
    tmp_path: Path, there: Cloud, minio_server: Any, minio_client: Minio, minio_bucket: str
) -> Iterator[tuple[RunPodInstallation, WallClock]]:
    clock = wall_clock(tmp_path)
    with runpod_installation(tmp_path, minio_server, minio_client, minio_bucket, there=there) as rp:
        rp.install.environ |= clock.environ
        rp.work(count=2, restart=True)
        rp.install.start()
        yield rp, clock


def open_runs(rp: RunPodInstallation) -> tuple[str, str]:
    """One that waits for an input, and one whose job is at work."""
    waiting, following = rp.drop("waiting", audio="late.mp3"), rp.drop("following", "wait-8")
    rp.install.until(lambda: (rp.install.document(waiting, "status") or {}).get("state") == "waiting")
    rp.running(following)
    return waiting, following


def stepped(install: Installation, seconds: int) -> bool:
    return any(abs(entry["by_s"] - seconds) < 5 for entry in install.logged("clock_stepped"))


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_is_an_hour_wrong_for_a_while_ends_no_run(
    clocked: tuple[RunPodInstallation, WallClock], seconds: int
) -> None:
    """The store refuses everything meanwhile, and why is said with the seconds."""
    rp, clock = clocked
    keys = open_runs(rp)
    clock.step(seconds)
    rp.install.until(lambda: stepped(rp.install, seconds))
    where = "ahead of" if seconds > 0 else "behind"

    def told() -> list[Any]:
        errors = [str(entry["error"]) for entry in rp.install.logged("runs_wait")]
        return [error for error in errors if "3,60" in error or "3,599" in error if where in error]

    rp.install.until(told)
    clock.step(0)
    rp.install.until(lambda: stepped(rp.install, -seconds))
    rp.install.drops.put("late.mp3", b"sound")
    for key in keys:
        rp.install.done(key)
        assert rp.paid(key) == 1


def test_runs_that_wait_for_inputs_have_no_older_event_when_the_clock_is_set_forward(
    clocked: tuple[RunPodInstallation, WallClock],
) -> None:
    """By more than they wait: twelve minutes, which stores do not mind. It stays so."""
    rp, clock = clocked
    keys = open_runs(rp)
    clock.step(720)
    rp.install.until(lambda: stepped(rp.install, 720))
    # It takes longer than the time between two looks for the input.
    rp.install.done(keys[1])
    assert rp.install.document(keys[0], "error") is None
    rp.install.drops.put("late.mp3", b"sound")
    rp.install.done(keys[0])
    assert [rp.paid(key) for key in keys] == [1, 1]
