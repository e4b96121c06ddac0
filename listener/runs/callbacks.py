"""Telling a user's system that a run has ended: one signed POST of the final sidecar, tried until it is heard."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
from dataclasses import dataclass

import aiohttp
import structlog
from yarl import URL

from gpu_dispatch.transfer.address import PublicResolver, check_literal, is_trusted
from gpu_dispatch.waiting import Backoff
from manifests.errors import AddressNotAllowed

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.callbacks")

_BACKOFF = Backoff(base_s=1.0, cap_s=60.0)
_BODY_LIMIT = 4096
_STILL_RUNNING = "is running already"
_FINISHED = "has finished already"


@dataclass(frozen=True, slots=True)
class CallbackSettings:
    """`secret` signs bodies when set; `private_hosts` may be called although their address is private."""

    secret: str = ""
    private_hosts: frozenset[str] = frozenset()
    timeout_s: float = 15.0
    max_attempts: int = 6


class _Refused(Exception):
    """The other side says that it will never take this."""


class Callbacks:
    def __init__(self, settings: CallbackSettings, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng

    async def deliver(self, url: str, body: bytes, run_id: str) -> bool:
        """Whether the other side took `body`. Never raises: a deaf receiver must not undo a finished run."""
        for attempt in range(1, self._settings.max_attempts + 1):
            try:
                if await self._post(url, body, run_id):
                    return True
            except (_Refused, AddressNotAllowed) as e:
                log.warning("callback_refused", run_id=run_id, error=str(e))
                return False
            except (aiohttp.ClientError, TimeoutError, OSError) as e:
                log.info("callback_failed", run_id=run_id, attempt=attempt, error=str(e) or type(e).__name__)
            if attempt < self._settings.max_attempts:
                await asyncio.sleep(_BACKOFF.delay(attempt, self._rng))
        log.warning("callback_given_up", run_id=run_id, attempts=self._settings.max_attempts)
        return False

    async def _post(self, url: str, body: bytes, run_id: str) -> bool:
        address = URL(url)
        trusted = is_trusted(address, self._settings.private_hosts)
        if not trusted:
            check_literal(address)
        headers = {"Content-Type": "application/json", "X-Gpudrop-Run": run_id}
        if self._settings.secret:
            headers["X-Gpudrop-Signature"] = "sha256=" + sign(self._settings.secret, body)
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_s)
        connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver() if trusted else PublicResolver())
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.post(address, data=body, headers=headers, allow_redirects=False) as response,
        ):
            text = (await response.content.read(_BODY_LIMIT)).decode("utf-8", "replace")
            return _heard(response.status, text)


def sign(secret: str, body: bytes) -> str:
    """Hex HMAC-SHA256 of `body`: what the receiver computes again to know the call is ours."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _heard(status: int, text: str) -> bool:
    """n8n's waiting workflows answer 409 both when they are not yet asleep (call again) and when they were woken."""
    if 200 <= status < 300 or (status == 409 and _FINISHED in text):
        return True
    if status in (404, 405, 410, 413) or (300 <= status < 400):
        raise _Refused(f"it answered {status}")
    log.info("callback_answered", status=status, still_running=_STILL_RUNNING in text)
    return False
