"""Many clients, slow ones, and ends: connections of the webhook receiver."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from gpu_dispatch.net.tls import ServerCertificate, ServerTls
from listener.events.event import ObjectEvent
from listener.sources.webhook.settings import PostSecrets, WebhookSettings
from listener.sources.webhook.source import WebhookReceiver
from manifests.errors import ConfigError
from support.deadlines import HANG_S
from support.sources import Recorder, running
from support.webhook import BEARER, TOKEN, TOKENS, Authority, Receiving, cut, free_port, message, receiving

HEAD = f"POST /minio HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n".encode()


class Gated(Recorder):
    """Takes nothing before `opened` is set; `waiting` counts those who wait."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = asyncio.Event()
        self.waiting = 0

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        self.waiting += 1
        self._changed.set()
        await self.opened.wait()
        await super().accept(events)


async def dial(receiver: Receiving) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", receiver.source.port)


async def test_a_thousand_posts_at_once_are_all_taken() -> None:
    inbox = Gated()
    async with receiving(inbox) as receiver:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:

            async def post(i: int) -> int:
                async with session.post(receiver.url, data=message(f"{i}.mp3"), headers=BEARER) as answer:
                    return answer.status

            posting = [group.create_task(post(i)) for i in range(1000)]
            await inbox.until(lambda: inbox.waiting == 1000)
            inbox.opened.set()
        assert [task.result() for task in posting] == [200] * 1000
    assert inbox.created == {f"{i}.mp3": 1 for i in range(1000)}


async def test_one_connection_carries_many_posts() -> None:
    async with receiving() as receiver:
        reader, writer = await dial(receiver)
        for i in range(20):
            body = message(f"{i}.mp3")
            writer.write(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            async with asyncio.timeout(HANG_S):
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert len(receiver.inbox.created) == 20


async def trickle(receiver: Receiving, *, start: bytes, drop: bytes, pause_s: float) -> int:
    """Sends `start` at once, then `drop` again and again; how often, until it was cut off."""
    reader, writer = await dial(receiver)
    writer.write(start)
    ended = asyncio.create_task(cut(reader))
    drops = 0
    async with asyncio.timeout(HANG_S):
        while not ended.done():
            writer.write(drop)
            drops += 1
            await asyncio.wait([ended], timeout=pause_s)
    writer.close()
    return drops


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"", b""),
        (b"POST /minio HTTP/1.1\r\nX: ", b"x"),
        (b"POST /minio HTTP/1.1\r\n", b"X: x\r\n"),
        (b"POST /", b"x"),
    ],
    ids=["silence", "one endless header", "headers without an end", "an address without an end"],
)
async def test_a_header_that_never_ends_is_cut_off_while_others_are_served(start: bytes, drop: bytes) -> None:
    async with receiving(header_timeout_s=0.5) as receiver:
        slow = [asyncio.create_task(trickle(receiver, start=start, drop=drop, pause_s=0.02)) for _ in range(20)]
        served = 0
        while not all(task.done() for task in slow):
            assert await receiver.post(message(f"{served}.mp3")) == 200
            served += 1
        await asyncio.gather(*slow)
        assert receiver.inbox.counts["too_slow"] == 20
        assert served


async def test_a_second_request_is_cut_off_just_the_same() -> None:
    async with receiving(header_timeout_s=0.5) as receiver:
        body = message("a.mp3")
        first = HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
        await trickle(receiver, start=first + b"POST /minio HTTP/1.1\r\nX: ", drop=b"x", pause_s=0.02)
        assert receiver.inbox.created == {"a.mp3": 1}
        assert receiver.inbox.counts == {"too_slow": 1}


