"""RunPod's word that a job has ended: it makes us look sooner, and nothing depends on it."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gpu_dispatch.net.server import ServerLimits
from gpu_dispatch.runpod.job_cache import PollInterval
from gpu_dispatch.runpod.webhook import WebhookHints, WebhookServer
from manifests.errors import ConfigError
from support.deadlines import HANG_S
from support.runpod.jobs import Auto
from support.runpod.queue import Provider, provider
from support.runpod_endpoints import EP, HEARD, ended, endpoint_of, task
from support.webhook import cut

RARELY = PollInterval(first_s=3600.0, longest_s=3600.0)
SECRET = "a-secret-of-this-test"


@pytest.fixture
async def there() -> AsyncIterator[Provider]:
    async with provider() as p:
        p.endpoint(EP, auto=Auto(0.05, lambda job: HEARD))
        yield p


@asynccontextmanager
async def hinting() -> AsyncIterator[tuple[WebhookHints, str]]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    hints = WebhookHints(f"http://127.0.0.1:{port}/{SECRET}")
    server = WebhookServer(hints, host="127.0.0.1", port=port, secret=SECRET)
    assert await server.start() == port
    try:
        yield hints, f"http://127.0.0.1:{port}"
    finally:
        await server.close()


async def post(url: str, body: bytes = b"{}", method: str = "POST") -> int:
    async with aiohttp.ClientSession() as session, session.request(method, url, data=body) as answer:
        return answer.status


async def test_a_hint_wakes_who_waits(there: Provider) -> None:
    async with hinting() as (hints, _), endpoint_of(there.url, pace=RARELY, hints=hints) as endpoint:
        job = await endpoint.submit(task())
        final = await asyncio.wait_for(ended(endpoint, job), HANG_S)
        assert final.state == "completed" and len(there.of("status")) == 1
        sent = there.endpoints[EP].job()
        await there.endpoints[EP].until(lambda: sent.webhooks == [200], HANG_S)


async def test_9_a_webhook_that_is_lost_or_repeated_changes_nothing(there: Provider) -> None:
    for copies in (0, 2):
        there.endpoints[EP].webhook_copies = copies
        async with hinting() as (hints, _), endpoint_of(there.url, hints=hints) as endpoint:
            job = await endpoint.submit(task())
            assert (await asyncio.wait_for(ended(endpoint, job), HANG_S)).state == "completed"
    assert there.endpoints[EP].paid == 2


async def test_a_lie_is_not_believed(there: Provider) -> None:
    there.endpoints[EP].auto = None
    async with hinting() as (hints, _), endpoint_of(there.url, pace=RARELY, hints=hints) as endpoint:
        job = await endpoint.submit(task())
        webhook = there.endpoints[EP].job().webhook
        assert webhook and job.job_id not in webhook
        waiting = asyncio.create_task(endpoint.status(job, wait_s=1.0))
        lie = json.dumps({"id": job.job_id, "status": "COMPLETED", "output": HEARD}).encode()
        assert await post(webhook, lie) == 200
        assert (await asyncio.wait_for(waiting, HANG_S)).state == "queued"
        assert len(there.of("status")) == 1


@pytest.mark.parametrize("place", ["first", "last"])
async def test_a_job_of_an_earlier_process_is_known_by_the_id_in_the_post(there: Provider, place: str) -> None:
    there.endpoints[EP].auto = None
    async with endpoint_of(there.url) as before:
        job = await before.submit(task())
    echo = {"input": {"text": "x" * 3_000_000}}
    body = {"id": job.job_id} | echo if place == "first" else echo | {"id": job.job_id}
    async with hinting() as (hints, base), endpoint_of(there.url, pace=RARELY, hints=hints) as after:
        assert (await after.status(job)).state == "queued"
        waiting = asyncio.create_task(after.status(job, wait_s=HANG_S))
        there.endpoints[EP].regress(there.endpoints[EP].job())
        assert await post(f"{base}/{SECRET}/of-an-earlier-process", json.dumps(body).encode()) == 200
        assert (await asyncio.wait_for(waiting, HANG_S)).state == "running"


async def test_only_who_knows_the_secret_is_heard() -> None:
    wake = asyncio.Event()
    async with hinting() as (hints, base):
        hints.expect("j1", wake)
        body = b'{"id": "j1"}'
        for path in ("wrong/j1", f"{SECRET}x/j1", f"{SECRET}", "j1", "", f"{SECRET}/j1/more"):
            assert await post(f"{base}/{path}", body) == 404
        assert await post(f"{base}/{SECRET}/j1", method="GET") == 405
        assert not wake.is_set()
        assert await post(f"{base}/{SECRET}/anything", b"\x00 no json") == 200
        assert not wake.is_set()
        assert await post(f"{base}/{SECRET}/anything", body) == 200
        assert wake.is_set()


async def test_without_a_secret_nobody_is_heard() -> None:
    server = WebhookServer(WebhookHints("http://127.0.0.1:1"), host="127.0.0.1", port=0, secret="")
    port = await server.start()
    try:
        assert await post(f"http://127.0.0.1:{port}/x/j1") == 404
    finally:
        await server.close()


async def test_a_port_that_is_taken_is_a_mistake_of_the_configuration() -> None:
    async with hinting() as (hints, base):
        port = int(base.rpartition(":")[2])
        with pytest.raises(ConfigError, match=str(port)):
            await WebhookServer(hints, host="127.0.0.1", port=port, secret=SECRET).start()


async def test_jobs_that_have_ended_are_not_waited_for(there: Provider) -> None:
    async with hinting() as (hints, _), endpoint_of(there.url, hints=hints) as endpoint:
        job = await endpoint.submit(task())
        webhook = there.endpoints[EP].job().webhook or ""
        await asyncio.wait_for(ended(endpoint, job), HANG_S)
        assert not hints.notify(webhook.rpartition("/")[2]) and not hints.notify(job.job_id)


async def test_half_a_header_does_not_stay_open() -> None:
    cuts: list[str] = []
    server = WebhookServer(
        WebhookHints(""), host="127.0.0.1", port=0, secret=SECRET, limits=ServerLimits(0.3), count=cuts.append
    )
    port = await server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /x/y HTTP/1.1\r\nHost: x\r\n")
        assert await asyncio.wait_for(cut(reader), HANG_S)
        writer.close()
        assert cuts == ["too_slow"]
        assert await post(f"http://127.0.0.1:{port}/{SECRET}/j") == 200
    finally:
        await server.close()


async def test_connections_are_counted() -> None:
    cuts: list[str] = []
    limits = ServerLimits(max_connections=3)
    server = WebhookServer(WebhookHints(""), host="127.0.0.1", port=0, secret=SECRET, limits=limits, count=cuts.append)
    port = await server.start()
    try:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(cut(reader), HANG_S)
        assert cuts == ["too_many_connections"]
        for _, each in [*held, (reader, writer)]:
            each.close()
    finally:
        await server.close()


async def test_a_body_that_breaks_off_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    async with hinting() as (hints, base):
        wake = asyncio.Event()
        hints.expect("j1", wake)
        _, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
        writer.write(f"POST /{SECRET}/j1 HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\nabc".encode())
        await asyncio.wait_for(wake.wait(), HANG_S)
        writer.close()
        assert await post(f"{base}/{SECRET}/j1") == 200
    assert not caplog.records
