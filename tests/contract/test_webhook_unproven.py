"""Anybody can claim a signature: bodies that wait for their proof share a bound, and do not keep out who has one."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import hmac
import time
from pathlib import Path

import pytest

from listener.sources.webhook.bodies import BodyRefused, UnauthenticatedBodies, UnauthenticatedBody
from listener.sources.webhook.settings import PostSecrets
from support.deadlines import HANG_S
from support.webhook import Receiving, cut, message, receiving

SECRET = "an-hmac-secret-of-this-test"
SECRETS = PostSecrets(hmac_secrets=(SECRET,))
LENGTH = 2**20
CLAIM = (
    f"POST /minio HTTP/1.1\r\nHost: x\r\nX-Gpudrop-Signature: sha256=00\r\nContent-Length: {LENGTH}\r\n\r\n".encode()
)
STRANGERS = 300

Stranger = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def claim(receiver: Receiving, size: int) -> Stranger:
    """A client that claims a signature, and holds its body back after `size` bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.source.port)
    writer.write(CLAIM + bytes(size))
    return reader, writer


async def signed(receiver: Receiving, key: str) -> int:
    body = message(key)
    proof = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return await receiver.post(body, headers={"X-Gpudrop-Signature": proof})


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def test_many_who_claim_a_signature_do_not_fill_the_memory() -> None:
    async with receiving(secrets=SECRETS, body_timeout_s=HANG_S) as receiver:
        gc.collect()
        before = resident()
        strangers = [await claim(receiver, LENGTH - 1) for _ in range(STRANGERS)]
        await asyncio.gather(*(drained(writer) for _, writer in strangers))
        assert await signed(receiver, "a.mp3") == 200
        grown = resident() - before
        assert grown < 120 * 2**20, f"{grown / 2**20:.0f} MiB"
        assert receiver.inbox.counts["too_many_unproven"]
        for _, writer in strangers:
            writer.close()
    assert receiver.inbox.created == {"a.mp3": 1}


async def drained(writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(HANG_S):
            await writer.drain()
    except ConnectionError:
        pass


async def test_the_oldest_gives_way_and_hears_that_it_may_come_again() -> None:
    async with receiving(secrets=SECRETS, max_unproven=3, body_timeout_s=HANG_S) as receiver:
        first = await claim(receiver, 10)
        others: list[Stranger] = []
        for _ in range(3):
            await asyncio.sleep(0.05)
            others.append(await claim(receiver, 10))
        async with asyncio.timeout(HANG_S):
            answer = await first[0].readuntil(b"\r\n\r\n")
        assert b" 503 " in answer and b"Retry-After" in answer
        assert receiver.inbox.counts == {"too_many_unproven": 1}
        assert await signed(receiver, "a.mp3") == 200
        for _, writer in [first, *others]:
            writer.close()


async def test_a_body_that_is_held_back_ends() -> None:
    async with receiving(secrets=SECRETS, body_timeout_s=0.3, sns_timeout_s=0.1) as receiver:
        reader, writer = await claim(receiver, 10)
        assert await cut(reader)
        assert receiver.inbox.counts == {"too_slow": 1}
        writer.close()


async def test_a_body_whose_time_is_up_gives_way_at_that_very_moment() -> None:
    bodies = UnauthenticatedBodies(max_bodies=9, max_bytes=10, timeout_s=0.05)
    loop = asyncio.get_running_loop()
    grown: asyncio.Future[None] = loop.create_future()

    def grow(body: UnauthenticatedBody) -> None:
        try:
            grown.set_result(bodies.grow(body, 11))
        except RuntimeError as e:
            grown.set_exception(e)

    with pytest.raises(BodyRefused):
        async with bodies.admit() as body:
            loop.call_at((body.scope.when() or 0.0) + 0.001, grow, body)
            time.sleep(0.2)  # Both moments are over before the loop looks at the clock again.
            await asyncio.sleep(HANG_S)
    await grown
    assert bodies.size == 0


async def test_many_signed_posts_at_once_are_all_taken() -> None:
    async with receiving(secrets=SECRETS) as receiver:
        answers = await asyncio.gather(*(signed(receiver, f"{i}.mp3") for i in range(200)))
        assert answers == [200] * 200