@pytest.mark.parametrize(
    ("header", "drop"),
    [(b"Content-Length: 1000\r\n\r\n", b" "), (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n")],
    ids=["announced", "chunked"],
)
async def test_a_body_that_never_ends_is_cut_off_while_others_are_served(header: bytes, drop: bytes) -> None:
    async with receiving(body_timeout_s=0.5) as receiver:
        slow = [asyncio.create_task(trickle(receiver, start=HEAD + header, drop=drop, pause_s=0.02)) for _ in range(20)]
        while not all(task.done() for task in slow):
            assert await receiver.post(message("a.mp3")) == 200
        await asyncio.gather(*slow)
        assert receiver.inbox.counts == {"too_slow": 20}


async def test_an_idle_connection_lives_longer_than_a_header_may_take() -> None:
    async with receiving(header_timeout_s=0.3) as receiver:
        reader, writer = await dial(receiver)
        body = message("a.mp3")
        for _ in range(2):
            writer.write(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            async with asyncio.timeout(HANG_S):
                assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.9)
        writer.close()
        assert receiver.inbox.created == {"a.mp3": 2}
        assert not receiver.inbox.counts


async def test_an_idle_connection_does_not_live_for_ever() -> None:
    async with receiving(idle_timeout_s=0.3) as receiver:
        reader, writer = await dial(receiver)
        body = message("a.mp3")
        writer.write(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert await cut(reader)
        writer.close()
    assert receiver.inbox.created == {"a.mp3": 1}


async def test_more_connections_than_the_limit_are_refused_until_some_end() -> None:
    async with receiving(max_connections=10) as receiver:
        held = [await dial(receiver) for _ in range(10)]
        reader, writer = await dial(receiver)
        assert await cut(reader)
        writer.close()
        assert receiver.inbox.counts == {"too_many_connections": 1}
        for _, open_ in held:
            open_.close()
            await open_.wait_closed()
        async with asyncio.timeout(HANG_S):
            while True:
                try:
                    assert await receiver.post(message("a.mp3")) == 200
                    break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.01)


async def test_posts_in_flight_are_finished_at_the_end() -> None:
    inbox = Gated()
    async with aiohttp.ClientSession() as session:
        async with receiving(inbox) as receiver:
            idle, idle_writer = await dial(receiver)
            half, half_writer = await dial(receiver)
            body = message("half.mp3")
            half_writer.write(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:50])
            posting = asyncio.create_task(session.post(receiver.url, data=message("whole.mp3"), headers=BEARER))
            await inbox.until(lambda: inbox.waiting == 1)
            port = receiver.source.port
            ending = asyncio.create_task(_finish(inbox, idle, half_writer, body[50:]))
        answer = await posting
        assert answer.status == 200
        async with asyncio.timeout(HANG_S):
            assert b" 200 " in await half.read()
            await ending
    assert inbox.created == {"whole.mp3": 1, "half.mp3": 1}
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    idle_writer.close()
    half_writer.close()


async def _finish(inbox: Gated, idle: asyncio.StreamReader, half: asyncio.StreamWriter, rest: bytes) -> None:
    """Once the receiver ends, which an idle connection sees first: the rest of a body, and the inbox opens."""
    assert await cut(idle)
    half.write(rest)
    await inbox.until(lambda: inbox.waiting == 2)
    inbox.opened.set()


async def test_a_post_that_cannot_be_finished_does_not_hold_up_the_end() -> None:
    inbox = Gated()
    async with aiohttp.ClientSession() as session:
        async with receiving(inbox, grace_s=0.3) as receiver:
            posting = asyncio.create_task(session.post(receiver.url, data=message("a.mp3"), headers=BEARER))
            await inbox.until(lambda: inbox.waiting == 1)
        with pytest.raises(aiohttp.ClientError):
            await posting
    assert not inbox.events


async def test_a_client_that_goes_away_early_is_recorded_all_the_same() -> None:
    inbox = Gated()
    async with receiving(inbox) as receiver:
        _, writer = await dial(receiver)
        body = message("a.mp3")
        writer.write(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await inbox.until(lambda: inbox.waiting == 1)
        writer.transport.abort()
        await asyncio.sleep(0.1)
        inbox.opened.set()
        await inbox.until(lambda: inbox.created["a.mp3"])


async def test_a_taken_port_is_told_and_tried_again() -> None:
    inbox = Recorder()
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        source = WebhookReceiver(WebhookSettings(port=port), TOKENS)
        async with running(inbox, source):
            await inbox.until(lambda: inbox.conditions)
            told = inbox.conditions[0]
            assert not told.ok
            assert told.code == "source_unavailable"
            assert f"127.0.0.1:{port}" in told.detail
            assert "another port" in told.hint
            holder.close()
            await inbox.until(lambda: inbox.conditions[-1].ok)
            assert source.port == port
    assert source.port == 0


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_an_address_of_another_machine_is_told(host: str) -> None:
    inbox = Recorder()
    async with running(inbox, WebhookReceiver(WebhookSettings(host=host, port=0), TOKENS)):
        await inbox.until(lambda: inbox.conditions)
    assert inbox.conditions[0].code == "source_denied"
    assert "0.0.0.0" in inbox.conditions[0].hint


async def test_a_receiver_may_be_run_again() -> None:
    source = WebhookReceiver(WebhookSettings(port=free_port()), TOKENS)
    for round_ in range(3):
        inbox = Recorder()
        async with running(inbox, source):
            await inbox.until(lambda inbox=inbox: inbox.gaps)
            receiver = Receiving(inbox, source, f"http://127.0.0.1:{source.port}/")
            assert await receiver.post(message(f"{round_}.mp3")) == 200


async def test_over_tls_a_client_needs_its_certificate(tmp_path: Path) -> None:
    authority, other = Authority.at(tmp_path / "ours"), Authority.at(tmp_path / "other")
    async with receiving(secrets=PostSecrets(), tls=authority.server(demand_clients=True)) as receiver:
        ours = authority.client_context(*authority.issue("client", "store"))
        assert await receiver.post(message("a.mp3"), headers={}, ssl=ours) == 200
        for strange in (authority.client_context(), authority.client_context(*other.issue("client", "store"))):
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await receiver.post(message("b.mp3"), ssl=strange)
        with pytest.raises(aiohttp.ClientError):
            await Receiving(receiver.inbox, receiver.source, receiver.url.replace("https", "http")).post(b"{}")
    assert receiver.inbox.created == {"a.mp3": 1}


async def test_over_tls_a_secret_beside_certificates_is_asked_for_too(tmp_path: Path) -> None:
    authority = Authority.at(tmp_path)
    async with receiving(tls=authority.server(demand_clients=True)) as receiver:
        ours = authority.client_context(*authority.issue("client", "store"))
        assert await receiver.post(message("a.mp3"), headers={}, ssl=ours) == 401
        assert await receiver.post(message("a.mp3"), ssl=ours) == 200


async def test_a_renewed_certificate_is_shown_to_new_clients(tmp_path: Path) -> None:
    first, second = Authority.at(tmp_path / "first"), Authority.at(tmp_path / "second")
    tls = first.server()
    certificate = ServerCertificate(tls)
    assert not certificate.renew()
    cert, key = second.issue("server")
    cert.replace(tls.cert_file)
    os.utime(tls.cert_file, ns=(1, 1))
    with pytest.raises(ConfigError):  # its key has not come yet
        certificate.renew()
    assert await _trusted(certificate.context, first)
    key.replace(tls.key_file)
    assert certificate.renew()
    assert await _trusted(certificate.context, second)
    assert not await _trusted(certificate.context, first)


async def _trusted(shown: ssl.SSLContext, authority: Authority) -> bool:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=shown)
    async with server:
        try:
            port = server.sockets[0].getsockname()[1]
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.client_context())
        except ssl.SSLCertVerificationError:
            return False
        writer.close()
        return True


