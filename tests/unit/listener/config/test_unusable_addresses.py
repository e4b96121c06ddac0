"""Addresses that others wrote and nobody can use: told as such, with the place where they stand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from gpu_dispatch.net.proxies import proxy_of_environment
from gpu_dispatch.net.retries import RetryPolicy
from gpu_dispatch.task import TaskInput
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.transfer.transfer import Transfer
from listener.config.loader import parse_config
from listener.notifications.targets import parse_target
from listener.sources.webhook.sns import may_call
from listener.stores.s3.clients import trusted_host
from manifests.errors import ConfigError, InvalidPath, ManifestError
from manifests.reader import read_manifest
from manifests.references import ReferencePolicy, resolve_reference

LABEL = "a" * 64
UNUSABLE = [
    "http://[::1/", "http://h:99999/", "http://h:x/", "http://a\0b/", "http://a\x7fb.example/", f"http://{LABEL}.example/",
    "http://a..b/", "http://[fe80::1%25eth0]/", "http://[1]/", "http:///a", "http://@/", "http://ex\u200bam\u3002\u3002ple/",
    "http://" + ".".join(["a" * 60] * 5) + "/", "http://h\\@10.0.0.1/", "http://a%2eb.example/",
    "http://h:0/", "http://x][y:z@h.example/",
    "http://a%3Ab:word@h.example/", "http://\u20ac:word@h.example/", "http://me:%E2%82%AC@h.example/",
]  # fmt: skip


@pytest.fixture
async def redirecting() -> AsyncIterator[tuple[list[str], str]]:
    """A server that leads to the first of a list, and its address."""
    locations: list[str] = []

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": locations[0]})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield locations, f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize("url", [u for u in UNUSABLE if u.isprintable() and u != "http:///a"])
async def test_a_redirect_to_nowhere(redirecting: tuple[list[str], str], url: str, tmp_path: Path) -> None:
    locations, host = redirecting
    locations.append(url)
    limits = TransferLimits(connect_s=2, idle_s=2, retries=RetryPolicy(1.0, 1.0, attempts=1))
    async with Transfer(file_root=None, trusted_hosts=(host,), max_input_bytes=10, limits=limits) as transfer:
        with pytest.raises(InvalidPath, match="address"):
            await transfer.download(TaskInput("audio", f"http://{host}/a"), tmp_path / "a", lambda _: None)


@pytest.mark.parametrize("url", UNUSABLE)
async def test_an_input(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidPath) as e:
        resolve_reference(url, bucket="b", folder="", policy=ReferencePolicy(), where="audio")
    assert e.value.info.where == "audio"
    async with Transfer(file_root=None, trusted_hosts=(), max_input_bytes=10) as transfer:
        with pytest.raises(InvalidPath):
            await transfer.download(TaskInput("audio", url), tmp_path / "a", lambda _: None)


async def test_a_file_address(tmp_path: Path) -> None:
    async with Transfer(file_root=tmp_path, trusted_hosts=(), max_input_bytes=10) as transfer:
        with pytest.raises(InvalidPath):
            await transfer.download(TaskInput("audio", "file://[x/a"), tmp_path / "a", lambda _: None)


@pytest.mark.parametrize("url", UNUSABLE)
def test_a_callback(url: str) -> None:
    text = url.replace("\\", "\\\\").replace("\0", "\\u0000").replace("\x7f", "\\u007f")
    with pytest.raises(ManifestError) as e:
        read_manifest(f'{{"audio": "a.mp3", "callback_url": "{text}"}}'.encode(), "a.job.json")
    assert e.value.info.where == "callback_url"


STORE = {"kind": "s3", "buckets": ["drop"], "endpoint": "http://a"}
CONFIGURED = [
    ("store.endpoint", {"store": {**STORE, "endpoint": "URL"}}),
    ("store.public_endpoint", {"store": {**STORE, "public_endpoint": "URL"}}),
    ("runpod.api", {"runpod": {"api": "URL"}}),
    ("runpod.management", {"runpod": {"management": "URL"}}),
    ("runpod.proxy", {"runpod": {"proxy": "URL"}}),
    ("runpod.hints.url", {"runpod": {"hints": {"port": 1, "url": "URL"}}}),
    ("sources[0].queue_url", {"sources": [{"kind": "sqs", "queue_url": "URL"}]}),
    ("sources[0].endpoint", {"sources": [{"kind": "sqs", "queue_url": "http://a/b", "endpoint": "URL"}]}),
    ("sources[0].url", {"sources": [{"kind": "redis", "key": "k", "url": "URL"}]}),
    ("sources[0].url", {"sources": [{"kind": "mqtt", "topic": "t", "url": "URL"}]}),
    ("sources[0].url", {"sources": [{"kind": "amqp", "url": "URL"}]}),
    ("sources[0].servers[0]", {"sources": [{"kind": "nats", "stream": "s", "servers": "URL"}]}),
]  # fmt: skip


def filled(data: object, url: str) -> object:
    if isinstance(data, dict):
        return {name: filled(value, url) for name, value in data.items()}
    if isinstance(data, list):
        return [filled(value, url) for value in data]
    return url if data == "URL" else data


@pytest.mark.parametrize(("where", "data"), CONFIGURED, ids=[w for w, _ in CONFIGURED])
@pytest.mark.parametrize("url", ["http://[::1", "http://h:99999", f"http://{LABEL}.example", "http://a..b"])
def test_an_address_in_the_configuration(where: str, data: object, url: str) -> None:
    with pytest.raises(ConfigError) as e:
        parse_config(filled(data, url), origin="config.yaml")
    assert e.value.info.where == where


def test_a_port_to_listen_at() -> None:
    with pytest.raises(ConfigError, match="port"):
        parse_config({"sources": [{"kind": "webhook", "listen": "127.0.0.1:99999"}]}, origin="config.yaml")


@pytest.mark.parametrize("url", UNUSABLE)
def test_an_address_in_a_message_of_sns(url: str) -> None:
    assert not may_call(url.replace("http", "https"), frozenset())


@pytest.mark.parametrize("url", ["http://[::1", "http://h:99999", f"http://{LABEL}.example"])
def test_a_proxy_and_a_target(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    with pytest.raises(ConfigError, match="HTTPS_PROXY"):
        proxy_of_environment("https://api.example")
    with pytest.raises(ConfigError):
        parse_target(url)


def test_an_ipv6_store_is_trusted_by_its_port() -> None:
    assert trusted_host("http://[::1]:9000") == "[::1]:9000"
    assert trusted_host("https://minio.example") == "minio.example:443"
