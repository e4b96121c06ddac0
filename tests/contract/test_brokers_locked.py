"""Brokers that ask for a certificate and a password, set up as a user does: config.yaml and the environment."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml

from listener.cli.check_lines import CheckLine
from listener.cli.check_sources import source_lines
from listener.config.config import Config
from listener.config.environment import Environment, read_environment
from listener.config.loader import load_config
from listener.config.source_kinds import source_kinds
from support.brokers import BUCKET, message
from support.locked_brokers import LOCKS, Locked, LockedPlace, Pki
from support.servers import servers, start_server
from support.sources import Recorder, running

STORE = {"kind": "s3", "endpoint": "http://127.0.0.1:9000", "buckets": [BUCKET]}


@dataclass(frozen=True)
class User:
    """What somebody wrote to hear one place, and what comes of it."""

    place: LockedPlace
    file: Path
    tls: dict[str, str]

    @property
    def environment(self) -> Environment:
        login = self.place.login
        return read_environment({"GPUDROP_DROPS_USER": login.user, "GPUDROP_DROPS_PASSWORD": login.password})

    @property
    def config(self) -> Config:
        source = {"name": "drops", **self.place.section, "tls": self.tls}
        self.file.write_text(yaml.safe_dump({"store": STORE, "sources": [source]}))
        return load_config(self.file)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Recorder]:
        [source] = self.config.sources or ()
        inbox, secrets = Recorder(), self.environment.of_source("drops")
        async with running(inbox, source_kinds().get(source.kind).build(source, secrets)):
            await inbox.until(lambda: inbox.conditions)
            yield inbox

    async def checked(self) -> CheckLine:
        [line] = [line async for line in source_lines(self.config, self.environment)]
        return line


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.at(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module", params=list(LOCKS))
def locked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Locked]:
    started: list[Any] = []

    def start(name: str, **options: Any) -> Any:
        started.append(start_server(name, tmp_path_factory.mktemp(name), **options))
        return started[-1]

    try:
        lock: Callable[..., Locked] = LOCKS[request.param]
        yield lock(start, pki)
    finally:
        for server in started:
            servers.stop(server)


@pytest.fixture
async def user(locked: Locked, pki: Pki, tmp_path: Path) -> User:
    """One who has everything right."""
    place = locked()
    await place.bench.prepare()
    ours = {"ca_file": pki.authority.cert_file, "cert_file": pki.client.cert_file, "key_file": pki.client.key_file}
    return User(place, tmp_path / "config.yaml", {name: str(file) for name, file in ours.items()})


async def test_who_shows_what_is_asked_for_is_let_in(user: User) -> None:
    assert (await user.checked()).ok
    async with user.listening() as inbox:
        await user.place.bench.publish([message("a.mp3")])
        await inbox.until(lambda: inbox.created["a.mp3"])
    assert [condition.ok for condition in inbox.conditions] == [True]


async def test_certificates_that_do_not_fit_are_told_with_what_to_do(user: User, pki: Pki) -> None:
    mistaken = replace(user, tls={**user.tls, "ca_file": str(pki.stranger.cert_file)})
    async with mistaken.listening() as inbox:
        pass
    told, line = inbox.conditions[0], await mistaken.checked()
    assert (told.ok, told.code, "not trusted" in told.detail) == (False, "source_denied", True)
    assert "tls.ca_file" in told.hint
    assert (line.ok, line.remedy) == (False, told.hint)
    # Without one of its own: some brokers say what is missing, some just hang up.
    nameless = replace(user, tls={"ca_file": user.tls["ca_file"]})
    async with nameless.listening() as inbox:
        pass
    assert not inbox.conditions[0].ok
    assert "tls.cert_file" in inbox.conditions[0].hint


async def test_a_wrong_password_is_told_with_what_to_do(user: User, caplog: pytest.LogCaptureFixture) -> None:
    secret = f"wrong-{user.place.login.password}"
    login = replace(user.place.login, password=secret)
    # Kafka has two ways to be told a password; the other one is tried with the right one.
    section = {**user.place.section, **({"sasl": "plain"} if user.place.section["kind"] == "kafka" else {})}
    wrong = replace(user, place=replace(user.place, login=login, section=section))
    with structlog.testing.capture_logs() as logged, caplog.at_level(logging.DEBUG):
        async with wrong.listening() as inbox:
            pass
        line = await wrong.checked()
    told = inbox.conditions[0]
    assert (told.ok, told.code, line.ok) == (False, "source_denied", False)
    assert "GPUDROP_<NAME>_PASSWORD" in told.hint
    assert secret not in f"{logged}{caplog.text}{inbox.conditions}{inbox.gaps}{line}"
