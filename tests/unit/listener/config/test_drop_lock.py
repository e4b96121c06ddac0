"""A drop folder has one listener, and its lock is nothing that a dropper put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from listener.config.loader import parse_config
from listener.config.state import held_state, sole_use
from manifests.errors import ConfigError


def test_two_listeners_do_not_share_a_drop_folder_whatever_their_states(tmp_path: Path) -> None:
    """Each would do, and pay, what is dropped there."""
    root = tmp_path / "drop"
    root.mkdir()
    first, second = (
        parse_config({"store": {"kind": "folder", "root": str(root)}, "state": str(tmp_path / name)}, origin="test")
        for name in ("one", "another")
    )
    with held_state(first), pytest.raises(ConfigError, match="is running on the drop folder"), held_state(second):
        pass
    with held_state(second):
        pass


@pytest.mark.parametrize("planted", ["a link", "a pipe", "a folder"])
def test_what_is_planted_for_the_drop_folders_lock_is_not_followed(planted: str, tmp_path: Path) -> None:
    lock = tmp_path / ".gpudrop" / "lock"
    lock.parent.mkdir()
    match planted:
        case "a link":
            lock.symlink_to(tmp_path / "made")
        case "a pipe":
            os.mkfifo(lock)
        case _:
            lock.mkdir()
    with pytest.raises(ConfigError, match="is not what gpudrop left there"), sole_use(tmp_path):
        pass
    assert not (tmp_path / "made").exists()
