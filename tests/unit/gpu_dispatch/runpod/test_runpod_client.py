"""What each way of failing means: above all, whether a task was taken."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gpu_dispatch.runpod.rate_limits import RateLimit, RateLimiter
from manifests.errors import ConfigError, EndpointDenied, EndpointUnavailable, GpuDropError, SubmitUnknown, TaskRefused
from support.certificates import certificate
from support.deadlines import HANG_S
from support.runpod import faults
from support.runpod.faults import Fault
from support.runpod.queue import API_KEY, Provider, provider
from support.runpod_endpoints import EP, client_of

BODY = b'{"input": {}}'


@pytest.fixture
async def there() -> AsyncIterator[Provider]:
    async with provider() as p:
        p.endpoint(EP)
        yield p


@asynccontextmanager
async def answering(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """The address of a server that answers everything with `handle`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v2"
    finally:
        await runner.cleanup()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


async def failure(call: Awaitable[Any]) -> GpuDropError:
    with pytest.raises(GpuDropError) as raised:
        await asyncio.wait_for(call, HANG_S)
    assert API_KEY not in repr(raised.value.info)
    return raised.value


async def test_a_task_is_sent_once_with_the_key_of_the_moment(there: Provider) -> None:
    keys = iter(["wrong", API_KEY, API_KEY])
    async with client_of(there.url, key=lambda: next(keys)) as client:
        await failure(client.run(EP, BODY))
        job_id = await client.run(EP, BODY)
        answer = await client.status(EP, job_id)
    assert answer and answer.state == "queued"
    assert [call.answered for call in there.of("run")] == [401, 200]
    assert list(there.endpoints[EP].jobs) == [job_id]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.too_many(), EndpointUnavailable),
        (Fault(401), EndpointDenied),
        (Fault(402, '{"error": "not enough credit"}'), EndpointDenied),
        (Fault(403, faults.HTML, "text/html"), EndpointDenied),
        (Fault(404, "404 page not found", "text/plain"), EndpointDenied),
        (Fault(302, headers={"Location": "/login"}), EndpointDenied),
        (Fault(400, '{"error": "input is required"}'), TaskRefused),
        (Fault(413), TaskRefused),
        (Fault(422), TaskRefused),
    ],
)
async def test_a_refusal_means_that_the_task_was_not_taken(there: Provider, fault: Fault, kind: type) -> None:
    there.faults.on("run", fault)
    async with client_of(there.url) as client:
        error = await failure(client.run(EP, BODY))
    assert type(error) is kind and error.info.hint
    assert error.retryable is (kind is EndpointUnavailable)


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize(
    "fault",
    [faults.reset, faults.failing, faults.html, faults.empty, faults.hang],
    ids=lambda f: f.__name__,
)
async def test_10_an_unclear_answer_to_a_submission_is_unknown_and_never_repeated(
    there: Provider, fault: Callable[..., Fault], taken: bool
) -> None:
    there.faults.on("run", fault(taken=taken))
    async with client_of(there.url, submit_s=0.5) as client:
        error = await failure(client.run(EP, BODY))
    assert type(error) is SubmitUnknown and not error.retryable
    assert there.faults.met == ["run"]
    assert len(there.endpoints[EP].jobs) == taken


@pytest.mark.parametrize(
    "fault",
    [
        faults.reset_mid_body(),
        faults.html(200),
        Fault(200, "[]"),
        Fault(200, '{"id": ""}'),
        Fault(200, '{"id": "../../x"}'),
        Fault(201, '{"status": "IN_QUEUE"}'),
        Fault(408),
        Fault(503, "", "text/plain", {"Retry-After": "1"}),
    ],
)
async def test_10_an_answer_without_a_jobs_id_is_unknown(there: Provider, fault: Fault) -> None:
    there.faults.on("run", fault)
    async with client_of(there.url) as client:
        assert type(await failure(client.run(EP, BODY))) is SubmitUnknown


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
async def test_what_never_connected_was_not_taken(host: str) -> None:
    async with client_of(f"http://{host}:{free_port()}/v2") as client:
        error = await failure(client.run(EP, BODY))
    assert type(error) is EndpointUnavailable and error.retryable


async def test_a_connection_that_does_not_come_about_in_time_was_not_taken() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        url = f"https://127.0.0.1:{full.getsockname()[1]}/v2"
        async with client_of(url, connect_s=0.3) as client:
            error = await failure(client.run(EP, BODY))
    assert type(error) is EndpointUnavailable and "No connection" in error.info.message


