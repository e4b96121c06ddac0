"""Secrets of an installation, on each database: drawn once, whoever asks at once, found again, and seen nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from listener.cli.check_lines import secret_line
from listener.config.credentials import AccessKeys, KeyRing
from listener.config.environment import Environment
from listener.dispatch.link_guard import AttemptKeys
from listener.installation_secret import NAME, InstallationSecret, operators_secret
from listener.ledger.database import Database
from listener.ledger.jobs import JobLedger
from listener.ledger.secrets import REPLACED_VALID_S, SECRET_BYTES, SecretLedger, SecretSpec, new_secret
from listener.secret_copies import KEY, Copy, FileCopy, StoreCopy
from listener.stores.s3.clients import S3Settings
from listener.stores.s3.store import S3Store
from manifests.errors import ConfigError, StateError, StoreUnavailable
from support.deadlines import HANG_S
from support.jobs import ANYTHING, job
from support.runs import Moment
from support.servers import create_database
from support.stores import settings_for
from support.webhook import free_port

FIRST = AccessKeys("user", "the first secret key")
SECOND = AccessKeys("user", "the second secret key")
ROLE = AccessKeys("role", "of an hour", "token")


@asynccontextmanager
async def opened(url: str, count: int = 1) -> AsyncGenerator[list[Database]]:
    databases = [Database(url) for _ in range(count)]
    try:
        for database in databases:
            await database.open()
        yield databases
    finally:
        for database in databases:
            await database.close()


async def kept(secret: InstallationSecret, copies: tuple[Copy, ...]) -> SecretSpec:
    """The secret, once a copy of it is wherever one can be."""
    async with asyncio.timeout(HANG_S):
        found = (await secret.all())[0]
        keeping = asyncio.create_task(secret.keep())
        while not keeping.done() and [await copy.read() for copy in copies] != [found] * len(copies):
            await asyncio.sleep(0.01)
        keeping.cancel()
    return found


async def installed(url: str, *copies: Copy, operators: bytes | None = None, at: float = 5.0) -> SecretSpec:
    """What a listener on the database `url` takes for the secret, once it has seen to the copies."""
    async with opened(url) as (database,):
        return await kept(InstallationSecret(SecretLedger(database, lambda: at), operators, copies, at), copies)


async def test_all_listeners_have_the_same_secret_for_ever(ledger_url: str) -> None:
    async with opened(ledger_url, 4) as databases:
        ledgers = [SecretLedger(database, float) for database in databases]
        assert await ledgers[0].all("attempts") == ()
        found = await asyncio.gather(
            *(ledger.get_or_create("attempts", new_secret(1.0)) for ledger in ledgers for _ in range(5))
        )
        (other,) = await ledgers[0].get_or_create("other", new_secret(1.0))
    ((secret,),) = set(found)
    assert len(secret.value) == SECRET_BYTES
    assert other.value != secret.value
    assert secret.value.hex() not in repr(secret) and str(secret.value) not in repr(secret)


async def test_an_attempt_keeps_the_key_that_its_first_job_was_sent_with(database: Database) -> None:
    clock = Moment(1000.0)
    secrets, jobs = SecretLedger(database, clock), JobLedger(database, clock)
    await secrets.get_or_create(NAME, new_secret(1000.0))
    keys = AttemptKeys(lambda: secrets.all(NAME), jobs, clock)
    before = await keys.of("t", 1)
    await jobs.reserve(job("t-1-1", task_id="t", intended=1001.0), ANYTHING)
    clock.now = 1002.0
    operators = SecretSpec(b"o" * SECRET_BYTES, 1002.0)
    changed = await secrets.change(NAME, operators)
    assert [each.created for each in changed] == [1002.0, 1000.0]
    assert await secrets.change(NAME, replace(operators, created=1003.0)) == changed
    assert await keys.of("t", 1) == before
    assert await keys.of("t", 2) != before
    assert not await keys.is_older("t", 1)
    clock.now += REPLACED_VALID_S + 1
    assert await secrets.all(NAME) == changed[:1]
    assert await keys.of("t", 1) != before


@pytest.fixture
def lost_url(ledger_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A second database of the same kind, as empty as one that was lost."""
    if ledger_url.startswith("sqlite"):
        return f"sqlite:///{tmp_path / 'lost.sqlite'}"
    return create_database(request.getfixturevalue("postgres_server")).replace("postgresql://", "postgresql+psycopg://")