async def test_a_receiver_at_work_takes_up_a_renewed_certificate(tmp_path: Path) -> None:
    first, second = Authority.at(tmp_path / "first"), Authority.at(tmp_path / "second")
    tls = first.server()
    async with receiving(tls=tls, renew_s=0.05) as receiver:
        assert await receiver.post(message("a.mp3"), ssl=first.client_context()) == 200
        tls.cert_file.write_text("half a certificate")
        await receiver.inbox.until(lambda: receiver.inbox.counts["certificate_not_renewed"])
        assert await receiver.post(message("b.mp3"), ssl=first.client_context()) == 200
        for file, place in zip(second.issue("server"), (tls.cert_file, tls.key_file), strict=True):
            file.replace(place)
        async with asyncio.timeout(HANG_S):
            while not receiver.inbox.created["c.mp3"]:
                try:
                    await receiver.post(message("c.mp3"), ssl=second.client_context())
                except aiohttp.ClientConnectorCertificateError:
                    await asyncio.sleep(0.02)


@pytest.mark.parametrize("missing", ["cert_file", "key_file", "client_ca_file"])
async def test_a_certificate_that_cannot_be_read_is_told(tmp_path: Path, missing: str) -> None:
    tls = Authority.at(tmp_path).server(demand_clients=True)
    for broken in (tmp_path / "none.pem", tmp_path / "text.pem"):
        (tmp_path / "text.pem").write_text("no certificate")
        files: ServerTls = replace(tls, **{missing: broken})
        with pytest.raises(ConfigError, match=broken.name):
            await WebhookReceiver(WebhookSettings(port=0, tls=files), TOKENS).run(Recorder())