@asynccontextmanager
async def secure_server(folder: Path) -> AsyncIterator[tuple[str, Path]]:
    made = certificate(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.cert_file, made.key_file)

    async def job(request: web.Request) -> web.Response:
        return web.json_response({"id": "j1", "status": "IN_QUEUE"})

    app = web.Application()
    app.router.add_post("/v2/ep1/run", job)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}/v2", made.cert_file
    finally:
        await runner.cleanup()


async def test_a_certificate_nobody_vouches_for_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    async with secure_server(tmp_path) as (url, ca_file):
        async with client_of(url) as client:
            error = await failure(client.run(EP, BODY))
        assert type(error) is EndpointDenied and "ca_file" in error.info.hint
        async with client_of(url, ca_file=str(ca_file)) as client:
            assert await client.run(EP, BODY) == "j1"


async def test_certificates_that_cannot_be_read_are_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        async with client_of("https://runpod.invalid/v2", ca_file=str(tmp_path / "none.pem")):
            pass


async def test_calls_go_through_the_proxy_that_is_given_or_that_the_environment_names(
    there: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    seen: list[str] = []

    async def proxy(request: web.Request) -> web.Response:
        seen.append(str(request.raw_path))
        return web.json_response({"id": "via-proxy", "status": "IN_QUEUE"})

    async with answering(proxy) as url:
        address = url.removesuffix("/v2")
        async with client_of("http://runpod.invalid/v2", proxy=address) as client:
            assert await client.run(EP, BODY) == "via-proxy"
        monkeypatch.setenv("http_proxy", address)
        async with client_of("http://runpod.invalid/v2") as client:
            assert await client.run(EP, BODY) == "via-proxy"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with client_of(there.url) as client:
            assert await client.run(EP, BODY) in there.endpoints[EP].jobs
    assert len(seen) == 2


async def test_a_proxy_that_refuses_or_is_away_took_nothing() -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=407)

    async with answering(refuse) as url:
        for proxy in (url.removesuffix("/v2"), f"http://user:s3cret@127.0.0.1:{free_port()}"):
            async with client_of("https://runpod.invalid/v2", proxy=proxy) as client:
                error = await failure(client.run(EP, BODY))
            assert type(error) is EndpointUnavailable and "s3cret" not in repr(error.info)


@pytest.mark.parametrize("key", ["", " ", "two\nlines", "schlüssel"])
async def test_without_a_usable_key_nothing_is_sent(there: Provider, key: str) -> None:
    async with client_of(there.url, key=lambda: key) as client:
        error = await failure(client.run(EP, BODY))
    assert type(error) is EndpointDenied and "GPUDROP_RUNPOD_API_KEY" in error.info.hint
    assert there.calls == []


@pytest.mark.parametrize("op", ["status", "cancel", "health"])
@pytest.mark.parametrize(
    "fault",
    [
        faults.reset(),
        faults.reset_mid_body(),
        faults.html(502),
        faults.html(200),
        faults.empty(),
        faults.failing(500),
        faults.too_many(),
        faults.hang(),
    ],
)
async def test_12_whatever_a_gateway_answers_to_a_question_it_may_be_asked_again(
    there: Provider, op: str, fault: Fault
) -> None:
    async with client_of(there.url, call_timeout_s=0.5) as client:
        job_id = await client.run(EP, BODY)
        ask = {"status": client.status, "cancel": client.cancel, "health": lambda ep, _: client.health(ep)}[op]
        # A repeated GET on a connection that was reset is the library's own doing.
        there.faults.on(op, fault, times=2)
        error = await failure(ask(EP, job_id))
        assert type(error) is EndpointUnavailable and error.retryable
        assert "<" not in error.info.message


async def test_a_huge_answer_is_not_read_to_its_end(there: Provider) -> None:
    there.faults.on("status", Fault(200, '{"status": "COMPLETED", "output": "' + "x" * 300_000 + '"}'))
    async with client_of(there.url, answer_bytes=100_000) as client:
        error = await failure(client.status(EP, "j1"))
    assert type(error) is EndpointUnavailable and "100,000" in error.info.message


async def test_a_job_nobody_knows_is_nothing_and_an_endpoint_nobody_knows_is_denied(there: Provider) -> None:
    async with client_of(there.url) as client:
        assert await client.status(EP, "no-such-job") is None
        assert await client.cancel(EP, "no-such-job") is None
        assert await client.retry(EP, "no-such-job") is None
        for call in (client.health("gone"), client.purge("gone"), client.run("gone", BODY)):
            error = await failure(call)
            assert type(error) is EndpointDenied and "gone" in error.info.message


