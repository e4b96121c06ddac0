"""Where keys and secrets come from, and how keys are replaced while they are in use."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from listener.config.credentials import PARTNER_S, AccessKeys, KeyRing, parse_lines
from listener.config.environment import read_environment
from manifests.errors import ConfigError


class Clock:
    """The time of day, when the test says so."""

    def __init__(self) -> None:
        self.late_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.late_s


class Secrets:
    """A folder with secrets, one a file, and the variables that name them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ: dict[str, str] = {}

    def put(self, name: str, text: str) -> None:
        """Replaced by renaming, as careful programs do."""
        new = self.folder / f"{name}.new"
        new.write_text(text)
        new.replace(self.folder / name)
        self.environ[f"GPUDROP_S3_{name}_FILE"] = str(self.folder / name)


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    found = Secrets(tmp_path)
    found.put("ACCESS_KEY", "user\n")
    found.put("SECRET_KEY", "hush\n")
    return found


def test_files_stand_before_lines_before_variables(secrets: Secrets, tmp_path: Path) -> None:
    lines = tmp_path / "env"
    lines.write_text("GPUDROP_S3_ACCESS_KEY=of-the-lines\nGPUDROP_S3_SECRET_KEY='line # hush'\n")
    variables = {"AWS_ACCESS_KEY_ID": "of-the-variables", "AWS_SECRET_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "t"}
    assert KeyRing(variables).current() == AccessKeys("of-the-variables", "x", "t")
    variables["GPUDROP_ENV_FILE"] = str(lines)
    assert KeyRing(variables).current() == AccessKeys("of-the-lines", "line # hush")
    assert KeyRing({**variables, **secrets.environ}).current() == AccessKeys("user", "hush")


def test_a_token_goes_with_the_access_key_it_was_given_with() -> None:
    own = {"GPUDROP_S3_ACCESS_KEY": "a", "GPUDROP_S3_SECRET_KEY": "b", "AWS_SESSION_TOKEN": "of another"}
    assert KeyRing(own).current().session_token is None
    assert KeyRing({**own, "GPUDROP_S3_SESSION_TOKEN": "t"}).current().session_token == "t"


@pytest.mark.parametrize("environ", [{}, {"GPUDROP_S3_ACCESS_KEY": "a"}, {"GPUDROP_S3_ACCESS_KEY_FILE": "/nowhere/a"}])
def test_without_keys_the_remedy_is_told(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as e:
        KeyRing(environ).current()
    assert e.value.info.hint
    assert e.value.info.where.startswith("GPUDROP_S3_")


def test_new_keys_are_in_force_once_both_are_there(secrets: Secrets) -> None:
    clock = Clock()
    ring = KeyRing(secrets.environ, now=clock)
    assert ring.current() == AccessKeys("user", "hush")
    secrets.put("ACCESS_KEY", "user2")
    assert ring.current() == AccessKeys("user", "hush")
    secrets.put("SECRET_KEY", "hush2")
    assert ring.current() == AccessKeys("user2", "hush2")
    # The same access key with another secret: taken when nothing follows.
    secrets.put("SECRET_KEY", "hush3")
    assert ring.current() == AccessKeys("user2", "hush2")
    clock.late_s = PARTNER_S
    assert ring.current() == AccessKeys("user2", "hush3")


def test_temporary_keys_wait_for_their_token(secrets: Secrets) -> None:
    secrets.put("SESSION_TOKEN", "t1")
    ring = KeyRing(secrets.environ)
    first = ring.current()
    for name, text in (("ACCESS_KEY", "user2"), ("SECRET_KEY", "hush2")):
        secrets.put(name, text)
        assert ring.current() == first
    secrets.put("SESSION_TOKEN", "")
    assert ring.current() == AccessKeys("user2", "hush2")


def test_what_cannot_be_read_leaves_the_last_good_keys(secrets: Secrets) -> None:
    ring = KeyRing(secrets.environ)
    good = ring.current()
    with capture_logs() as logs:
        for spoil in (
            lambda file: file.write_text(""),
            lambda file: file.write_bytes(b"\xff\xfe"),
            lambda file: file.write_text("two\nlines"),
            lambda file: file.write_bytes(b"x" * 100_000),
            lambda file: (file.unlink(), file.mkdir()),
            lambda file: file.rmdir(),
        ):
            spoil(secrets.folder / "SECRET_KEY")
            assert [ring.current() for _ in range(3)] == [good] * 3
    told = [line["error"] for line in logs if line["event"] == "keys_not_read"]
    assert len(told) == len(set(told)) == 6
    assert not any("hush" in str(line) or "xx" in str(line) for line in logs)
    secrets.put("SECRET_KEY", "hush2")
    secrets.put("ACCESS_KEY", "user2")
    assert ring.current() == AccessKeys("user2", "hush2")


def test_a_mounted_secret_is_swapped_as_a_whole(tmp_path: Path) -> None:
    """As Kubernetes does it: files are links through a folder that is itself a link, and only that one is replaced."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "access").write_text(f"user{version}")
        (tmp_path / version / "secret").write_text(f"hush{version}")
    (tmp_path / "..data").symlink_to("1")
    for name in ("access", "secret"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    ring = KeyRing(
        {
            "GPUDROP_S3_ACCESS_KEY_FILE": str(tmp_path / "access"),
            "GPUDROP_S3_SECRET_KEY_FILE": str(tmp_path / "secret"),
        }
    )
    assert ring.current() == AccessKeys("user1", "hush1")
    (tmp_path / "..new").symlink_to("2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    assert ring.current() == AccessKeys("user2", "hush2")


def test_readers_never_see_keys_that_do_not_belong_together(secrets: Secrets) -> None:
    ring = KeyRing(secrets.environ)
    seen: set[tuple[str, str]] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            keys = ring.current()
            seen.add((keys.access_key, keys.secret_key))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(100):
        secrets.put("ACCESS_KEY", f"user{n}")
        secrets.put("SECRET_KEY", f"hush{n}")
        while ring.current().secret_key != f"hush{n}":
            pass
    done.set()
    for thread in threads:
        thread.join()
    assert len(seen) > 1
    assert all(user.removeprefix("user") == hush.removeprefix("hush") for user, hush in seen)


def test_the_lines_of_a_running_process_are_read_again(tmp_path: Path) -> None:
    file = tmp_path / "gpudrop.env"
    file.write_text("GPUDROP_S3_ACCESS_KEY=a\nGPUDROP_S3_SECRET_KEY=b\n")
    ring = KeyRing({"GPUDROP_ENV_FILE": str(file), "GPUDROP_S3_SECRET_KEY": "from the start"})
    assert ring.current() == AccessKeys("a", "b")
    os.truncate(file, 0)
    assert ring.current() == AccessKeys("a", "b")
    file.write_text("GPUDROP_S3_ACCESS_KEY=a2\nGPUDROP_S3_SECRET_KEY=b2\n")
    assert ring.current() == AccessKeys("a2", "b2")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=v", "v"),
        (" export K = v ", "v"),
        ("K='a # b'", "a # b"),
        ('K="a" # b', "a"),
        ("K=a#b", "a#b"),
        ("K=a #b", "a"),
        ("K= # nothing", ""),
        ("K==", "="),
        ("K='half", "'half"),
        ("#K=v", None),
        ("no line", None),
    ],
)
def test_lines_are_read_as_shells_and_containers_do(line: str, value: str | None) -> None:
    assert parse_lines(f"{line}\r\nL=1").get("K") == value


@given(st.text())
def test_no_text_is_too_odd_for_lines(text: str) -> None:
    found = parse_lines(text)
    assert all(name and "\n" not in name + value for name, value in found.items())


def test_every_other_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    for name, text in (("token", "of-the-file\n"), ("secret", "signs\n"), ("installation", "vouches\n")):
        (tmp_path / name).write_text(text)
    lines = tmp_path / "env"
    lines.write_text("GPUDROP_QUEUE_PASSWORD=of-the-lines\nGPUDROP_MODEL_DIR=/models\nAWS_X=1\n")
    found = read_environment(
        {
            "GPUDROP_ENV_FILE": str(lines),
            "GPUDROP_QUEUE_TOKEN": "of-the-variable",
            "GPUDROP_QUEUE_TOKEN_FILE": str(tmp_path / "token"),
            "GPUDROP_QUEUE_PASSWORD": "of-the-variable",
            "GPUDROP_CALLBACK_SECRET_FILE": str(tmp_path / "secret"),
            "GPUDROP_SECRET_FILE": str(tmp_path / "installation"),
        }
    )
    assert found.of_source("queue").token == "of-the-file"
    assert found.of_source("queue").password == "of-the-lines"
    assert found.callback_secret == "signs"
    assert found.secret == "vouches"
    assert found.model_dir == Path("/models")
    assert not any(text in repr(found) for text in ("of-the-file", "of-the-lines", "signs", "vouches"))


@pytest.mark.parametrize(
    "name", ["GPUDROP_CALLBACK_SECRET_FILE", "GPUDROP_SECRET_FILE", "GPUDROP_WEBHOOK_TOKEN_FILE", "GPUDROP_ENV_FILE"]
)
def test_a_file_that_is_not_there_is_told_by_its_variable(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as e:
        read_environment({name: str(tmp_path / "none")})
    assert e.value.info.where == name
    assert "none" in str(e.value)
