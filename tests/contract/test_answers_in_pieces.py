"""What a server says arrives in pieces: it is read as far as it matters, and never further."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gpu_dispatch.net.retries import RetryPolicy
from gpu_dispatch.task import TaskInput
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.transfer.transfer import Transfer
from listener.config.credentials import AccessKeys
from listener.runs.callbacks import CallbackClient, CallbackSettings
from listener.sources.minio.request import MinioListenSettings
from listener.sources.minio.source import probe_stream
from manifests.errors import TransferFailed

GAP_S = 0.05
ONCE = RetryPolicy(0.01, 0.01, attempts=1)


@asynccontextmanager
async def saying(status: str, *pieces: bytes, more: int = 0) -> AsyncIterator[str]:
    """A server whose answer comes piece by piece; `more` bytes that it announces never come."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        length = sum(map(len, pieces)) + more
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(GAP_S)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("more", [0, 1000])
async def test_a_receiver_that_has_been_told_is_heard_to_the_end(more: int) -> None:
    """n8n's words stand in the middle of its answer; one that breaks off has still said them."""
    said = b'{"code":409,"message":"The execution \\"12\\" '
    async with saying("409 Conflict", said, b'has finished already."}', more=more) as host:
        client = CallbackClient(CallbackSettings(private_hosts=frozenset({host}), timeout_s=5.0))
        outcome = await client.post(f"http://{host}/", b"{}", run_id="r", attempt=1)
    assert outcome.kind == "delivered", outcome


async def test_a_store_that_is_not_ready_is_not_taken_for_one_without_the_file(tmp_path: Path) -> None:
    async with saying("404 Not Found", b'<?xml version="1.0"?>', b"<Error><Code>NoSuchBucket</Code></Error>") as host:
        limits = TransferLimits(connect_s=5.0, idle_s=5.0, retries=ONCE, trusted_retries=ONCE)
        async with Transfer(file_root=None, trusted_hosts=(host,), max_input_bytes=10, limits=limits) as transfer:
            with pytest.raises(TransferFailed) as e:
                await transfer.download(TaskInput("audio", f"http://{host}/a"), tmp_path / "a", lambda _: None)
    assert e.value.retryable


async def test_the_event_stream_is_told_why_it_was_refused() -> None:
    async with saying("403 Forbidden", b"<Error>", b"<Code>InvalidAccessKeyId</Code></Error>") as host:
        told = await probe_stream(MinioListenSettings(f"http://{host}", ("drop",)), lambda: AccessKeys("a", "b"))
    assert "access key" in told.detail, told
