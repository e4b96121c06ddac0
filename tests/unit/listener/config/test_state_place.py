"""Where the state lies: never in the drop folder, and only where nobody else can write or replace it."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import structlog

from listener.cli.check_lines import state_line
from listener.config.config import Config
from listener.config.loader import parse_config
from listener.config.state import held_state, state_of
from listener.ledger.files import prepare_sqlite
from manifests.errors import ConfigError, StateError

NOBODY = 65534


def config_at(file: Path | None, root: Path, **parts: Any) -> Config:
    config = parse_config({"store": {"kind": "folder", "root": str(root)}, **parts}, origin="test")
    return config.read_from(file) if file else config


def of_s3(file: Path) -> Config:
    store = {"kind": "s3", "endpoint": "http://127.0.0.1:9", "buckets": ["media"]}
    return parse_config({"store": store}, origin="test").read_from(file)


def used(folder: Path, value: int) -> None:
    """Leaves a state there, in WAL as a listener that was killed leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("ledger.sqlite", "engine.sqlite"):
        with TemporaryDirectory() as scratch, closing(sqlite3.connect(f"{scratch}/{name}", isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("CREATE TABLE t (v)")
            db.execute("INSERT INTO t VALUES (?)", (value,))
            for file in (name, f"{name}-wal"):
                shutil.copyfile(f"{scratch}/{file}", folder / file)
    (folder / "lock").touch()


def value_in(folder: Path, name: str) -> list[Any]:
    with closing(sqlite3.connect(folder / f"{name}.sqlite")) as db:
        return [row[0] for row in db.execute("SELECT v FROM t")]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drop").mkdir()
    return tmp_path / "drop"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The folder of config.yaml."""
    (tmp_path / "home").mkdir()
    yield tmp_path / "home"
    (tmp_path / "home").chmod(0o755)


def held(config: Config) -> Path:
    with held_state(config) as state:
        assert state.folder
        assert state_of(config) == state
        return state.folder


def test_it_lies_beside_the_configuration_for_this_user_alone(root: Path, home: Path) -> None:
    config = config_at(home / "config.yaml", root)
    assert held(config) == home / ".gpudrop"
    assert mode(home / ".gpudrop") == 0o700
    with held_state(config) as state:
        prepare_sqlite(state.ledger_url, "It")
        with closing(sqlite3.connect(home / ".gpudrop" / "ledger.sqlite")) as db:
            db.execute("CREATE TABLE t (v)")
            db.commit()
            assert {mode(file) for file in (home / ".gpudrop").iterdir()} == {0o600}
            assert len(list((home / ".gpudrop").iterdir())) == 4


def test_it_lies_in_the_users_state_folder_where_it_cannot_lie_there(root: Path, home: Path, tmp_path: Path) -> None:
    elsewhere = held(config_at(None, root))
    assert elsewhere.parent == tmp_path / "xdg" / "gpudrop"
    assert held(config_at(root / "config.yaml", root)) == elsewhere
    assert held(config_at(root / "deeper" / "config.yaml", root)) == elsewhere
    (tmp_path / "other").mkdir()
    assert held(config_at(None, tmp_path / "other")) != elsewhere
    home.chmod(0o777)
    assert held(config_at(home / "config.yaml", root)) == elsewhere


@pytest.mark.parametrize("where", ["drop/state", "drop", "link/state", "drop/.gpudrop/state"])
def test_a_state_that_is_named_inside_the_drop_folder_is_refused(root: Path, tmp_path: Path, where: str) -> None:
    (tmp_path / "link").symlink_to(root)
    config = config_at(tmp_path / "config.yaml", root, state=str(tmp_path / where))
    with pytest.raises(ConfigError, match="inside the drop folder") as caught:
        held(config)
    assert caught.value.info.hint
    assert state_line(config).ok is False


@pytest.mark.parametrize("problem", ["writable", "foreign", "ancestor", "foreign ancestor", "link"])
def test_a_folder_that_somebody_else_can_replace_is_refused(root: Path, tmp_path: Path, problem: str) -> None:
    above, state = tmp_path / "above", tmp_path / "above" / "state"
    state.mkdir(parents=True)
    config = config_at(None, root, state=str(state))
    if ("foreign" in problem or problem == "link") and os.geteuid():
        pytest.skip("only root can give a file away")
    match problem:
        case "writable":
            state.chmod(0o777)
        case "foreign":
            os.chown(state, NOBODY, NOBODY)
        case "ancestor":
            above.chmod(0o777)
        case "foreign ancestor":
            os.chown(above, NOBODY, -1)
        case _:
            state.rename(tmp_path / "real")
            state.symlink_to(tmp_path / "real")
            os.chown(state, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(StateError, match="could replace what lies there") as caught:
        held(config)
    assert "state" in caught.value.info.hint
    assert state_line(config).ok is False


def test_a_sticky_folder_and_own_links_are_fine(root: Path, tmp_path: Path) -> None:
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    (tmp_path / "link").symlink_to("sticky")
    assert held(config_at(None, root, state=str(tmp_path / "link" / "a" / "state"))).is_dir()


@pytest.mark.parametrize("name", ["ledger.sqlite", "ledger.sqlite-wal"])
def test_a_link_among_its_files_is_refused(root: Path, tmp_path: Path, name: str) -> None:
    state = tmp_path / "state"
    used(state, 1)
    (state / name).unlink()
    (state / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="it is a link"):
        prepare_sqlite(f"sqlite:///{state}/ledger.sqlite", "It")
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_with_other_things_in_it_stays_as_it_is(root: Path, tmp_path: Path) -> None:
    state = tmp_path / "project"
    state.mkdir(mode=0o755)
    (state / "notes.txt").touch()
    held(config_at(None, root, state=str(state)))
    assert mode(state) == 0o755


def test_what_an_earlier_version_left_in_the_drop_is_moved_once(root: Path, home: Path) -> None:
    config = config_at(home / "config.yaml", root)
    before = root / ".gpudrop" / "state"
    used(before, 7)
    with pytest.raises(StateError, match="earlier version"):
        state_of(config)
    line = state_line(config)
    assert line.ok is None
    assert "moves it" in line.remedy
    folder = held(config)
    assert [value_in(folder, name) for name in ("ledger", "engine")] == [[7], [7]]
    assert not before.exists()
    assert {mode(file) for file in folder.iterdir()} == {0o600}
    # What somebody puts there later is nobody's state.
    used(before, 8)
    assert value_in(held(config), "ledger") == [7]
    assert "still lies" in state_line(config).detail


def test_a_move_that_was_cut_off_is_begun_anew(root: Path, home: Path) -> None:
    config = config_at(home / "config.yaml", root)
    used(root / ".gpudrop" / "state", 7)
    folder = home / ".gpudrop"
    folder.mkdir()
    (folder / "engine.sqlite").write_bytes(b"of a move that was cut off")
    (folder / "ledger.sqlite.moving").write_bytes(b"half")
    held(config)
    assert [value_in(folder, name) for name in ("ledger", "engine")] == [[7], [7]]
    assert not (folder / "ledger.sqlite.moving").exists()


@pytest.mark.parametrize(
    "writable", ["drop", "drop/.gpudrop", "drop/.gpudrop/state", "drop/.gpudrop/state/ledger.sqlite"]
)
def test_a_state_that_others_may_have_planted_is_not_believed(
    root: Path, home: Path, tmp_path: Path, writable: str
) -> None:
    before = root / ".gpudrop" / "state"
    used(before, 7)
    (tmp_path / writable).chmod(0o777)
    config = config_at(home / "config.yaml", root)
    for look in (held, state_of):
        with pytest.raises(StateError, match="others may have put it there") as caught:
            look(config)
        assert f"mv {before}/* {home / '.gpudrop'}/" in caught.value.info.hint
    assert state_line(config).ok is False
    assert not (home / ".gpudrop" / "ledger.sqlite").exists()
    # As the hint says, on purpose.
    for file in before.iterdir():
        file.rename(home / ".gpudrop" / file.name)
    if (tmp_path / writable).exists():
        (tmp_path / writable).chmod(0o755)
    assert value_in(held(config), "ledger") == [7]


def test_no_secret_is_taken_from_a_state_in_the_drop(root: Path, home: Path) -> None:
    before = root / ".gpudrop" / "state"
    used(before, 7)
    with closing(sqlite3.connect(before / "ledger.sqlite", isolation_level=None)) as db:
        db.execute("CREATE TABLE gpudrop_secrets (name TEXT NOT NULL PRIMARY KEY, secret BLOB NOT NULL)")
        db.execute("INSERT INTO gpudrop_secrets VALUES ('attempts', 'planted')")
    folder = held(config_at(home / "config.yaml", root))
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        assert db.execute("SELECT * FROM gpudrop_secrets").fetchall() == []
    assert value_in(folder, "ledger") == [7]
    assert {file.name for file in folder.iterdir()} <= {
        "lock",
        "ledger.sqlite",
        "engine.sqlite",
        "engine.sqlite-wal",
        "engine.sqlite-shm",
    }


def test_a_ledger_that_would_act_by_itself_is_not_moved(root: Path, home: Path) -> None:
    before = root / ".gpudrop" / "state"
    used(before, 7)
    with closing(sqlite3.connect(before / "ledger.sqlite", isolation_level=None)) as db:
        db.execute("CREATE TRIGGER planted AFTER INSERT ON t BEGIN DELETE FROM t; END")
    with pytest.raises(StateError, match="triggers"):
        held(config_at(home / "config.yaml", root))
    assert not (home / ".gpudrop" / "ledger.sqlite").exists()


def test_a_state_in_the_drop_is_none_of_an_installation_that_lost_its_own(root: Path, home: Path) -> None:
    config = config_at(home / "config.yaml", root)
    (held(config) / "secret").write_bytes(b"as every listener leaves one")
    used(root / ".gpudrop" / "state", 7)
    with structlog.testing.capture_logs() as logs:
        assert not (held(config) / "ledger.sqlite").exists()
    assert [entry["event"] for entry in logs] == ["state_left_behind"]


def test_nothing_is_moved_while_an_earlier_version_runs(root: Path, home: Path) -> None:
    config = config_at(home / "config.yaml", root)
    before = root / ".gpudrop" / "state"
    used(before, 7)
    with (before / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="is running on"):
            held(config)
    assert value_in(held(config), "ledger") == [7]


@pytest.mark.parametrize("planted", ["a linked file", "a second name", "a linked folder", "a foreign file", "a pipe"])
def test_what_this_user_did_not_make_is_not_moved(root: Path, home: Path, tmp_path: Path, planted: str) -> None:
    before = root / ".gpudrop" / "state"
    used(before, 7)
    ledger, secret = before / "ledger.sqlite", tmp_path / "secret"
    secret.write_bytes(b"secret")
    match planted:
        case "a linked folder":
            before.rename(tmp_path / "real")
            before.symlink_to(tmp_path / "real")
        case "a foreign file":
            if os.geteuid():
                pytest.skip("only root can give a file away")
            os.chown(ledger, NOBODY, NOBODY)
        case "a linked file":
            ledger.unlink()
            ledger.symlink_to(secret)
        case "a second name":
            ledger.unlink()
            ledger.hardlink_to(secret)
        case _:
            ledger.unlink()
            os.mkfifo(ledger)
    with pytest.raises(StateError, match="cannot be moved"):
        held(config_at(home / "config.yaml", root))
    assert not (home / ".gpudrop" / "ledger.sqlite").exists()


def test_the_former_place_of_an_s3_store_is_moved_too(home: Path, tmp_path: Path, root: Path) -> None:
    used(tmp_path / ".gpudrop", 5)
    config = of_s3(home / "config.yaml")
    assert value_in(held(config), "engine") == [5]
    assert not (tmp_path / ".gpudrop").exists()


def test_one_place_by_two_names_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The former place is the working folder, which the system tells without the links that led there."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "link")
    config = of_s3(tmp_path / "link" / "config.yaml")
    used(tmp_path / "real" / ".gpudrop", 5)
    with structlog.testing.capture_logs() as logs:
        assert value_in(held(config), "ledger") == [5]
    assert not logs
    assert state_line(config).ok


def test_a_command_that_only_looked_does_not_stand_in_the_way_of_a_move(
    home: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = of_s3(home / "config.yaml")
    used(tmp_path / "runs here" / ".gpudrop", 5)
    # Elsewhere than where the listener runs nothing is known of what an earlier version left.
    prepare_sqlite(state_of(config).ledger_url, "It")
    monkeypatch.chdir(tmp_path / "runs here")
    assert value_in(held(config), "ledger") == [5]


def test_a_home_that_is_the_drop_folder_holds_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = config_at(tmp_path / "config.yaml", tmp_path)
    with pytest.raises(ConfigError, match="no folder for the state"):
        held(config)
    assert list(tmp_path.iterdir()) == []
    assert state_line(config).ok is False


def test_two_listeners_do_not_share_it(root: Path, home: Path) -> None:
    config = config_at(home / "config.yaml", root)
    with held_state(config), pytest.raises(ConfigError, match="Another gpudrop"):
        held(config)
