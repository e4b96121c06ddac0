"""Name servers that do not answer hold nothing up but those who ask them."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gpu_dispatch.net.retries import RetryPolicy
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.transfer.web import WebClient
from listener.runs.callbacks import CallbackClient, CallbackSettings
from manifests.errors import TransferFailed
from support.deadlines import HANG_S

THREADS = 2


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names that were asked for; those of slow.example are answered at the end only."""
    names: list[str] = []
    answered = threading.Event()
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **kwargs: Any) -> Any:
        if not host.endswith(".slow.example"):
            return look_up(host, *args, **kwargs)
        names.append(host)
        answered.wait(3 * HANG_S)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield names
    answered.set()


async def call_back(host: str, settings: CallbackSettings) -> None:
    outcome = await CallbackClient(settings).post(f"http://{host}/", b"{}", run_id="r", attempt=1)
    assert outcome.kind == "failed"


async def fetch(host: str, trusted: tuple[str, ...]) -> None:
    once = RetryPolicy(1.0, 1.0, attempts=1)
    limits = TransferLimits(connect_s=1.0, idle_s=1.0, retries=once, trusted_retries=once)
    async with WebClient(trusted, limits, random.Random(1)) as web:
        with pytest.raises(TransferFailed):
            await web.ask("GET", f"http://{host}/", name="a")


async def test_the_threads_of_the_program_stay_free(asked: list[str]) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    trusted = "trusted.slow.example"
    settings = CallbackSettings(private_hosts=frozenset({trusted}), timeout_s=1.0)
    ways = [
        *(call_back(host, settings) for host in (trusted, "callback.slow.example")),
        *(fetch(host, (trusted,)) for host in (trusted, "media.slow.example")),
    ]
    async with asyncio.timeout(HANG_S):
        await asyncio.gather(*ways)
        assert await asyncio.to_thread(lambda: "served") == "served"
    assert len(asked) == len(ways)