async def test_the_store_keeps_a_copy_for_a_ledger_that_is_lost(
    ledger_url: str, lost_url: str, s3_store: S3Store
) -> None:
    copy = StoreCopy(s3_store, lambda: FIRST)
    secret = await installed(ledger_url, copy)
    bucket = s3_store.buckets[0]
    data = await s3_store.read(bucket, KEY, max_bytes=1000)
    assert data and secret.value not in data and secret.value.hex().encode() not in data
    # Two that begin at once on a database that was made anew.
    async with opened(lost_url, 2) as databases:
        both = [InstallationSecret(SecretLedger(each, lambda: 9.0), None, (copy,), 9.0) for each in databases]
        assert await asyncio.gather(*(each.all() for each in both)) == [(secret,), (secret,)]


async def test_two_that_begin_at_once_without_a_copy_agree(ledger_url: str, s3_store: S3Store) -> None:
    copy = StoreCopy(s3_store, lambda: FIRST)
    async with opened(ledger_url, 2) as databases:
        both = [InstallationSecret(SecretLedger(each, lambda: 9.0), None, (copy,), 9.0) for each in databases]
        one, other = await asyncio.gather(*(kept(each, (copy,)) for each in both))
    assert one == other == await copy.read()


async def test_a_copy_that_is_forged_counts_for_nothing_and_is_written_anew(tmp_path: Path, s3_store: S3Store) -> None:
    bucket, copy = s3_store.buckets[0], StoreCopy(s3_store, lambda: FIRST)
    urls = iter(f"sqlite:///{tmp_path / str(n)}.sqlite" for n in range(99))
    mine = next(urls)
    secret = await installed(mine, copy)
    own = await s3_store.read(bucket, KEY, max_bytes=1000)
    stranger = StoreCopy(s3_store, lambda: SECOND)
    await s3_store.delete(bucket, KEY)
    await installed(next(urls), stranger)
    forged = await s3_store.read(bucket, KEY, max_bytes=1000)
    assert own and forged
    for data in (forged, own[:-1], own[:-1] + bytes([own[-1] ^ 1]), b"", b"x" * 5000):
        await s3_store.put(bucket, KEY, data, content_type="")
        assert await copy.read() is None
        with capture_logs() as logs:
            assert await installed(mine, copy) == secret
            assert await installed(mine, copy) == secret
        assert [entry["event"] for entry in logs] == ["secret_copy_not_believed"]
        assert await copy.read() == secret


async def test_a_copy_of_another_bucket_is_none_of_this_one(
    s3_store: S3Store, tmp_path: Path, minio_server: Any, minio_client: Any
) -> None:
    copy = StoreCopy(s3_store, lambda: FIRST)
    await installed(f"sqlite:///{tmp_path}/ledger.sqlite", copy)
    data = await s3_store.read(s3_store.buckets[0], KEY, max_bytes=1000)
    name = f"{s3_store.buckets[0]}-b"
    minio_client.make_bucket(name)
    other = S3Store(settings_for(minio_server, name))
    try:
        await other.put(name, KEY, data or b"", content_type="")
        assert await StoreCopy(other, lambda: FIRST).read() is None
        # Of several, the first by name has it.
        both = S3Store(settings_for(minio_server, name, s3_store.buckets[0]))
        assert await StoreCopy(both, lambda: FIRST).read() == await copy.read() is not None
        await both.close()
    finally:
        await other.delete(name, KEY)
        await other.close()
        minio_client.remove_bucket(name)


