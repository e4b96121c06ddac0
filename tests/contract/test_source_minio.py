"""The stream of a real MinIO when servers, networks and keys fail."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from minio.credentials import AssumeRoleProvider
from structlog.testing import capture_logs

from listener.config.credentials import AccessKeys
from listener.events.event import ObjectCreated
from listener.sources.minio.request import MinioListenSettings
from listener.sources.minio.source import MinioListen
from listener.stores.s3.store import S3Store
from manifests.errors import ConfigError
from support.sources import Proxy, Recorder, answering, running

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
QUICK = MinioListenSettings("", ("drop",), ping_s=1, slack_s=0.5, probe_s=0.1)
"""Waits cut short: what the server is asked for stays the same."""


def listen(server: Any, *buckets: str, endpoint: str = "", **changes: Any) -> MinioListen:
    settings = MinioListenSettings(endpoint or server.endpoint, buckets, ping_s=1)
    return MinioListen(replace(settings, **changes), lambda: AccessKeys(server.access_key, server.secret_key))


def anyone() -> AccessKeys:
    return AccessKeys("access", "secret")


def connected(inbox: Recorder, times: int = 1) -> bool:
    return sum("connected" in gap for gap in inbox.gaps) >= times


def message(key: str, padding: int = 0) -> bytes:
    s3 = {"bucket": {"name": "drop"}, "object": {"key": key, "userMetadata": {"X-Amz-Meta-Pad": "x" * padding}}}
    return json.dumps({"Records": [{"eventName": "s3:ObjectCreated:Put", "s3": s3}]}).encode() + b"\n"


async def fault(source: MinioListen) -> dict[str, Any]:
    """The first log line that says why there is no stream; a gap was told with it."""
    inbox = Recorder()
    with capture_logs() as logs:
        async with running(inbox, source):
            await inbox.until(lambda: inbox.gaps)
    assert not connected(inbox)
    return next(dict(line) for line in logs if line["event"] == "no_stream")


async def test_a_reset_connection_is_made_again_and_told_as_a_gap(minio_server: Any, s3_store: S3Store) -> None:
    bucket = s3_store.buckets[0]
    async with Proxy(minio_server.host).serve() as proxy:
        inbox = Recorder()
        async with running(inbox, listen(minio_server, bucket, endpoint=proxy.endpoint)):
            for round_ in (1, 2, 3):
                await inbox.until(lambda times=round_: connected(inbox, times))
                await s3_store.write(bucket, f"{round_}.mp3", b"x", content_type="")
                await inbox.until(lambda key=f"{round_}.mp3": inbox.created[key])
                proxy.reset_all()
    assert proxy.connections >= 3


async def test_a_silent_stream_is_named_and_tried_again(minio_server: Any, s3_store: S3Store) -> None:
    bucket = s3_store.buckets[0]
    async with Proxy(minio_server.host).serve() as proxy:
        proxy.mode = "silent"
        source = listen(minio_server, bucket, endpoint=proxy.endpoint, slack_s=1.0, probe_s=0.1)
        inbox = Recorder()
        with capture_logs() as logs:
            async with running(inbox, source):
                await inbox.until(lambda: len(inbox.gaps) >= 2)
                proxy.mode = "pass"
                await inbox.until(lambda: connected(inbox))
                await s3_store.write(bucket, "a.mp3", b"x", content_type="")
                await inbox.until(lambda: inbox.created["a.mp3"])
    told = next(line for line in logs if line["event"] == "no_stream")
    assert told["code"] == "server_misbehaves"
    assert "2025-10-15" in told["hint"]
    assert [(condition.ok, condition.code) for condition in inbox.conditions] == [
        (False, "server_misbehaves"),
        (True, ""),
    ]


async def test_a_stream_that_falls_silent_later_is_made_again() -> None:
    start = HEAD + b"\r\n" + message("a.mp3")
    async with answering(start) as endpoint:
        inbox = Recorder()
        async with running(inbox, MinioListen(replace(QUICK, endpoint=endpoint), anyone)):
            await inbox.until(lambda: connected(inbox, 2))
    assert inbox.created["a.mp3"] >= 2
    assert {condition.ok for condition in inbox.conditions} == {True, False}


async def test_headers_without_a_stream_are_silence() -> None:
    """The deadline counts from the request, not anew from the headers."""
    async with answering(b"", HEAD + b"\r\n") as endpoint:
        told = await fault(MinioListen(replace(QUICK, endpoint=endpoint), anyone))
    assert told["code"] == "server_misbehaves"
    assert "sent nothing" in told["error"]


async def test_lines_of_any_length_arrive_and_bad_ones_are_counted() -> None:
    long = message("long.mp3", padding=300_000)
    cuts = [long[i : i + 10_007] for i in range(0, len(long), 10_007)]
    parts = [HEAD + b"\r\n", b'{"Records":null}\n  ', *cuts, b"not json\n", message("next.mp3")]
    async with answering(*parts) as endpoint:
        inbox = Recorder()
        source = MinioListen(replace(QUICK, endpoint=endpoint, slack_s=30.0), anyone)
        async with running(inbox, source):
            await inbox.until(lambda: inbox.created["next.mp3"])
    assert inbox.events == [ObjectCreated("drop", "long.mp3", "minio"), ObjectCreated("drop", "next.mp3", "minio")]
    assert inbox.counts == {"not_json": 1}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (HEAD + b"\r\n<?xml version='1.0'?><ListBucketResult></ListBucketResult>", "no event stream"),
        (HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(message("a.mp3")), "compressed"),
        (b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n", "no event stream"),
    ],
)
async def test_what_cannot_work_is_named(answer: bytes, said: str) -> None:
    async with answering(answer) as endpoint:
        told = await fault(MinioListen(replace(QUICK, endpoint=endpoint), anyone))
    assert told["code"] == "server_misbehaves"
    assert said in told["error"]


async def test_wrong_keys_and_missing_buckets_are_named(minio_server: Any, minio_bucket: str) -> None:
    settings = MinioListenSettings(minio_server.endpoint, (minio_bucket,), ping_s=1)
    told = await fault(MinioListen(settings, lambda: AccessKeys(minio_server.access_key, "wrong")))
    assert told["code"] == "store_denied"
    assert "SignatureDoesNotMatch" in told["error"]
    told = await fault(listen(minio_server, "no-such-bucket"))
    assert told["code"] == "config_invalid"
    assert "no-such-bucket" in told["error"]


async def test_a_wrong_clock_is_named(minio_server: Any, minio_bucket: str) -> None:
    settings = MinioListenSettings(minio_server.endpoint, (minio_bucket,), ping_s=1)
    keys = AccessKeys(minio_server.access_key, minio_server.secret_key)
    late = MinioListen(settings, lambda: keys, now=lambda: datetime.now(UTC) - timedelta(hours=1))
    told = await fault(late)
    assert told["code"] == "store_denied"
    behind = re.search(r"this machine's clock is ([\d,]+) s behind the server's", told["error"])
    assert behind and abs(int(behind[1].replace(",", "")) - 3600) < 60
    assert "NTP" in told["hint"]


async def test_whatever_the_keys_raise_is_outlived(minio_server: Any, s3_store: S3Store) -> None:
    bucket = s3_store.buckets[0]
    raised: list[Exception] = [ConfigError("none"), RuntimeError("hush"), OSError("hush"), KeyError("hush")]

    def keys() -> AccessKeys:
        if raised:
            raise raised.pop()
        return AccessKeys(minio_server.access_key, minio_server.secret_key)

    inbox = Recorder()
    with capture_logs() as logs:
        async with running(inbox, MinioListen(MinioListenSettings(minio_server.endpoint, (bucket,), ping_s=1), keys)):
            await inbox.until(lambda: connected(inbox))
            await s3_store.write(bucket, "a.mp3", b"x", content_type="")
            await inbox.until(lambda: inbox.created["a.mp3"])
    assert not raised
    assert not any("hush" in str(line) for line in logs)


def temporary_keys(server: Any, *actions: str) -> AccessKeys:
    """Keys with a session token that may do `actions` and nothing else."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": ["arn:aws:s3:::*"]}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    keys = AssumeRoleProvider(
        sts_endpoint=server.endpoint, access_key=server.access_key, secret_key=server.secret_key, policy=policy
    ).retrieve()
    return AccessKeys(keys.access_key, keys.secret_key, keys.session_token)


async def test_temporary_keys_listen_when_their_policy_lets_them(minio_server: Any, s3_store: S3Store) -> None:
    bucket = s3_store.buckets[0]
    settings = MinioListenSettings(minio_server.endpoint, (bucket,), ping_s=1)
    told = await fault(MinioListen(settings, lambda: temporary_keys(minio_server, "s3:GetObject")))
    assert told["code"] == "store_denied"
    assert "s3:ListenBucketNotification" in told["hint"]
    inbox = Recorder()
    source = MinioListen(settings, lambda: temporary_keys(minio_server, "s3:ListenBucketNotification"))
    async with running(inbox, source):
        await inbox.until(lambda: connected(inbox))
        await s3_store.write(bucket, "a.mp3", b"x", content_type="")
        await inbox.until(lambda: inbox.created["a.mp3"])
