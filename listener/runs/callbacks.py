"""One POST of a run's final sidecar to a user's system: signed, and only where it may go."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from yarl import URL

from gpu_dispatch.net.bodies import read_said
from gpu_dispatch.net.failures import BROKEN, connection_failure
from gpu_dispatch.net.guarded import GuardedClient
from listener.runs.callback_answers import CallbackOutcome, callback_outcome
from listener.runs.callback_signatures import CallbackSigner
from manifests.errors import AddressNotAllowed
from manifests.hosts import WebAddress, parse_web_address

_ANSWER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class CallbackSettings:
    """`secret` signs bodies when set; `private_hosts` may be called although their address is private. Seconds.

    An attempt takes up to `timeout_s`. They end after `keep_trying_s`, or after `max_attempts` where that is set.
    """

    secret: str = ""
    private_hosts: frozenset[str] = frozenset()
    timeout_s: float = 15.0
    keep_trying_s: float = 86400.0
    max_attempts: int | None = None


class CallbackClient:
    def __init__(self, settings: CallbackSettings) -> None:
        self._settings = settings
        self._signer = CallbackSigner(settings.secret)

    async def post(self, url: str, body: bytes, *, run_id: str, attempt: int) -> CallbackOutcome:
        """Raises nothing that a receiver can bring about."""
        address = parse_web_address(url)
        if address is None:
            return CallbackOutcome("refused", "It is no usable address.", "Check its spelling.")
        try:
            return await self._post(address, body, run_id, attempt)
        except AddressNotAllowed:
            return CallbackOutcome(
                "refused",
                f"The host {address.host!r} has a private address and may not be called.",
                f'Write callbacks.private_hosts: ["{address.host_and_port}"] in config.yaml, start gpudrop again, and'
                " have it sent with `gpudrop callback`.",
            )
        except BROKEN as e:
            failure = connection_failure(e, self._settings.timeout_s)
            return CallbackOutcome("failed", f"Not delivered: {failure.reason}.", failure.hint)

    async def _post(self, address: WebAddress, body: bytes, run_id: str, attempt: int) -> CallbackOutcome:
        url = URL(address.url, encoded=True)
        headers = self._headers(url, body, run_id, attempt)
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_s)
        trusted = tuple(self._settings.private_hosts)
        async with (
            GuardedClient(trusted, timeout=timeout) as http,
            http.answer("POST", url, "callback_url", headers=headers, body=lambda: _pieces(body)) as response,
        ):
            text = (await read_said(response.content, _ANSWER_BYTES)).decode("utf-8", "replace")
            return callback_outcome(response.status, response.headers, text, time.time())

    def _headers(self, url: URL, body: bytes, run_id: str, attempt: int) -> dict[str, str]:
        """The id is the same at every repetition, so that a receiver can tell one from a second callback."""
        identity = f"callback-{run_id}"
        called = f"{url.origin()}{url.raw_path_qs}"
        return {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "X-Gpudrop-Run": run_id,
            "X-Gpudrop-Callback-Id": identity,
            "X-Gpudrop-Attempt": str(attempt),
            **self._signer.headers(identity, int(time.time()), called, body),
        }


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body
