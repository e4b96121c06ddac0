"""One listener among others, in this process: what every cluster does, and what one on PostgreSQL does in trouble."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import psycopg
import pytest

from listener.cluster.base import Cluster, SingleListener
from listener.cluster.connection import Keepalive
from listener.cluster.postgres import PLACES, PostgresCluster
from manifests.errors import ConfigError, InputMissing, StoreUnavailable
from support.cluster import sessions_of
from support.cluster_program import BRISK, CALM, open_at_last
from support.deadlines import HANG_S
from support.servers import create_database
from support.sources import Proxy


class Opener(Protocol):
    def __call__(self, url: str, pace: Keepalive = CALM) -> Awaitable[PostgresCluster]: ...


@pytest.fixture
async def opened() -> AsyncIterator[Opener]:
    """Opens clusters on a database; all are closed in the end."""
    async with AsyncExitStack() as stack:

        async def open_one(url: str, pace: Keepalive = CALM) -> PostgresCluster:
            cluster = PostgresCluster(url, random.Random(), pace)
            await (open_at_last(cluster) if pace is BRISK else cluster.open())
            stack.push_async_callback(cluster.close)
            return cluster

        yield open_one


@pytest.fixture(params=["alone", "postgres"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    if request.param == "alone":
        one: Cluster = SingleListener()
    else:
        one = PostgresCluster(request.getfixturevalue("postgres_url"), random.Random(), CALM)
    await one.open()
    yield one
    await one.close()


class Role:
    """Work that says whether it is being done, and for how many it is."""

    doing = 0

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    async def work(self) -> None:
        assert Role.doing == 0
        Role.doing += 1
        self.ended.clear()
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            Role.doing -= 1
            self.begun.clear()
            self.ended.set()


@asynccontextmanager
async def leading(cluster: Cluster, role: Role) -> AsyncIterator[asyncio.Task[None]]:
    async with asyncio.timeout(HANG_S):
        task = asyncio.create_task(cluster.lead("role", role.work))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait({task})


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(HANG_S):
        while not condition():
            await asyncio.sleep(0.02)


class TestEveryCluster:
    async def test_the_first_is_m1_and_leads(self, cluster: Cluster) -> None:
        role = Role()
        async with leading(cluster, role):
            await role.begun.wait()
            assert (cluster.member, cluster.certain, cluster.lost.is_set()) == ("m1", True, False)
        assert role.ended.is_set()

    async def test_it_is_not_its_own_orphan(self, cluster: Cluster) -> None:
        async with cluster.orphans([cluster.member]) as found:
            assert found == ()

    async def test_an_error_of_the_work_comes_out(self, cluster: Cluster) -> None:
        async def fails() -> None:
            raise InputMissing("not there")

        async def late() -> None:
            raise TimeoutError("of the work's own")

        with pytest.raises(InputMissing):
            await cluster.lead("role", fails)
        with pytest.raises(TimeoutError, match="own"):
            await cluster.lead("role", late)

    async def test_a_role_that_was_given_up_can_be_led_again(self, cluster: Cluster) -> None:
        for _ in range(3):
            role = Role()
            async with leading(cluster, role):
                await role.begun.wait()


class TestSeveral:
    async def test_each_has_a_name_and_one_leads(self, postgres_url: str, opened: Opener) -> None:
        first, second = await opened(postgres_url), await opened(postgres_url)
        assert [first.member, second.member] == ["m1", "m2"]
        one, two = Role(), Role()
        async with leading(first, one) as leader:
            await one.begun.wait()
            async with leading(second, two):
                leader.cancel()
                await two.begun.wait()
                assert one.ended.is_set()

    async def test_they_may_all_begin_at_once(self, postgres_url: str, opened: Opener) -> None:
        clusters = await asyncio.gather(*(opened(postgres_url) for _ in range(8)))
        assert {c.member for c in clusters} == {f"m{i}" for i in range(1, 9)}

    async def test_two_uses_in_one_process_do_not_share_a_role_or_an_orphan(
        self, postgres_url: str, opened: Opener
    ) -> None:
        cluster = await opened(postgres_url)
        one, two = Role(), Role()
        async with leading(cluster, one), leading(cluster, two):
            await one.begun.wait()
            async with cluster.orphans(["m2", "m3"]) as first, cluster.orphans(["m3", "m4"]) as second:
                assert (first, second) == (("m2", "m3"), ("m4",))
        async with cluster.orphans(["m3"]) as again:
            assert again == ("m3",)

    async def test_one_that_left_is_an_orphan_and_a_living_one_is_none(self, postgres_url: str, opened: Opener) -> None:
        first = await opened(postgres_url)
        second = PostgresCluster(postgres_url, random.Random(), CALM)
        await second.open()
        members = ["m10", "m2", "m1", "local", "m65", "m01"]
        async with first.orphans(members) as found:
            assert found == ("m10",)
        await second.close()
        await eventually(lambda: not sessions_of(postgres_url, 2))
        async with first.orphans(members) as found:
            assert found == ("m2", "m10")

    async def test_nobody_becomes_an_orphan_that_is_held(self, postgres_url: str, opened: Opener) -> None:
        first = await opened(postgres_url)
        async with first.orphans(["m2"]) as found:
            assert found == ("m2",)
            third = await opened(postgres_url)
            assert third.member == "m3"
        await eventually(lambda: not sessions_of(postgres_url, 2))
        assert (await opened(postgres_url)).member == "m2"

    async def test_databases_of_one_server_do_not_meet(
        self, postgres_url: str, postgres_server: Any, opened: Opener
    ) -> None:
        first, other = await opened(postgres_url), await opened(create_database(postgres_server))
        assert (first.member, other.member) == ("m1", "m1")

    async def test_a_full_house_says_so(self, postgres_url: str) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as db:
            for place in range(1, PLACES + 1):
                db.execute("SELECT pg_advisory_lock(%s, %s)", (0x67707564, place))
            with pytest.raises(ConfigError, match="64 listeners"):
                await PostgresCluster(postgres_url, random.Random(), CALM).open()


class TestTrouble:
    async def test_a_session_ended_by_the_server_is_noticed_at_once_and_replaced(
        self, postgres_url: str, opened: Opener
    ) -> None:
        beats_rarely = Keepalive(heartbeat_s=300, lease_s=600, server_s=900, retry_s=0.4)
        cluster = await opened(postgres_url, beats_rarely)
        role = Role()
        async with leading(cluster, role):
            for _ in range(3):
                await role.begun.wait()
                (session,) = sessions_of(postgres_url, 1)
                os.kill(session, signal.SIGTERM)
                await role.ended.wait()
                await eventually(lambda: cluster.certain)
        assert (cluster.member, cluster.lost.is_set()) == ("m1", False)

    async def test_a_silent_server_ends_the_work_before_another_begins_it(
        self, postgres_url: str, opened: Opener
    ) -> None:
        first, second = await opened(postgres_url, BRISK), await opened(postgres_url)
        one, two = Role(), Role()
        async with leading(first, one):
            await one.begun.wait()
            async with leading(second, two):
                (session,) = sessions_of(postgres_url, 1)
                os.kill(session, signal.SIGSTOP)  # its locks stay, and it answers nothing
                try:
                    await one.ended.wait()
                    assert not first.certain
                    assert not two.begun.is_set()
                finally:
                    os.kill(session, signal.SIGCONT)
                await eventually(lambda: first.certain)
        assert (first.member, first.lost.is_set()) == ("m1", False)

    async def test_a_place_taken_over_meanwhile_is_lost(self, postgres_url: str, opened: Opener) -> None:
        parts = urlsplit(postgres_url)
        async with Proxy(f"{parts.hostname}:{parts.port}").serve() as proxy:
            through = urlsplit(proxy.endpoint).port
            cluster = await opened(postgres_url.replace(f":{parts.port}/", f":{through}/"), BRISK)
            other = await opened(postgres_url)
            proxy.mode = "silent"
            proxy.reset_all()
            await eventually(lambda: not cluster.certain)
            await eventually(lambda: not sessions_of(postgres_url, 1))
            async with other.orphans(["m1"]) as found:
                assert found == ("m1",)
            assert not cluster.lost.is_set()
            proxy.mode = "pass"
            proxy.reset_all()
            await asyncio.wait_for(cluster.lost.wait(), HANG_S)
            assert not cluster.certain

    async def test_orphans_are_let_go_when_that_cannot_be_kept_up(self, postgres_url: str, opened: Opener) -> None:
        cluster = await opened(postgres_url)
        with pytest.raises(StoreUnavailable):
            async with asyncio.timeout(HANG_S), cluster.orphans(["m2"]) as found:
                assert found == ("m2",)
                (session,) = sessions_of(postgres_url, 1)
                os.kill(session, signal.SIGTERM)
                await asyncio.get_running_loop().create_future()
        await eventually(lambda: cluster.certain)
        async with cluster.orphans(["m2"]) as found:
            assert found == ("m2",)

    async def test_a_caller_that_gives_up_leaves_no_lock_behind(self, postgres_url: str, opened: Opener) -> None:
        first, second = await opened(postgres_url), await opened(postgres_url)
        rng = random.Random(7)
        for _ in range(40):
            role = Role()
            async with leading(first, role):
                for _ in range(rng.randrange(12)):
                    await asyncio.sleep(0)
        role = Role()
        async with leading(second, role):
            await role.begun.wait()

    async def test_a_server_that_is_not_there_is_a_passing_trouble(self) -> None:
        cluster = PostgresCluster("postgresql://someone:s3cret@127.0.0.1:1/none", random.Random(), CALM)
        with pytest.raises(StoreUnavailable) as error:
            await cluster.open()
        assert "s3cret" not in f"{error.value}{error.value.info}"

    @pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
    async def test_a_database_without_room_for_every_key_is_told(self, postgres_server: Any, encoding: str) -> None:
        cluster = PostgresCluster(create_database(postgres_server, encoding), random.Random(), CALM)
        with pytest.raises(ConfigError, match=encoding) as error:
            await cluster.open()
        assert "UTF8" in error.value.info.hint

    async def test_a_url_that_is_none_is_told_without_its_secrets(self) -> None:
        cluster = PostgresCluster("postgresql://someone:s3cret@host/db?s3cret", random.Random(), CALM)
        with pytest.raises(ConfigError) as error:
            await cluster.open()
        assert "s3cret" not in f"{error.value}{error.value.info}"