async def test_a_purge_takes_back_what_waits(there: Provider) -> None:
    async with client_of(there.url) as client:
        job_id = await client.run(EP, BODY)
        await client.purge(EP)
        answer = await client.status(EP, job_id)
    assert answer and answer.state == "cancelled"


async def test_after_a_429_nothing_is_sent_for_as_long_as_it_says(there: Provider) -> None:
    there.faults.on("run", faults.too_many("60"))
    async with client_of(there.url, max_wait_s=5.0) as client:
        await failure(client.run(EP, BODY))
        error = await failure(client.run(EP, BODY))
        assert type(error) is EndpointUnavailable and "limits" in error.info.message
        assert await client.health(EP)
    assert len(there.of("run")) == 1


async def test_a_429_storm_ends_with_every_task_sent_once(there: Provider) -> None:
    there.faults.on("run", faults.too_many("0.2"), times=3)
    async with client_of(there.url) as client:

        async def sent() -> str:
            while True:
                with contextlib.suppress(EndpointUnavailable):
                    return await client.run(EP, BODY)

        ids = await asyncio.wait_for(asyncio.gather(*(sent() for _ in range(20))), HANG_S)
    assert sorted(ids) == sorted(there.endpoints[EP].jobs) and len(set(ids)) == 20


async def test_no_more_calls_are_under_way_than_the_provider_allows() -> None:
    gates = RateLimiter({"cancel": RateLimit(1000, 3)})
    under_way = most = 0

    async def call() -> None:
        nonlocal under_way, most
        async with gates.acquire(EP, "cancel", HANG_S):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.01)
            under_way -= 1

    await asyncio.gather(*(call() for _ in range(20)))
    assert most == 3


async def test_calls_that_waited_for_others_to_end_do_not_go_out_in_one_burst() -> None:
    """Ten may go at once, nine a second after them; while nothing ends, nobody's turn is used up."""
    gates, clock = RateLimiter({"cancel": RateLimit(100, 1)}), asyncio.get_running_loop().time
    sent: list[float] = []

    async def call() -> None:
        async with gates.acquire(EP, "cancel", HANG_S):
            sent.append(clock())

    async with gates.acquire(EP, "cancel", HANG_S):
        calls = [asyncio.create_task(call()) for _ in range(20)]
        await asyncio.sleep(1.5)
    await asyncio.gather(*calls)
    assert max(sent) - min(sent) > 0.9


async def test_a_call_that_would_wait_too_long_for_its_turn_is_not_made() -> None:
    gates = RateLimiter({"cancel": RateLimit(1000, 1)})
    async with gates.acquire(EP, "cancel", HANG_S):
        with pytest.raises(EndpointUnavailable):
            async with gates.acquire(EP, "cancel", 0.05):
                pass
    async with gates.acquire(EP, "cancel", 0.05):
        pass


async def test_an_endpoints_own_rate_is_kept_on_top_of_the_documented_one(there: Provider) -> None:
    async with client_of(there.url, max_wait_s=0.1) as client:
        client.rate_limiter.set_submission_rate(EP, 0.01)
        await client.run(EP, BODY)
        error = await failure(client.run(EP, BODY))
        assert type(error) is EndpointUnavailable
    assert len(there.of("run")) == 1


async def test_a_closed_client_calls_nobody(there: Provider) -> None:
    async with client_of(there.url) as client:
        await client.close()
        assert type(await failure(client.run(EP, BODY))) is EndpointUnavailable
    assert there.calls == []


GARBAGE = {
    "not packed as it says": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\ngarbage",
    "packed in an unknown way": b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 7\r\n\r\ngarbage",
    "no HTTP": b"garbage\r\n\r\n",
    "of a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "in broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "with an endless header": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "not in UTF-8": b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"id": "a\xff"}',
    "nested without end": b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"[" * 50_000,
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
async def test_an_answer_that_is_garbage_leaves_a_submission_unknown_and_a_question_open(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with client_of(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(SubmitUnknown):
                await client.run(EP, b"")
            with pytest.raises(EndpointUnavailable):
                await client.status(EP, "j1")


@pytest.mark.parametrize("endpoint", ["../../x?y#", "a b", "a\r\nX: y", "é", ""])
async def test_an_endpoints_id_that_a_claim_tells_is_one_part_of_the_path(there: Provider, endpoint: str) -> None:
    """Whoever may write into the bucket may write a claim."""
    async with client_of(there.url) as client:
        assert await client.status(endpoint, "j1") is None
    assert all(call.endpoint == endpoint for call in there.calls)