async def test_keys_that_are_replaced_seal_it_anew_and_temporary_ones_seal_none(
    tmp_path: Path, s3_store: S3Store
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    secret = await installed(url, StoreCopy(s3_store, lambda: FIRST))
    rotated = StoreCopy(s3_store, lambda: SECOND)
    assert await rotated.state() == "foreign"
    assert await installed(url, rotated) == secret
    assert await installed(f"sqlite:///{tmp_path}/lost.sqlite", rotated) == secret
    await s3_store.delete(s3_store.buckets[0], KEY)
    role = StoreCopy(s3_store, lambda: ROLE)
    await role.ensure(secret)
    assert await role.read() is None
    assert await role.state() == "temporary keys"
    assert await s3_store.head(s3_store.buckets[0], KEY) is None


def environment(keys: AccessKeys, secret: str = "") -> Environment:
    names = {"ACCESS_KEY": keys.access_key, "SECRET_KEY": keys.secret_key, "SESSION_TOKEN": keys.session_token or ""}
    return Environment(KeyRing({f"GPUDROP_S3_{name}": value for name, value in names.items()}), secret)


async def test_check_says_whether_jobs_would_be_known_again(tmp_path: Path, s3_store: S3Store) -> None:
    async def told(keys: AccessKeys, secret: str = "") -> tuple[bool | None, str]:
        line = await secret_line(s3_store, environment(keys, secret))
        assert line.ok or "openssl rand -hex 32" in line.remedy
        return line.ok, line.detail

    assert await told(FIRST) == (True, "`gpudrop run` leaves a copy in the bucket, sealed with the store's keys")
    await installed(f"sqlite:///{tmp_path}/ledger.sqlite", StoreCopy(s3_store, lambda: FIRST))
    assert await told(FIRST) == (True, "the bucket holds a copy, sealed with the store's keys")
    for keys, words in ((SECOND, "cannot be opened"), (ROLE, "temporary")):
        ok, detail = await told(keys)
        assert ok is None and words in detail
        ok, detail = await told(keys, "x" * 32)
        assert ok and "GPUDROP_SECRET is set" in detail


async def test_a_copy_in_the_states_folder(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    copy, file = FileCopy(folder), folder / "secret"
    secret = await installed(f"sqlite:///{folder}/ledger.sqlite", copy)
    assert file.stat().st_mode & 0o777 == 0o600
    assert await installed(f"sqlite:///{folder}/lost.sqlite", copy) == secret
    for garbage in (b"", b"x" * 40, b"x" * 5000):
        file.write_bytes(garbage)
        assert await installed(f"sqlite:///{folder}/ledger.sqlite", copy) == secret
        assert await copy.read() == secret
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError):
        await copy.read()


async def test_nothing_is_drawn_while_the_store_may_have_a_copy(
    s3_store: S3Store, s3_settings: S3Settings, tmp_path: Path
) -> None:
    secret = await installed(f"sqlite:///{tmp_path}/ledger.sqlite", StoreCopy(s3_store, lambda: FIRST))
    away = S3Store(replace(s3_settings, endpoint=f"http://127.0.0.1:{free_port()}", timeout_s=1.0))
    async with opened(f"sqlite:///{tmp_path}/lost.sqlite") as (database,):
        ledger = SecretLedger(database, lambda: 9.0)
        with pytest.raises(StoreUnavailable):
            await InstallationSecret(ledger, None, (StoreCopy(away, lambda: FIRST),), 9.0).all()
        assert await ledger.all(NAME) == ()
        found = await InstallationSecret(ledger, None, (StoreCopy(s3_store, lambda: FIRST),), 9.0).all()
    await away.close()
    assert found == (secret,)


async def test_of_two_copies_that_cannot_be_kept_each_is_told_of_once(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("listener.installation_secret._EVERY_S", 0.01)
    for name in ("one", "other"):
        (tmp_path / name).write_text("no folder")
    copies = tuple(FileCopy(tmp_path / name) for name in ("one", "other"))
    await SecretLedger(database, float).get_or_create(NAME, new_secret(1.0))
    with capture_logs() as logs:
        keeping = asyncio.create_task(InstallationSecret(SecretLedger(database, float), None, copies, 5.0).keep())
        await asyncio.wait({keeping}, timeout=0.5)
        keeping.cancel()
    assert sorted("other" in entry["error"] for entry in logs) == [False, True]


async def test_a_secret_is_as_old_as_the_listener_that_draws_it(database: Database) -> None:
    """The first job's row stands before anybody asks for its key."""
    jobs, clock = JobLedger(database, float), Moment(1000.0)
    installation = InstallationSecret(SecretLedger(database, clock), None, (), clock())
    clock.now += 60
    await jobs.reserve(job("t-1-1", task_id="t", intended=clock() - 1), ANYTHING)
    assert not await AttemptKeys(installation.all, jobs, clock).is_older("t", 1)


async def test_the_operators_secret_comes_first_and_needs_no_copy(ledger_url: str, lost_url: str) -> None:
    former = await installed(ledger_url)
    given = operators_secret(Environment(secret="0123456789abcdef" * 2))
    assert given and len(given) == SECRET_BYTES
    with capture_logs() as logs:
        first = await installed(ledger_url, operators=given, at=7.0)
    assert first.value == given != former.value
    assert [entry["event"] for entry in logs] == ["secret_changed"]
    assert (await installed(lost_url, operators=given)).value == given
    # Once it is the ledger's it stays so.
    assert await installed(ledger_url) == first


def test_an_operators_secret_that_could_be_guessed_is_refused() -> None:
    assert operators_secret(Environment()) is None
    with pytest.raises(ConfigError, match="at least 32") as caught:
        operators_secret(Environment(secret="x" * 31))
    assert caught.value.info.where == "GPUDROP_SECRET"
    assert "openssl" in caught.value.info.hint
