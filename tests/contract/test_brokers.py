"""What message brokers promise beyond what every source does (test_sources.py), each against the real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.brokers import (
    BENCHES,
    BUCKET,
    SERVERS,
    Bench,
    frozen,
    message,
)
from support.servers import servers, start_server
from support.sources import Recorder, running


@pytest.fixture(params=list(BENCHES))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def bench(kind: str, request: pytest.FixtureRequest) -> Bench:
    bench = BENCHES[kind](request.getfixturevalue(f"{SERVERS[kind]}_server").host)
    await bench.prepare()
    return bench


@asynccontextmanager
async def listening(bench: Bench, **options: Any) -> AsyncIterator[Recorder]:
    """The source at work, connected: what is published now it must tell."""
    inbox = Recorder(**options)
    async with running(inbox, bench.source()):
        await inbox.until(lambda: any(condition.ok for condition in inbox.conditions))
        yield inbox


async def nothing_comes_again(bench: Bench) -> None:
    """Whoever listens next hears only what is new.

    A few may come once more: cancelled before it acknowledged, or a session taken over by the next listener before
    the broker had read its last acknowledgements (MQTT). What was never acknowledged would come for ever.
    """
    for i in range(10):
        new = f"new-{i}.mp3"
        async with listening(bench) as inbox:
            await bench.publish([message(new)])
            while not inbox.created[new]:
                await asyncio.sleep(0.01)
        if all(key.startswith("new-") for key in inbox.created) and not inbox.counts:
            return
    pytest.fail(f"These come again and again: {inbox.created} {inbox.counts}")


async def set_up(bench: Bench) -> None:
    """Listens once, so that the broker keeps what comes from now on."""
    async with listening(bench):
        pass


async def test_what_was_accepted_is_not_told_again(bench: Bench) -> None:
    keys = {f"{i:03}.mp3" for i in range(300)}
    async with listening(bench) as inbox:
        await bench.publish([message(key) for key in sorted(keys)])
        await inbox.until(lambda: set(inbox.created) >= keys)
    assert {(event.bucket, event.source) for event in inbox.events} == {(BUCKET, bench.kind)}
    await nothing_comes_again(bench)


async def test_what_is_published_while_nobody_listens_comes_later(bench: Bench) -> None:
    await set_up(bench)
    keys = {f"{i:04}.mp3" for i in range(1200)}
    await bench.publish([message(key) for key in sorted(keys)])
    async with listening(bench) as inbox:
        await inbox.until(lambda: set(inbox.created) >= keys)
    assert max(inbox.batches) <= 500


async def test_a_message_that_says_nothing_is_counted_and_passed_over(bench: Bench) -> None:
    test_event = b'{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"drops"}'
    async with listening(bench) as inbox:
        await bench.publish([message("a.mp3"), b"\xff\x00 no JSON", b"[[[", test_event, message("b.mp3")])
        await inbox.until(lambda: set(inbox.created) == {"a.mp3", "b.mp3"} and inbox.counts.total() == 3)
        assert inbox.counts == {"not_json": 2, "test_event": 1}
    await nothing_comes_again(bench)


@pytest.mark.parametrize("kind", ["nats", "amqp", "kafka"])
async def test_two_listeners_share_what_comes(bench: Bench) -> None:
    keys = {f"{i:03}.mp3" for i in range(200)}
    assert not bench.source().exclusive
    async with listening(bench) as one:
        async with listening(bench) as other:
            await bench.publish([message(key) for key in sorted(keys)])
            while not keys <= set(one.created) | set(other.created):
                await asyncio.sleep(0.01)
        await bench.publish([message("alone.mp3")])
        await one.until(lambda: one.created["alone.mp3"])


@pytest.fixture(scope="module")
def own_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Brokers that these tests may stop, and leave running."""
    started: dict[str, Any] = {}

    def broker(kind: str) -> Any:
        if kind not in started:
            started[kind] = start_server(SERVERS[kind], tmp_path_factory.mktemp(f"own-{kind}"))
        if started[kind].running.process.poll() is not None:
            servers.restart(started[kind])
        return started[kind]

    yield broker
    for server in started.values():
        servers.stop(server)


@pytest.fixture
async def own(kind: str, own_brokers: Callable[[str], Any]) -> tuple[Any, Bench]:
    """A broker that may be stopped, and a place on it."""
    server = own_brokers(kind)
    bench = BENCHES[kind](server.host)
    await bench.prepare()
    return server, bench


# A broker that is stopped takes its leave. Kafka's clients are told nothing, and take 25 s to come back.
@pytest.mark.parametrize(
    ("kind", "end"), [*((kind, "kill") for kind in BENCHES), *((kind, "stop") for kind in ("nats", "amqp", "mqtt"))]
)
async def test_a_broker_that_was_restarted_is_listened_to_again(own: tuple[Any, Bench], end: str) -> None:
    server, bench = own
    async with listening(bench) as inbox:
        await bench.publish([message("before.mp3")])
        await inbox.until(lambda: inbox.created["before.mp3"])
        getattr(servers, end)(server)
        await inbox.until(lambda: not inbox.conditions[-1].ok)
        assert inbox.conditions[-1].code == "source_unavailable"
        assert "Check that it runs" in inbox.conditions[-1].hint
        servers.restart(server)
        await bench.publish([message("after.mp3")])
        await inbox.until(lambda: inbox.created["after.mp3"] and inbox.conditions[-1].ok)


async def test_a_broker_that_falls_silent_is_noticed_and_listened_to_again(own: tuple[Any, Bench]) -> None:
    server, bench = own
    async with listening(bench) as inbox:
        with frozen(server):
            await inbox.until(lambda: not inbox.conditions[-1].ok)
        assert inbox.conditions[-1].code == "source_unavailable"
        await bench.publish([message("after.mp3")])
        await inbox.until(lambda: inbox.created["after.mp3"] and inbox.conditions[-1].ok)
