"""Posts that are not taken, and what is said about them."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from listener.events.event import ObjectEvent
from listener.sources.webhook.settings import PostSecrets
from manifests.errors import UnusableKey
from support.deadlines import HANG_S
from support.sources import Recorder
from support.webhook import BEARER, TOKEN, Receiving, message, receiving

EVERY = PostSecrets.of(token=TOKEN, path_secret="in-the-path", hmac_secret="key")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiving]:
    async with receiving(secrets=EVERY, max_body_bytes=1000) as receiver:
        yield receiver


def signed(body: bytes, secret: str = "key") -> dict[str, str]:
    return {"X-Gpudrop-Signature": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


async def test_each_proof_alone_lets_in(receiver: Receiving) -> None:
    body = message("a.mp3")
    assert await receiver.post(body) == 200
    assert await receiver.post(body, to="/in-the-path", headers={}) == 200
    assert await receiver.post(body, to="/in-the-path/?x=1", headers={}) == 200
    assert await receiver.post(body, headers=signed(body)) == 200
    assert receiver.inbox.created == {"a.mp3": 4}
    assert not receiver.inbox.counts


@pytest.mark.parametrize(
    ("to", "headers"),
    [
        ("", {}),
        ("", {"Authorization": "Bearer wrong"}),
        ("", {"Authorization": TOKEN}),
        ("/wrong", {}),
        ("/" + TOKEN, {}),
        ("", {"X-Gpudrop-Signature": "sha256="}),
        ("", signed(message("b.mp3"))),
        ("", signed(message("a.mp3"), "wrong")),
    ],
)
async def test_nothing_else_does(receiver: Receiving, to: str, headers: dict[str, str]) -> None:
    assert await receiver.post(message("a.mp3"), to=to, headers=headers) == 401
    assert not receiver.inbox.events
    assert receiver.inbox.counts["wrong_token"] + receiver.inbox.counts["wrong_signature"] == 1


async def test_a_stranger_is_answered_before_the_body_is_sent(receiver: Receiving) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.source.port)
    writer.write(b"POST /minio HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n")
    async with asyncio.timeout(HANG_S):
        assert b" 401 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("path", ["", "/other", "/minio/a/b", "/metrics", "/minios"])
async def test_nothing_is_served_elsewhere(receiver: Receiving, path: str) -> None:
    elsewhere = Receiving(receiver.inbox, receiver.source, receiver.url.removesuffix("/minio") + path)
    assert await elsewhere.post(message("a.mp3")) == 404
    assert receiver.inbox.counts == {"wrong_path": 1}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_only_posts_are_taken(receiver: Receiving, method: str) -> None:
    async with aiohttp.ClientSession() as session, session.request(method, receiver.url) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "POST"
    assert not receiver.inbox.events


async def in_parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_long_body_is_refused_announced_or_not(receiver: Receiving) -> None:
    longest = message("a.mp3").ljust(1000)
    assert await receiver.post(longest) == 200
    assert await receiver.post(in_parts(longest[:500], longest[500:])) == 200
    assert await receiver.post(longest + b" ") == 413
    assert await receiver.post(in_parts(longest, b" ")) == 413
    assert receiver.inbox.counts == {"too_large": 2}
    assert receiver.inbox.created == {"a.mp3": 2}


async def test_a_body_without_an_end_is_not_collected(receiver: Receiving) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", receiver.source.port)
    head = f"POST /minio HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode())
    sent = 0
    async with asyncio.timeout(HANG_S):
        try:
            while True:
                writer.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
                await writer.drain()
                sent += 65536
        except ConnectionError:
            pass
    assert sent > 1000
    assert receiver.inbox.counts["too_large"] == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
async def test_a_compressed_body_is_refused_unopened(receiver: Receiving, encoding: str) -> None:
    bomb = gzip.compress(b" " * 500_000)
    assert len(bomb) < 1000
    assert await receiver.post(bomb, headers=BEARER | {"Content-Encoding": encoding}) == 415
    assert receiver.inbox.counts == {"compressed": 1}


async def test_what_is_not_json_is_a_mistake_of_the_sender(receiver: Receiving) -> None:
    for body in (b'{"Records": [', b"\xff\xfe", b"<xml/>", b"[" * 999):
        assert await receiver.post(body) == 400
    assert receiver.inbox.counts == {"not_json": 4}


async def test_json_that_is_not_understood_does_not_stop_a_queue(receiver: Receiving) -> None:
    for body in (b"{}", b"[]", b'"text"', b"null", b'{"Records": 7}', b'{"Event": "other"}'):
        assert await receiver.post(body) == 202
    assert receiver.inbox.counts == {"unknown_shape": 6}


async def test_a_greeting_is_answered(receiver: Receiving) -> None:
    assert await receiver.post(b'{"Service": "S3", "Event": "s3:TestEvent", "Bucket": "drop"}') == 200
    assert receiver.inbox.counts == {"test_event": 1}
    assert await receiver.post(b"") == 200


async def test_what_is_not_http_is_counted_and_not_printed(
    receiver: Receiving, caplog: pytest.LogCaptureFixture
) -> None:
    for nonsense in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 600,
        b"POST /minio/in-the-path NOTHTTP\r\n\r\n",
        b"POST /minio/in-the-path HTTP/1.1\r\nAuthorization in-the-path\r\n\r\n",
        b"POST /minio/in-the-path HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.source.port)
        writer.write(nonsense)
        async with asyncio.timeout(HANG_S):
            assert b" 400 " in await reader.read()
        writer.close()
    assert receiver.inbox.counts == {"not_http": 4}
    assert "in-the-path" not in caplog.text


async def test_secrets_of_refused_posts_are_not_logged(receiver: Receiving) -> None:
    with capture_logs() as logs:
        await receiver.post(message("a.mp3"), to="/a-wrong-secret", headers={"Authorization": "Bearer wrong"})
        await receiver.post(b"not json", to="/in-the-path", headers={})
    told = [line for line in logs if line["event"] == "post_refused"]
    assert [line["reason"] for line in told] == ["wrong_token"]
    assert not any(word in str(logs) for word in ("a-wrong-secret", "Bearer", "in-the-path"))


async def test_a_refusal_is_logged_once_a_minute(receiver: Receiving) -> None:
    with capture_logs() as logs:
        for _ in range(5):
            assert await receiver.post(b"{}", headers={}) == 401
    assert sum(line["event"] == "post_refused" for line in logs) == 1
    assert receiver.inbox.counts == {"wrong_token": 5}


class Picky(Recorder):
    """Never takes one key, and whatever is delivered with it."""

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        if any(event.key == "bad" for event in events):
            raise UnusableKey("A key that no store can hold.")
        await super().accept(events)


async def test_an_event_that_can_never_be_taken_is_left_out_alone() -> None:
    async with receiving(Picky()) as receiver:
        with capture_logs() as logs:
            assert await receiver.post(message("a", "bad", "b")) == 200
        assert set(receiver.inbox.created) == {"a", "b"}
    assert [line["key"] for line in logs if line["event"] == "event_refused"] == ["bad"]


class Stuck(Recorder):
    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize(("inbox", "settings"), [(Recorder(failures=1), {}), (Stuck(), {"accept_timeout_s": 0.1})])
async def test_what_cannot_be_recorded_is_to_be_sent_again(inbox: Recorder, settings: dict[str, Any]) -> None:
    async with (
        receiving(inbox, **settings) as receiver,
        aiohttp.ClientSession() as session,
        session.post(receiver.url, data=message("a"), headers=BEARER) as answer,
    ):
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert inbox.counts == {"not_recorded": 1}
        assert any("could not be recorded" in gap for gap in inbox.gaps)
    assert not inbox.events


async def test_a_client_that_waits_to_be_asked_for_the_body_is_asked(receiver: Receiving) -> None:
    assert await receiver.post(message("a"), expect100=True) == 200
    assert await receiver.post(message("b"), expect100=True, headers={}) == 401
    assert receiver.inbox.created == {"a": 1}
