"""A ledger belongs to one store: a configuration for another one is refused, until the operator says that it moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from listener.cli.check_lines import state_line
from listener.cli.rebind import rebind_state
from listener.config.config import Config
from listener.config.loader import parse_config
from listener.config.state import StateFolder
from listener.config.store_identity import identity_of
from listener.ledger.database import Database
from listener.ledger.owner import require_owner
from manifests.errors import StateError


def of_folder(root: Path, state: str | None = None) -> Config:
    return parse_config({"store": {"kind": "folder", "root": str(root)}, "state": state}, origin="test")


def of_s3(endpoint: str, *buckets: str) -> Config:
    return parse_config({"store": {"kind": "s3", "endpoint": endpoint, "buckets": buckets}}, origin="test")


async def start(config: Config, folder: Path | None, url: str = "") -> None:
    """What a listener does first, with its state in `folder`, or on a server."""
    url = url or f"sqlite:///{folder}/ledger.sqlite"
    database = Database(url)
    await database.open()
    try:
        await require_owner(database, StateFolder("", url, folder), identity_of(config, folder))
    finally:
        await database.close()


async def test_two_configurations_of_one_folder_do_not_share_a_ledger(tmp_path: Path) -> None:
    state = tmp_path / ".gpudrop"
    for _ in range(2):
        await start(of_folder(tmp_path / "one"), state)
    assert state_line(of_folder(tmp_path / "one", str(state))).ok
    line = state_line(of_folder(tmp_path / "other", str(state)))
    assert line.ok is False and "gpudrop rebind" in line.remedy
    for other in (of_folder(tmp_path / "other"), of_s3("http://127.0.0.1:9", "one")):
        with pytest.raises(StateError, match=r"belongs to the folder .*/one; this configuration is for") as caught:
            await start(other, state)
        assert "gpudrop rebind" in caught.value.info.hint
    await start(of_folder(tmp_path / "one"), state)


async def test_a_project_that_is_moved_whole_keeps_its_state(tmp_path: Path) -> None:
    await start(of_folder(tmp_path / "a" / "drop"), tmp_path / "a" / ".gpudrop")
    (tmp_path / "a").rename(tmp_path / "b")
    await start(of_folder(tmp_path / "b" / "drop"), tmp_path / "b" / ".gpudrop")
    # And then the state alone.
    (tmp_path / "b" / ".gpudrop").rename(tmp_path / "state")
    await start(of_folder(tmp_path / "b" / "drop"), tmp_path / "state")


async def test_an_operator_says_that_the_store_has_moved(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (tmp_path / "after").mkdir()
    await start(of_folder(tmp_path / "before"), state)
    moved = of_folder(tmp_path / "after", str(state))
    with pytest.raises(StateError):
        await start(moved, state)
    assert await rebind_state(moved) == 0
    await start(moved, state)
    with pytest.raises(StateError):
        await start(of_folder(tmp_path / "before"), state)


async def test_buckets_of_a_server_come_and_go(tmp_path: Path) -> None:
    await start(of_s3("http://127.0.0.1:9000", "one"), tmp_path)
    await start(of_s3("http://127.0.0.1:9000/", "two", "three"), tmp_path)
    with pytest.raises(StateError, match=r"the buckets at 127\.0\.0\.1:9000"):
        await start(of_s3("http://127.0.0.1:9001", "one"), tmp_path)


async def test_listeners_of_several_machines_see_one_store_at_their_own_addresses(postgres_ledger: Any) -> None:
    await start(of_s3("http://minio:9000", "one"), None, postgres_ledger)
    await start(of_s3("https://store.example", "one"), None, postgres_ledger)
    with pytest.raises(StateError, match="in PostgreSQL belongs to the buckets at minio:9000"):
        await start(of_folder(Path("/srv/drop")), None, postgres_ledger)
