"""A webhook receiver at work, and posts to it."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import trustme

from gpu_dispatch.net.tls import ServerTls
from listener.sources.webhook.settings import PostSecrets, WebhookSettings
from listener.sources.webhook.source import WebhookReceiver
from support.deadlines import HANG_S
from support.sources import Recorder, running

TOKEN = "a-token-of-this-test"
TOKENS = PostSecrets(tokens=(TOKEN,))
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Receiving:
    inbox: Recorder
    source: WebhookReceiver
    url: str

    async def post(self, body: bytes, *, to: str = "", method: str = "POST", **options: Any) -> int:
        """The status of the answer to one request of its own; `to` is appended to the receiver's address."""
        options.setdefault("headers", BEARER)
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + to, data=body, **options) as response,
        ):
            assert await response.read() == b""
            return response.status


@asynccontextmanager
async def receiving(
    inbox: Recorder | None = None, *, secrets: PostSecrets = TOKENS, **settings: Any
) -> AsyncIterator[Receiving]:
    """A receiver that listens: at a free port, unless `settings` names one."""
    inbox = inbox or Recorder()
    told = replace(WebhookSettings(port=0, path="/minio"), **settings)
    source = WebhookReceiver(told, secrets)
    opened = len(inbox.gaps)
    async with running(inbox, source):
        await inbox.until(lambda: any("opened" in gap for gap in inbox.gaps[opened:]))
        scheme = "https" if told.tls else "http"
        yield Receiving(inbox, source, f"{scheme}://127.0.0.1:{source.port}{told.path}")


def minio_target(port: int, queue: Path, **more: str) -> dict[str, str]:
    """The variables that make MinIO post to `port` as its target W; `more` in MinIO's words, in lower case."""
    values = {
        "enable": "on",
        "endpoint": f"http://127.0.0.1:{port}/minio",
        "auth_token": TOKEN,
        "queue_dir": str(queue),
        **more,
    }
    return {f"MINIO_NOTIFY_WEBHOOK_{name.upper()}_W": value for name, value in values.items()}


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def message(*keys: str, bucket: str = "drop") -> bytes:
    """One post about new objects, as Amazon spells it."""
    records = [
        {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": bucket}, "object": {"key": key}},
        }
        for key in keys
    ]
    return json.dumps({"Records": records}).encode()


@dataclass(frozen=True)
class Authority:
    """A private certificate authority; its files lie in `folder`."""

    folder: Path
    ca: trustme.CA

    @classmethod
    def at(cls, folder: Path) -> Authority:
        folder.mkdir(parents=True, exist_ok=True)
        ca = trustme.CA()
        ca.cert_pem.write_to_path(folder / "ca.pem")
        return cls(folder, ca)

    @property
    def file(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """The files NAME.crt and NAME.key, anew at each call."""
        issued = self.ca.issue_cert(*(hosts or ("127.0.0.1",)))
        cert, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return cert, key

    def server(self, *, demand_clients: bool = False) -> ServerTls:
        return ServerTls(*self.issue("server"), self.file if demand_clients else None)

    def client_context(self, *pair: Path) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.file))
        if pair:
            context.load_cert_chain(*pair)
        return context


async def cut(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ended the connection; waits for it."""
    async with asyncio.timeout(HANG_S):
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
    return True
