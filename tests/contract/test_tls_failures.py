"""A failed handshake is told for what it is, by every client that can meet one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gpu_dispatch.net.retries import RetryPolicy
from gpu_dispatch.net.tls import tls_failure
from gpu_dispatch.runpod.errors import not_sent
from gpu_dispatch.task import TaskInput, TaskOutput
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.transfer.transfer import Transfer
from listener.config.credentials import AccessKeys
from listener.runs.callbacks import CallbackClient, CallbackSettings
from listener.sources.brokers.errors import broker_tls_error
from listener.sources.minio.request import MinioListenSettings
from listener.sources.minio.source import probe_stream
from listener.stores.s3.clients import S3Settings
from listener.stores.s3.store import S3Store
from manifests.errors import GpuDropError, TransferFailed
from support.certificates import Certificate, certificate

GO_SAYS = b"Client sent an HTTP request to an HTTPS server.\n"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As Go's servers answer plain HTTP at a port for TLS; also what a plain server gives to a TLS client."""
    try:
        async with asyncio.timeout(5):
            await reader.read(2000)
            head = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(GO_SAYS)
            writer.write(head + GO_SAYS)
            await writer.drain()
    except (OSError, TimeoutError, ssl.SSLError):
        pass
    finally:
        writer.close()


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(b"\x15\x03\x03\x00\x02\x02\x28")  # A fatal alert: handshake_failure.
    writer.close()


@asynccontextmanager
async def server(answer: Any, shown: Certificate | None = None) -> AsyncIterator[int]:
    context = None
    if shown:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(shown.cert_file, shown.key_file)
    listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    yield listening.sockets[0].getsockname()[1]
    listening.close()


@asynccontextmanager
async def faulty(problem: str, folder: Path) -> AsyncIterator[tuple[str, Path | None]]:
    """The address of a server with a `problem`, and the authority that its client knows."""
    authority = certificate(folder, "authority")
    scheme, known, answer, shown = "https", authority.cert_file, _answer, None
    if problem == "https_expected":
        scheme = "http"
    elif problem == "handshake":
        answer = _hang_up
    elif problem == "untrusted":
        known, shown = None, certificate(folder, authority=authority)
    elif problem == "expired":
        shown = certificate(folder, authority=authority, good_for=timedelta(minutes=-5))
    elif problem == "wrong_host":
        shown = certificate(folder, authority=authority, address="127.0.0.9")
    async with server(answer, shown) as port:
        yield f"{scheme}://127.0.0.1:{port}", known


PROBLEMS = ["plain_http", "https_expected", "untrusted", "expired", "wrong_host", "handshake"]
SAID = {
    "plain_http": "does not speak TLS", "https_expected": "speaks TLS only", "untrusted": "not trusted",
    "expired": "not valid at this time", "wrong_host": "another host", "handshake": "handshake",
}  # fmt: skip
REMEDY = {
    "plain_http": "http:// instead of", "https_expected": "https:// instead of", "untrusted": "authority",
    "expired": "Renew", "wrong_host": "host name", "handshake": "TLS 1.2",
}  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS)
async def test_the_store_says_what_is_wrong(problem: str, tmp_path: Path) -> None:
    async with faulty(problem, tmp_path) as (url, authority):
        settings = S3Settings(url, ("bucket",), lambda: AccessKeys("k", "secret"), ca_file=authority, timeout_s=3.0)
        store = S3Store(settings)

        async def listed() -> list[object]:
            return [item async for item in store.list("bucket", "a\n/")]

        for work in (store.write("bucket", "a", b"1", content_type=""), listed()):
            with pytest.raises(GpuDropError) as e:
                await work
            assert SAID[problem] in e.value.info.message
            assert REMEDY[problem] in e.value.info.hint
            assert (problem == "untrusted") == ("store.ca_file" in e.value.info.hint)
        await store.close()


