"""Queues and lists that stores tell their events to: set-up, a look inside, and trouble on the way."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import boto3
from aiohttp import web
from botocore.config import Config

from listener.config.environment import SourceSecrets
from listener.sources.sqs.queue import SqsSettings
from support.deadlines import HANG_S
from support.scripts import ROOT

_PROGRAM = ROOT / "tests" / "support" / "queue_program.py"
REGION = "us-east-1"


class Cloud:
    """S3, SNS, EventBridge and SQS of one moto server."""

    def __init__(self, server: Any) -> None:
        self.endpoint: str = server.endpoint
        self.secrets = SourceSecrets(user=server.access_key, password=server.secret_key)
        self.s3, self.sns, self.sqs, self.events = map(self._client, ("s3", "sns", "sqs", "events"))

    def _client(self, service: str) -> Any:
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.secrets.user,
            aws_secret_access_key=self.secrets.password,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def bucket(self) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.s3.create_bucket(Bucket=name)
        return name

    def queue(self, name: str = "") -> str:
        """The URL of a new queue."""
        return self.sqs.create_queue(QueueName=name or f"test-{uuid.uuid4().hex[:12]}")["QueueUrl"]

    def arn(self, queue_url: str) -> str:
        answer = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
        return answer["Attributes"]["QueueArn"]

    def tell_queue(self, bucket: str, queue_url: str) -> None:
        entry = {"QueueArn": self.arn(queue_url), "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
        self._notify(bucket, {"QueueConfigurations": [entry]})

    def tell_topic(self, bucket: str, queue_url: str) -> None:
        topic = self.sns.create_topic(Name=bucket)["TopicArn"]
        self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=self.arn(queue_url))
        entry = {"TopicArn": topic, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
        self._notify(bucket, {"TopicConfigurations": [entry]})

    def tell_event_bus(self, bucket: str, queue_url: str) -> None:
        pattern = json.dumps({"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket]}}})
        self.events.put_rule(Name=bucket, EventPattern=pattern)
        self.events.put_targets(Rule=bucket, Targets=[{"Id": "queue", "Arn": self.arn(queue_url)}])
        self._notify(bucket, {"EventBridgeConfiguration": {}})

    def _notify(self, bucket: str, configuration: Mapping[str, Any]) -> None:
        self.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)

    def put(self, bucket: str, key: str, body: bytes = b"x") -> None:
        self.s3.put_object(Bucket=bucket, Key=key, Body=body)

    def send(self, queue_url: str, *bodies: str) -> None:
        for i in range(0, len(bodies), 10):
            entries = [{"Id": str(j), "MessageBody": body} for j, body in enumerate(bodies[i : i + 10])]
            assert not self.sqs.send_message_batch(QueueUrl=queue_url, Entries=entries).get("Failed")

    def receive(self, queue_url: str, *, wait_s: int = 0, hide_s: int = 0) -> list[str]:
        """The bodies that another receiver would be given now; it gives them back after `hide_s` seconds."""
        answer = self.sqs.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s, VisibilityTimeout=hide_s
        )
        return [each["Body"] for each in answer.get("Messages", [])]

    def messages(self, queue_url: str) -> tuple[int, int]:
        """How many are waiting, and how many were received and not deleted."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def settings(self, queue_url: str, **changes: Any) -> SqsSettings:
        return SqsSettings(queue_url, **{"secrets": self.secrets, "probe_s": 0.2, **changes})


def record(key: str, bucket: str = "drop", *, name: str = "ObjectCreated:Put") -> dict[str, Any]:
    """What Amazon says of an object; `key` as it stands in the message."""
    return {"eventSource": "aws:s3", "eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}


def s3_message(*keys: str) -> str:
    return json.dumps({"Records": [record(key) for key in keys]})


def minio_item(key: str) -> bytes:
    """An item of MinIO's `access` format."""
    told = {**record(key, name="s3:ObjectCreated:Put"), "eventSource": "minio:s3"}
    return json.dumps([{"Event": [told], "EventTime": "2026-11-01T10:00:00Z"}]).encode()


@contextmanager
def program(kind: str, place: str, key: str, journal: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """tests/support/queue_program.py at work, killed at the end."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    argv = [sys.executable, str(_PROGRAM), kind, place, key, str(journal), *options]
    process = subprocess.Popen(argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines(journal: Path) -> list[str]:
    return journal.read_text().splitlines() if journal.exists() else []


async def eventually(condition: Callable[[], Any]) -> None:
    """For what only a look at the server tells; `condition` is asked on a thread."""
    async with asyncio.timeout(HANG_S):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


@dataclass
class Meddler:
    """Stands between a receiver and an SQS server, and spoils answers as `spoil` says, by the name of the call.

    `spoil` gets the call's name and its arguments: None passes it on; a dict is answered instead, with the status
    under "status"; entries that it names under "fail" are not passed on and come back as failed by the server.
    """

    target: str
    spoil: Callable[[str, dict[str, Any]], dict[str, Any] | None]
    calls: list[str] = field(default_factory=list)
    endpoint: str = ""
    most_at_once: int = 0
    _now: int = 0

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Meddler]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as self._session:
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        call = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        arguments: dict[str, Any] = json.loads(await request.read())
        self.calls.append(call)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self._spoiled(call, arguments, request)
        finally:
            self._now -= 1

    async def _spoiled(self, call: str, arguments: dict[str, Any], request: web.Request) -> web.Response:
        spoiled = self.spoil(call, arguments)
        if spoiled is not None and "fail" not in spoiled:
            status = spoiled.pop("status")
            return web.json_response(spoiled, status=status, content_type="application/x-amz-json-1.0")
        failing: list[dict[str, Any]] = spoiled["fail"] if spoiled else []
        if failing:
            names = {each["Id"] for each in failing}
            arguments["Entries"] = [each for each in arguments["Entries"] if each["Id"] not in names]
        answer = await self._passed(request, arguments) if not failing or arguments["Entries"] else {"Successful": []}
        if failing:
            answer["Failed"] = failing
        return web.json_response(answer, content_type="application/x-amz-json-1.0")

    async def _passed(self, request: web.Request, arguments: dict[str, Any]) -> dict[str, Any]:
        headers = {name: request.headers[name] for name in ("X-Amz-Target", "Content-Type", "Authorization")}
        body = json.dumps(arguments)
        async with self._session.post(self.target + request.path, data=body, headers=headers) as response:
            return json.loads(await response.read() or b"{}")
