"""Notification rules on real servers, the command that changes them, and a stand-in for Ceph RGW."""

from __future__ import annotations

import io
import json
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.config import Config as BotoConfig
from rich.console import Console

from listener.config.config import Config
from listener.config.environment import Environment, read_environment
from listener.config.loader import parse_config
from listener.notifications.command import Request, apply_events, remove_events, show_events
from listener.notifications.rules import RuleEntry, notification_document_bytes, read_notification_document
from manifests.errors import GpuDropError

RULES = {"show": show_events, "apply": apply_events, "remove": remove_events}


def configuration(endpoint: str, *buckets: str, **sections: Any) -> Config:
    """config.yaml for a store at `endpoint`; `sections` replace others."""
    store = {"kind": "s3", "endpoint": endpoint, "buckets": list(buckets)}
    trigger = {"name": "audio", "pattern": "in/*.{mp3,wav}", "manifest": {"operation": "transcribe"}}
    return parse_config({"store": store, "triggers": [trigger], **sections}, origin="test")


def environment_of(server: Any, **variables: str) -> Environment:
    keys = {"GPUDROP_S3_ACCESS_KEY": server.access_key, "GPUDROP_S3_SECRET_KEY": server.secret_key}
    return read_environment({**keys, **variables})


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended; `error` is what it raised, with its hint."""

    code: int
    text: str
    error: GpuDropError | None = None

    @property
    def told(self) -> str:
        return f"{self.text}\n{self.error}\n{self.error.info.hint}" if self.error else self.text


async def events(
    what: str, config: Config, environment: Environment, *targets: str, bucket: str = "", dry_run: bool = False
) -> Outcome:
    """`gpudrop events` as a person runs it into a file."""
    out = io.StringIO()
    console = Console(file=out, highlight=False, width=80)
    try:
        code = await RULES[what](config, environment, Request(bucket, targets, dry_run), console)
    except GpuDropError as e:
        return Outcome(1, out.getvalue(), e)
    return Outcome(code, out.getvalue())


class Rules:
    """A bucket's rules as boto3 and the wire show them: another client than the one under test."""

    def __init__(self, server: Any, bucket: str) -> None:
        self._bucket = bucket
        self._raw = b""
        self.s3: Any = boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=server.endpoint,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            config=BotoConfig(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )
        self.s3.meta.events.register("after-call.s3.GetBucketNotificationConfiguration", self._keep)

    def _keep(self, http_response: Any, **_: Any) -> None:
        self._raw = http_response.content

    def get(self) -> dict[str, Any]:
        found = self.s3.get_bucket_notification_configuration(Bucket=self._bucket)
        return {name: value for name, value in found.items() if name != "ResponseMetadata"}

    def put(self, **sections: Any) -> None:
        self.s3.put_bucket_notification_configuration(Bucket=self._bucket, NotificationConfiguration=sections)

    def wire(self) -> bytes:
        self.get()
        return self._raw

    def foreign(self) -> list[str]:
        """The elements of rules that are not ours, as they came over the wire."""
        return [each.xml for each in read_notification_document(self.wire()).foreign]

    def ours(self) -> list[RuleEntry]:
        return list(read_notification_document(self.wire()).ours)


@dataclass
class Gateway:
    """Behaves as the source of Ceph RGW says for notification rules: a PUT adds and replaces by Id, an empty one takes
    all away, DELETE takes one. What is asked of SNS goes on to `sns`, a server that speaks it."""

    sns: str
    rules: dict[str, RuleEntry] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    topics: list[Mapping[str, list[str]]] = field(default_factory=list)
    server: str = "Ceph Object Gateway (tentacle)"
    late_s: float = 0.0
    """What is put is shown only so many seconds later."""
    refusal: bytes = b""
    """Answers every PUT, where it is given."""
    destinations: tuple[str, ...] = ()
    """What MinIO's relatives say they can send to."""
    endpoint: str = ""
    access_key: str = "key"
    secret_key: str = "secret"
    _before: dict[str, RuleEntry] = field(default_factory=dict)
    _put_at: float = float("-inf")

    @contextmanager
    def serve(self) -> Iterator[Gateway]:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            server_version = gateway.server
            sys_version = ""

            def _answer(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                refused = gateway.refusal if self.command == "PUT" else b""
                answer = refused or gateway.answer(self.command, self.path, body, dict(self.headers))
                self.send_response(400 if refused else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_DELETE = do_POST = _answer  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            self.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()

    def answer(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        query = parse_qs(urlsplit(path).query, keep_blank_values=True)
        if path == "/minio/admin/v3/info":
            return json.dumps({"sqsARN": self.destinations}).encode()
        self.asked.append((method, query.get("notification", [""])[0]))
        if method == "POST":
            self.topics.append(parse_qs(body.decode()))
            kept = {name: headers[name] for name in ("Content-Type", "Authorization", "X-Amz-Date") if name in headers}
            with urllib.request.urlopen(urllib.request.Request(self.sns, body, kept), timeout=20) as answer:
                return answer.read()
        if method == "PUT":
            entries = read_notification_document(body).entries
            self._before, self._put_at = self.rules, time.monotonic()
            self.rules = {**self.rules, **{each.id: each for each in entries}} if entries else {}
        elif method == "DELETE":
            self.rules.pop(query["notification"][0], None)
        shown = self.rules if time.monotonic() - self._put_at >= self.late_s else self._before
        return notification_document_bytes(tuple(shown.values())) if method == "GET" else b""


def policy_of(text: str) -> dict[str, Any]:
    """The statement that a command printed."""
    return json.loads(text[text.index("{") : text.rindex("}") + 1])
