"""Certificates of a private authority, for store and stream; on a real MinIO that speaks TLS."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
import urllib3

from gpu_dispatch.net.tls import ca_context, sole_ca_context
from listener.config.credentials import AccessKeys
from listener.sources.minio.request import MinioListenSettings
from listener.sources.minio.source import MinioListen, probe_stream
from listener.stores.s3.clients import S3Settings
from listener.stores.s3.store import S3Store
from manifests.errors import ConfigError, GpuDropError, StoreUnavailable
from support.requirements import require
from support.sources import Recorder, running
from support.stores import admin_client, servers, settings_for, start_minio

pytestmark = pytest.mark.minio


async def listed(store: S3Store, prefix: str) -> list[object]:
    return [item async for item in store.list(store.buckets[0], prefix)]


def authorised(authority: Path) -> urllib3.PoolManager:
    retries = urllib3.Retry(total=20, backoff_factor=0.1, status_forcelist=[503], respect_retry_after_header=False)
    return urllib3.PoolManager(ca_certs=str(authority), retries=retries)


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    """A MinIO with a certificate of a private authority, and that authority's certificate."""
    require(shutil.which("openssl"), "openssl is not installed.", "install the package openssl")
    certs = tmp_path / "certs"
    certs.mkdir()
    (certs / "san").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    for command in (
        f"req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
        f"req {key} -keyout private.key -out request -subj /CN=store",
        "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out public.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=certs, check=True, capture_output=True, timeout=60)
    authority = (certs / "ca.pem").rename(tmp_path / "ca.pem")
    server = start_minio("minio", tmp_path / "data", certs_dir=certs)
    yield server, authority
    servers.stop(server)


async def test_a_private_authority_is_trusted_when_it_is_named(tls_server: tuple[Any, Path]) -> None:
    server, authority = tls_server
    settings = settings_for(server, "tls", ca_file=authority)
    trusting = S3Store(settings)
    assert "does not exist" in (await trusting.check())["tls"]
    admin = admin_client(server, http_client=authorised(authority))
    await asyncio.to_thread(admin.make_bucket, "tls")
    assert await trusting.check() == {}
    await trusting.write("tls", "a", b"1", content_type="")
    # The odd prefix takes the other client's way.
    assert await listed(trusting, "a\n/") == []
    doubting = S3Store(replace(settings, ca_file=None, timeout_s=5.0))
    for work in (doubting.head("tls", "a"), listed(doubting, "a\n/")):
        with pytest.raises(StoreUnavailable, match="certificate") as e:
            await work
        assert "store.ca_file" in e.value.info.hint
    plain = S3Store(replace(settings, endpoint=server.endpoint.replace("https", "http"), ca_file=None))
    with pytest.raises(GpuDropError) as refused:
        await plain.head("tls", "a")
    assert "https" in refused.value.info.hint


async def test_the_stream_trusts_the_same_authority(tls_server: tuple[Any, Path]) -> None:
    server, authority = tls_server
    await asyncio.to_thread(admin_client(server, http_client=authorised(authority)).make_bucket, "tls")
    keys = AccessKeys(server.access_key, server.secret_key)
    settings = MinioListenSettings(server.endpoint, ("tls",), ca_file=authority, ping_s=1)
    told = await probe_stream(replace(settings, ca_file=None), lambda: keys)
    assert (told.ok, told.code) == (False, "store_unavailable")
    assert "not trusted" in told.detail
    assert "store.ca_file" in told.hint
    store, inbox = S3Store(settings_for(server, "tls", ca_file=authority)), Recorder()
    async with running(inbox, MinioListen(settings, lambda: keys)):
        await inbox.until(lambda: any("connected" in gap for gap in inbox.gaps))
        await store.write("tls", "a b.mp3", b"1", content_type="")
        await inbox.until(lambda: inbox.created["a b.mp3"])
    await store.close()


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_certificate_file_that_cannot_be_used_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "none.pem"
    if content is not None:
        path.write_bytes(content)
    settings = S3Settings("https://127.0.0.1:1", ("a",), lambda: AccessKeys("k", "s"), ca_file=path)
    with pytest.raises(ConfigError, match=r"none\.pem") as e:
        S3Store(settings)
    assert e.value.info.where == "store.ca_file"


def test_runpods_authority_is_trusted_alone_and_a_stores_beside_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, system = tmp_path / "ca.pem", tmp_path / "system.pem"
    for path in (own, system):
        trustme.CA().cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    alone, beside = sole_ca_context(own, where="a"), ca_context(own, where="b")
    assert alone and len(alone.get_ca_certs()) == 1
    assert beside and len(beside.get_ca_certs()) == 2
