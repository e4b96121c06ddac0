"""A queue that S3 tells: every way its messages can come, and what can go wrong between them and the listener."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from listener.config.environment import SourceSecrets
from listener.events.event import ObjectEvent
from listener.sources.sqs.queue import SqsSettings, endpoint_of, region_of
from listener.sources.sqs.source import SqsSource
from support.deadlines import HANG_S
from support.queues import Cloud, Meddler, eventually, lines, program, s3_message
from support.servers import servers
from support.sources import Recorder, running

ODD_KEYS = [
    "a|b.mp3",
    "it's 1+1=2.mp3",
    "100%20sure.mp3",
    "music 🎵/ção.mp3",
    "&=?#*[]{}!@$^();,~`.mp3",
    "with  spaces .mp3",
]


@pytest.fixture
def cloud(moto_server: Any) -> Cloud:
    return Cloud(moto_server)


@pytest.fixture
def queue_url(cloud: Cloud) -> str:
    return cloud.queue()


def source(cloud: Cloud, queue_url: str, **changes: Any) -> SqsSource:
    return SqsSource("sqs", cloud.settings(queue_url, **changes))


def empty(cloud: Cloud, queue_url: str) -> bool:
    return cloud.messages(queue_url) == (0, 0)


class Gate(Recorder):
    """Refuses twice, then lets nobody pass until it is opened."""

    def __init__(self) -> None:
        super().__init__(failures=2)
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        if self.refused == 2:
            await self._opened.wait()
        await super().accept(events)


@pytest.mark.parametrize("way", ["tell_queue", "tell_topic", "tell_event_bus"])
async def test_objects_are_told_by_every_way_to_the_queue(cloud: Cloud, queue_url: str, way: str) -> None:
    bucket = cloud.bucket()
    getattr(cloud, way)(bucket, queue_url)
    for key in ODD_KEYS:
        cloud.put(bucket, key)
    inbox = Recorder()
    async with running(inbox, source(cloud, queue_url)):
        await inbox.until(lambda: set(inbox.created) >= set(ODD_KEYS))
        await eventually(lambda: empty(cloud, queue_url))
        await inbox.until(lambda: inbox.conditions)
    assert {(event.bucket, event.source) for event in inbox.events} == {(bucket, "sqs")}
    assert inbox.conditions[0].ok


async def test_an_overwrite_and_a_removal_are_told(cloud: Cloud, queue_url: str) -> None:
    bucket = cloud.bucket()
    cloud.tell_queue(bucket, queue_url)
    for body in (b"1", b"2"):
        cloud.put(bucket, "a.job.yaml", body)
    cloud.s3.delete_object(Bucket=bucket, Key="a.job.yaml")
    inbox = Recorder()
    async with running(inbox, source(cloud, queue_url)):
        await inbox.until(lambda: inbox.created["a.job.yaml"] >= 2 and inbox.removed["a.job.yaml"])


async def test_what_is_no_event_is_counted_and_deleted(cloud: Cloud, queue_url: str) -> None:
    test = '{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"drop"}'
    cloud.send(queue_url, test, "not json", '{"hello": "you"}', s3_message("a.mp3"))
    inbox = Recorder()
    async with running(inbox, source(cloud, queue_url)):
        await inbox.until(lambda: inbox.created["a.mp3"])
        await eventually(lambda: empty(cloud, queue_url))
    assert inbox.counts == {"test_event": 1, "not_json": 1, "unknown_shape": 1}


async def test_a_backlog_is_drained_by_several_receivers(cloud: Cloud, queue_url: str) -> None:
    keys = [f"{i}.mp3" for i in range(150)]
    cloud.send(queue_url, *[s3_message(key) for key in keys])
    async with Meddler(cloud.endpoint, lambda call, arguments: None).serve() as meddler:
        inbox = Recorder()
        # moto loses deletions that come at the same time: those messages come again after 5 s.
        async with running(inbox, source(cloud, queue_url, endpoint=meddler.endpoint, visibility_s=5)):
            await inbox.until(lambda: set(inbox.created) >= set(keys))
            await eventually(lambda: empty(cloud, queue_url))
    assert meddler.most_at_once > 2


async def test_what_is_not_accepted_yet_stays_hidden_from_other_receivers(cloud: Cloud, queue_url: str) -> None:
    keys = {f"{i}.mp3" for i in range(10)}
    cloud.send(queue_url, *[s3_message(key) for key in keys])
    inbox = Gate()
    async with running(inbox, source(cloud, queue_url, visibility_s=5)):
        await eventually(lambda: cloud.messages(queue_url) == (0, 10))
        # More than twice the time after which an unattended message would be given to others.
        assert await asyncio.to_thread(cloud.receive, queue_url, wait_s=12) == []
        assert inbox.refused == 2
        inbox.open()
        await inbox.until(lambda: set(inbox.created) >= keys)
        await eventually(lambda: empty(cloud, queue_url))
    assert set(inbox.created.values()) == {1}


async def test_what_was_not_accepted_is_given_back_at_the_end(cloud: Cloud, queue_url: str) -> None:
    cloud.send(queue_url, s3_message("a.mp3"))
    async with running(Gate(), source(cloud, queue_url, visibility_s=43200)):
        await eventually(lambda: cloud.messages(queue_url) == (0, 1))
    inbox = Recorder()
    async with running(inbox, source(cloud, queue_url)):
        await inbox.until(lambda: inbox.created["a.mp3"])


async def test_a_cancelled_receive_keeps_nothing_from_others(cloud: Cloud, queue_url: str) -> None:
    waiting = Meddler(cloud.endpoint, lambda call, arguments: None)
    async with waiting.serve():
        inbox = Recorder()
        idle = source(cloud, queue_url, endpoint=waiting.endpoint, visibility_s=43200)
        work = asyncio.create_task(idle.run(inbox))
        # The first receive does not wait at the server, the second does.
        await eventually(lambda: waiting.calls.count("ReceiveMessage") == 2)
        work.cancel()
        async with asyncio.timeout(HANG_S):
            await asyncio.wait([work])
        cloud.send(queue_url, s3_message("a.mp3"))
        second = Recorder()
        async with running(second, source(cloud, queue_url)):
            await second.until(lambda: second.created["a.mp3"])
    assert inbox.events == []


def fail_some_once(code: str, *, ours: bool) -> Any:
    """The first batch of deletions is half done."""
    failed: list[str] = []

    def spoil(call: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        if call != "DeleteMessageBatch" or failed:
            return None
        failed.extend(each["Id"] for each in arguments["Entries"][::2])
        return {"fail": [{"Id": name, "Code": code, "SenderFault": ours} for name in failed]}

    return spoil


async def test_deletions_that_failed_are_tried_again(cloud: Cloud, queue_url: str) -> None:
    cloud.send(queue_url, *[s3_message(f"{i}.mp3") for i in range(10)])
    async with Meddler(cloud.endpoint, fail_some_once("InternalError", ours=False)).serve() as meddler:
        inbox = Recorder()
        async with running(inbox, source(cloud, queue_url, endpoint=meddler.endpoint, visibility_s=600)):
            await eventually(lambda: empty(cloud, queue_url))
    assert meddler.calls.count("DeleteMessageBatch") >= 2
    assert set(inbox.created.values()) == {1}
    assert not inbox.counts


async def test_deletions_that_cannot_succeed_are_counted_and_the_message_comes_again(
    cloud: Cloud, queue_url: str
) -> None:
    cloud.send(queue_url, s3_message("a.mp3"))
    async with Meddler(cloud.endpoint, fail_some_once("ReceiptHandleIsInvalid", ours=True)).serve() as meddler:
        inbox = Recorder()
        async with running(inbox, source(cloud, queue_url, endpoint=meddler.endpoint, visibility_s=5)):
            await eventually(lambda: empty(cloud, queue_url))
            await inbox.until(lambda: inbox.counts)
    assert inbox.created["a.mp3"] == 2
    assert inbox.counts == {"not_deleted": 1}


async def test_failing_to_hide_a_message_is_counted_and_stops_nothing(cloud: Cloud, queue_url: str) -> None:
    def spoil(call: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        denied = {"status": 403, "__type": "com.amazonaws.sqs#AccessDenied", "message": "no"}
        return denied if call == "ChangeMessageVisibilityBatch" else None

    cloud.send(queue_url, s3_message("a.mp3"))
    async with Meddler(cloud.endpoint, spoil).serve() as meddler:
        inbox = Gate()
        async with running(inbox, source(cloud, queue_url, endpoint=meddler.endpoint, visibility_s=5)):
            await inbox.until(lambda: inbox.counts["not_hidden"])
            inbox.open()
            await inbox.until(lambda: inbox.created["a.mp3"])
            await eventually(lambda: empty(cloud, queue_url))


async def test_a_missing_queue_is_named_and_found_once_it_is_there(cloud: Cloud) -> None:
    missing = f"{cloud.endpoint}/123456789012/comes-later"
    inbox = Recorder()
    async with running(inbox, source(cloud, missing)):
        await inbox.until(lambda: inbox.conditions)
        assert (inbox.conditions[0].ok, inbox.conditions[0].code) == (False, "source_denied")
        assert "queue_url" in inbox.conditions[0].hint
        assert await asyncio.to_thread(cloud.queue, "comes-later") == missing
        cloud.send(missing, s3_message("a.mp3"))
        await inbox.until(lambda: inbox.created["a.mp3"])
        await inbox.until(lambda: inbox.conditions[-1].ok)


REFUSALS = [
    (403, "AccessDenied", "source_denied", "sqs:ReceiveMessage"),
    (403, "ExpiredToken", "source_denied", "fresh"),
    (403, "InvalidClientTokenId", "source_denied", "GPUDROP_<NAME>_USER"),
    (400, "KMS.AccessDeniedException", "source_denied", "kms:Decrypt"),
    (400, "RequestThrottled", "source_unavailable", ""),
    (503, "ServiceUnavailable", "source_unavailable", ""),
]


@pytest.mark.parametrize(("status", "code", "told", "hint"), REFUSALS, ids=[each[1] for each in REFUSALS])
async def test_a_refusal_is_told_and_outlived(
    cloud: Cloud, queue_url: str, status: int, code: str, told: str, hint: str
) -> None:
    refusing = True

    def spoil(call: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        return {"status": status, "__type": f"com.amazonaws.sqs#{code}", "message": "no"} if refusing else None

    cloud.send(queue_url, s3_message("a.mp3"))
    async with Meddler(cloud.endpoint, spoil).serve() as meddler:
        inbox = Recorder()
        async with running(inbox, source(cloud, queue_url, endpoint=meddler.endpoint)):
            await inbox.until(lambda: inbox.conditions)
            assert (inbox.conditions[0].ok, inbox.conditions[0].code) == (False, told)
            assert hint in inbox.conditions[0].hint
            refusing = False
            await inbox.until(lambda: inbox.created["a.mp3"])
            await inbox.until(lambda: inbox.conditions[-1].ok)


async def test_a_server_that_is_away_is_reported_and_found_again(own_server: Any) -> None:
    server = own_server("moto")
    cloud = Cloud(server)
    queue_url = cloud.queue("drops")
    inbox = Recorder()
    async with running(inbox, source(cloud, queue_url)):
        await inbox.until(lambda: inbox.conditions and inbox.conditions[-1].ok)
        await asyncio.to_thread(servers.kill, server)
        await inbox.until(lambda: inbox.conditions[-1].code == "source_unavailable")
        await asyncio.to_thread(servers.restart, server)
        # moto forgets everything.
        await asyncio.to_thread(cloud.queue, "drops")
        await asyncio.to_thread(cloud.send, queue_url, s3_message("a.mp3"))
        await inbox.until(lambda: inbox.created["a.mp3"] and inbox.conditions[-1].ok)


async def test_without_keys_anywhere_it_says_where_they_belong(
    cloud: Cloud, queue_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    inbox = Recorder()
    async with running(inbox, source(cloud, queue_url, secrets=SourceSecrets())):
        await inbox.until(lambda: inbox.conditions)
        assert "AWS_*" in inbox.conditions[0].hint
        # A profile that appears meanwhile is seen.
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        text = "[default]\naws_access_key_id = access\naws_secret_access_key = secret\n"
        (tmp_path / "credentials").write_text(text)
        await inbox.until(lambda: inbox.conditions[-1].ok)


async def test_a_killed_listener_loses_nothing(cloud: Cloud, queue_url: str, tmp_path: Path) -> None:
    keys = {f"{i}.mp3" for i in range(30)}
    cloud.send(queue_url, *[s3_message(key) for key in keys])
    held, journal = tmp_path / "held", tmp_path / "accepted"
    with program("sqs", queue_url, "-", held, "hold"):
        await eventually(lambda: {f"held {key}" for key in keys} <= set(lines(held)))
    with program("sqs", queue_url, "-", journal):
        await eventually(lambda: keys <= set(lines(journal)))
        await eventually(lambda: empty(cloud, queue_url))


async def test_a_process_ends_while_the_server_holds_its_receive(queue_url: str, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with program("sqs", queue_url, "-", journal) as process:
        await eventually(lambda: any(line.startswith("condition True") for line in lines(journal)))
        process.terminate()
        # The receive lasts 20 s.
        assert await asyncio.to_thread(process.wait, 15) == 0


OWN = "http://127.0.0.1:9324/000000000000/drops"


@pytest.mark.parametrize(
    ("url", "region", "endpoint"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/1/q", "eu-west-1", "https://sqs.eu-west-1.amazonaws.com"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1", "https://sqs.cn-north-1.amazonaws.com.cn"),
        (
            "https://sqs-fips.us-gov-west-1.amazonaws.com/1/q",
            "us-gov-west-1",
            "https://sqs-fips.us-gov-west-1.amazonaws.com",
        ),
        (
            "https://vpce-1-a.sqs.us-east-2.vpce.amazonaws.com/1/q",
            "us-east-2",
            "https://vpce-1-a.sqs.us-east-2.vpce.amazonaws.com",
        ),
        ("https://eu-central-1.queue.amazonaws.com/1/q", "eu-central-1", None),
        ("https://queue.amazonaws.com/1/q", "us-east-1", None),
        (OWN, "us-east-1", "http://127.0.0.1:9324"),
    ],
)
def test_region_and_endpoint_follow_the_queue_s_address(url: str, region: str, endpoint: str | None) -> None:
    settings = SqsSettings(url)
    assert (region_of(settings), endpoint_of(settings)) == (region, endpoint)


def test_settings_stand_before_what_the_address_says() -> None:
    settings = SqsSettings(OWN, region="eu-north-1", endpoint="https://queues.example")
    assert (region_of(settings), endpoint_of(settings)) == ("eu-north-1", "https://queues.example")
    assert region_of(replace(settings, region=None, default_region="garage")) == "garage"