@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p != "https_expected"])
async def test_the_event_stream_says_what_is_wrong(problem: str, tmp_path: Path) -> None:
    async with faulty(problem, tmp_path) as (url, authority):
        settings = MinioListenSettings(url, ("bucket",), ca_file=authority, ping_s=1)
        told = await probe_stream(settings, lambda: AccessKeys("k", "secret"))
    assert (told.ok, told.code) == (False, "store_unavailable")
    assert SAID[problem] in told.detail
    assert REMEDY[problem] in told.hint


async def _failed(url: str, authority: Path | None) -> aiohttp.ClientError:
    context = ssl.create_default_context(cafile=str(authority) if authority else None)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError) as e:
            await session.get(url, ssl=context)
    return e.value


@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p != "https_expected"])
async def test_calls_to_runpod_say_what_is_wrong(problem: str, tmp_path: Path) -> None:
    async with faulty(problem, tmp_path) as (url, authority):
        error = await _failed(url, authority)
    told = not_sent(error, "the API")
    assert told is not None
    assert SAID[problem] in told.error.info.message
    assert REMEDY[problem] in told.error.info.hint
    denied = broker_tls_error("the broker", str(error))
    assert denied is not None
    assert SAID[problem].replace("at this time", "") in denied.info.message


@pytest.mark.parametrize("problem", ["plain_http", "https_expected"])
async def test_a_transfer_says_whether_there_is_tls(problem: str, tmp_path: Path) -> None:
    limits = TransferLimits(connect_s=2, idle_s=2, retries=RetryPolicy(0.02, 0.02, attempts=2))
    (tmp_path / "a").write_bytes(b"1")
    async with faulty(problem, tmp_path) as (url, _):
        host = url.partition("://")[2]
        async with Transfer(file_root=None, trusted_hosts=(host,), max_input_bytes=10, limits=limits) as transfer:
            with pytest.raises(TransferFailed, match=SAID[problem]) as e:
                await transfer.download(TaskInput("audio", f"{url}/a"), tmp_path / "b", lambda _: None)
            assert REMEDY[problem] in e.value.info.hint
            with pytest.raises(TransferFailed, match=SAID[problem]):
                await transfer.upload(tmp_path / "a", TaskOutput("a", f"{url}/a", ""), lambda _: None)


@pytest.mark.parametrize("problem", ["plain_http", "https_expected"])
async def test_a_callback_says_whether_there_is_tls(problem: str, tmp_path: Path) -> None:
    client = CallbackClient(CallbackSettings(private_hosts=frozenset({"127.0.0.1"}), timeout_s=5.0))
    async with faulty(problem, tmp_path) as (url, _):
        outcome = await client.post(url + "/", b"{}", run_id="r", attempt=1)
    assert outcome.kind == "failed"
    assert SAID[problem] in outcome.error
    assert REMEDY[problem] in outcome.hint


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("[SSL: RECORD_LAYER_FAILURE] record layer failure (_ssl.c:1016)", "plain_http"),
        ("[SSL: PACKET_LENGTH_TOO_LONG] packet length too long", "plain_http"),
        ("InvalidCertificate(\n    ExpiredContext {", "expired"),
        ("InvalidCertificate(\n  NotValidForNameContext {", "wrong_host"),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required", "client_certificate"),
        ("AlertReceived(\n   CertificateRequired,", "client_certificate"),
        ("400 The plain HTTP request was sent to HTTPS port", "https_expected"),
        ("[SSL: UNSUPPORTED_PROTOCOL] unsupported protocol", "handshake"),
    ],
)
def test_words_of_other_releases(said: str, problem: str) -> None:
    found = tls_failure(said)
    assert found is not None
    assert found.problem == problem


@pytest.mark.parametrize("said", ["", "Connection refused", "HTTP error: error sending request", "timed out"])
def test_other_troubles_are_not_about_tls(said: str) -> None:
    assert tls_failure(said) is None


@pytest.mark.parametrize("piece", ["_", "a_", "a ", "alert ", "certificate_"])
def test_no_answer_takes_long_to_be_read(piece: str) -> None:
    """Strangers write what is searched here."""
    assert tls_failure("alert " + piece * (4096 // len(piece)) + "!") is None
