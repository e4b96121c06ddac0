"""Keys replaced while store and stream are at work: nothing is restarted, nothing is lost; on a real MinIO."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from minio import MinioAdmin
from minio.credentials import AssumeRoleProvider, StaticProvider

from listener.config.credentials import AccessKeys
from listener.config.environment import read_environment
from listener.sources.minio.request import MinioListenSettings
from listener.sources.minio.source import MinioListen
from listener.stores.s3.store import S3Store
from manifests.errors import StoreDenied
from support.sources import Proxy, Recorder, running
from support.stores import settings_for

pytestmark = pytest.mark.minio

ALL = [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}]


class Accounts:
    """Service accounts of the server's own user."""

    def __init__(self, server: Any) -> None:
        provider = StaticProvider(server.access_key, server.secret_key)
        self._admin = MinioAdmin(endpoint=server.host, credentials=provider, region="us-east-1", secure=False)
        self._made: list[str] = []

    async def make(self) -> AccessKeys:
        keys = AccessKeys("acc" + secrets.token_hex(6), secrets.token_hex(16))
        policy = {"Version": "2012-10-17", "Statement": ALL}
        await asyncio.to_thread(
            self._admin.add_service_account, access_key=keys.access_key, secret_key=keys.secret_key, policy=policy
        )
        self._made.append(keys.access_key)
        return keys

    async def delete(self, keys: AccessKeys) -> None:
        self._made.remove(keys.access_key)
        await asyncio.to_thread(self._admin.delete_service_account, keys.access_key)

    def delete_all(self) -> None:
        for access_key in self._made:
            self._admin.delete_service_account(access_key)


@pytest.fixture
def accounts(minio_server: Any) -> Iterator[Accounts]:
    found = Accounts(minio_server)
    yield found
    found.delete_all()


class Mounted:
    """Secrets as a container finds them; `environ` names them."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder
        self._kind = kind
        if kind == "lines":
            self.environ = {"GPUDROP_ENV_FILE": str(folder / "env")}
        else:
            names = {"ACCESS_KEY": "access", "SECRET_KEY": "secret", "SESSION_TOKEN": "token"}
            self.environ = {f"GPUDROP_S3_{name}_FILE": str(folder / file) for name, file in names.items()}

    def put(self, keys: AccessKeys) -> None:
        if self._kind == "lines":
            lines = f"GPUDROP_S3_ACCESS_KEY={keys.access_key}\nGPUDROP_S3_SECRET_KEY={keys.secret_key}\n"
            (self._folder / "env").write_text(lines)
            return
        (self._folder / "access").write_text(keys.access_key + "\n")
        (self._folder / "secret").write_text(keys.secret_key + "\n")
        (self._folder / "token").write_text(keys.session_token or "")


def connections(inbox: Recorder) -> int:
    return sum("connected" in gap for gap in inbox.gaps)


@pytest.mark.parametrize("kind", ["files", "lines"])
async def test_work_goes_on_with_new_keys(
    kind: str, minio_server: Any, minio_bucket: str, accounts: Accounts, tmp_path: Path
) -> None:
    """Eight writers at work all the time; three times the keys are replaced and the old ones deleted at once."""
    mounted, old = Mounted(tmp_path, kind), await accounts.make()
    mounted.put(old)
    ring = read_environment(mounted.environ).keys
    store = S3Store(settings_for(minio_server, minio_bucket, keys=ring.current))
    written: set[str] = set()
    ending = asyncio.Event()

    async def write(writer: int) -> None:
        n = 0
        while not ending.is_set():
            key = f"{writer}/{n}.mp3"
            await store.write(minio_bucket, key, b"x", content_type="")
            assert await store.read(minio_bucket, key, max_bytes=9) == b"x"
            written.add(key)
            n += 1

    async with Proxy(minio_server.host).serve() as proxy:
        inbox = Recorder()
        source = MinioListen(MinioListenSettings(proxy.endpoint, (minio_bucket,), ping_s=1), ring.current)
        async with running(inbox, source), asyncio.TaskGroup() as group:
            await inbox.until(lambda: connections(inbox))
            for writer in range(8):
                group.create_task(write(writer))
            for _ in range(3):
                new = await accounts.make()
                mounted.put(new)
                await accounts.delete(old)
                before, old = len(written), new
                await inbox.until(lambda before=before: len(written) >= before + 40)
            assert proxy.connections == 1
            ending.set()
            await inbox.until(lambda: set(inbox.created) >= written)
            proxy.reset_all()
            await inbox.until(lambda: connections(inbox) == 2)
            listed = {item.key async for item in store.list(minio_bucket)}
            assert listed >= written
            assert [item async for item in store.list(minio_bucket, "odd\n/")] == []
            await store.write(minio_bucket, "after.mp3", b"x", content_type="")
            await inbox.until(lambda: inbox.created["after.mp3"])
    await store.close()


async def test_a_stream_refused_for_its_keys_comes_back_when_they_are_mended(
    minio_server: Any, minio_bucket: str, accounts: Accounts, tmp_path: Path
) -> None:
    """Far sooner than it would be tried again otherwise: that wait is longer than this test may take."""
    mounted, gone = Mounted(tmp_path, "files"), await accounts.make()
    mounted.put(gone)
    await accounts.delete(gone)
    ring = read_environment(mounted.environ).keys
    settings = MinioListenSettings(minio_server.endpoint, (minio_bucket,), ping_s=1)
    source = MinioListen(settings, ring.current)
    inbox = Recorder()
    async with running(inbox, source):
        await inbox.until(lambda: inbox.conditions)
        assert inbox.conditions[-1].code == "store_denied"
        assert "GPUDROP_S3_ACCESS_KEY" in inbox.conditions[-1].hint
        mounted.put(await accounts.make())
        await inbox.until(lambda: connections(inbox))
    assert inbox.conditions[-1].ok


async def test_temporary_keys_are_replaced_with_their_token(
    minio_server: Any, minio_bucket: str, tmp_path: Path
) -> None:
    def fresh() -> AccessKeys:
        given = AssumeRoleProvider(
            sts_endpoint=minio_server.endpoint,
            access_key=minio_server.access_key,
            secret_key=minio_server.secret_key,
            policy=json.dumps({"Version": "2012-10-17", "Statement": ALL}),
        ).retrieve()
        return AccessKeys(given.access_key, given.secret_key, given.session_token)

    mounted = Mounted(tmp_path, "files")
    ring = read_environment(mounted.environ).keys
    store = S3Store(settings_for(minio_server, minio_bucket, keys=ring.current))
    used: set[AccessKeys] = set()
    for _ in range(2):
        mounted.put(await asyncio.to_thread(fresh))
        await store.write(minio_bucket, "a", b"x", content_type="")
        assert await store.check() == {}
        used.add(ring.current())
    assert len(used) == 2
    # The token belongs to one pair of keys: to no other.
    mixed = replace(ring.current(), session_token=next(k.session_token for k in used if k != ring.current()))
    with pytest.raises(StoreDenied):
        await S3Store(settings_for(minio_server, minio_bucket, keys=lambda: mixed)).head(minio_bucket, "a")
