"""Posts a run's final sidecar to a user's system: signed, only to allowed addresses, and classifies the answer.

A callback has three signatures, all HMAC-SHA256 with one secret: that of Standard Webhooks over id, time and body; one
that covers the address as well, so that no receiver can post it on to another; and one over the body alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import aiohttp
from yarl import URL

from gpu_dispatch.backoff import Backoff
from gpu_dispatch.net.bodies import read_available
from gpu_dispatch.net.failures import BROKEN, connection_failure, retry_after
from gpu_dispatch.net.guarded import GuardedClient
from gpu_dispatch.net.tls import tls_failure
from listener.ledger.callbacks import CallbackRow
from manifests.errors import AddressNotAllowed, ConfigError
from manifests.hosts import WebAddress, parse_web_address

_PREFIX = "whsec_"
"""Precedes a secret that is written as base64, as in Standard Webhooks."""


@dataclass(frozen=True, slots=True)
class CallbackSigner:
    """Makes the signature headers of callbacks."""

    secret: str = field(default="", repr=False)
    """As it stands in the environment: any text, or "whsec_" and base64; an empty one signs nothing."""

    def headers(self, identity: str, timestamp: int, url: str, body: bytes) -> dict[str, str]:
        """Returns the headers of one attempt at `timestamp`, epoch seconds. `identity` is the same at every attempt.
        `url` is the address that is called, without user and fragment."""
        headers = {"webhook-id": identity, "webhook-timestamp": str(timestamp)}
        if not self.secret:
            return headers
        key = secret_key(self.secret)
        standard = f"{identity}.{timestamp}.".encode() + body
        bound = f"POST\n{url}\n{identity}\n{timestamp}\n".encode() + body
        return headers | {
            "webhook-signature": "v1," + base64.b64encode(hmac.digest(key, standard, "sha256")).decode(),
            "X-Gpudrop-Signature-V2": "sha256=" + hmac.new(key, bound, hashlib.sha256).hexdigest(),
            "X-Gpudrop-Signature": "sha256=" + hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest(),
        }


def secret_key(secret: str) -> bytes:
    """Returns the signing key. Raises ConfigError for "whsec_" without base64 after it, and for what is not UTF-8."""
    if not secret.startswith(_PREFIX):
        try:
            return secret.encode()
        except UnicodeEncodeError as e:
            raise ConfigError(
                "GPUDROP_CALLBACK_SECRET is not UTF-8.",
                hint="Write text, or whsec_ and the base64 of any bytes.",
                where="GPUDROP_CALLBACK_SECRET",
            ) from e
    text = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as e:
        raise _no_secret() from e
    if not key:
        raise _no_secret()
    return key


def _no_secret() -> ConfigError:
    return ConfigError(
        "GPUDROP_CALLBACK_SECRET begins with whsec_, and no base64 follows.",
        hint="Write whsec_ and the base64 of 24 to 64 random bytes, or any text that begins otherwise.",
        where="GPUDROP_CALLBACK_SECRET",
    )


RETRY_AFTER_MAX_S = 3600.0
_BACKOFF = Backoff(base_s=1.0, cap_s=600.0)
_STILL_RUNNING = "is running already"
_FINISHED = "has finished already"
_NEVER = frozenset({405, 410, 413, 414, 501})
_PAGE = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)

_WEBHOOK = (
    "It is no receiver of callbacks but a page for people. With n8n, use the production webhook's URL (…/webhook/…) or"
    " the Wait node's {{$execution.resumeUrl}}, not the editor's address."
)


@dataclass(frozen=True, slots=True)
class CallbackOutcome:
    """How one attempt ended."""

    kind: Literal["delivered", "failed", "refused"]
    """heard: delivered; failed: a later attempt may succeed; refused: none can."""
    error: str = ""
    hint: str = ""
    retry_after_s: float = 0.0
    """What the receiver asked for; 0: nothing."""


DELIVERED = CallbackOutcome("delivered")


def callback_outcome(status: int, headers: Mapping[str, str], text: str, now: float) -> CallbackOutcome:
    """Classifies an answer. `text` is the beginning of its body; `now` is in epoch seconds. n8n's waiting workflows
    answer 409 both when they do not wait yet (call again) and when they were resumed already."""
    if status == 409 and _FINISHED in text:
        return DELIVERED
    if 200 <= status < 300:
        if _is_page(headers.get("Content-Type", ""), text):
            return CallbackOutcome("failed", f"It answered {status} with an HTML page.", _WEBHOOK)
        return DELIVERED
    if 300 <= status < 400:
        hint = "Name the receiver's final address: redirects are not followed."
        return CallbackOutcome("refused", f"It leads elsewhere ({status}).", hint)
    if status in _NEVER:
        return CallbackOutcome("refused", f"It will not take a callback ({status}).", "Check the address.")
    if status == 400 and (failure := tls_failure(text)):
        return CallbackOutcome("failed", f"Not delivered: {failure.reason}.", failure.hint)
    wait = retry_after(headers.get("Retry-After", ""), now)
    return CallbackOutcome("failed", f"It answered {status}.", _hint(status, text), wait)


def callback_state_after(
    row: CallbackRow, outcome: CallbackOutcome, now: float, max_attempts: int | None, rng: random.Random
) -> CallbackRow:
    """Returns `row` after an attempt that ended with `outcome`."""
    told = replace(row, updated=now, last_error=outcome.error, hint=outcome.hint)
    if outcome.kind == "delivered":
        return replace(told, state="delivered")
    if outcome.kind == "refused":
        return replace(told, state="refused")
    if now >= row.until or (max_attempts is not None and row.attempts >= max_attempts):
        return replace(told, state="given_up")
    wait = max(_BACKOFF.delay(row.attempts, rng), min(outcome.retry_after_s, RETRY_AFTER_MAX_S))
    return replace(told, due=min(now + wait, row.until))


def _is_page(content_type: str, text: str) -> bool:
    """Whether the answer is an HTML page: only markup counts, since frameworks call a plain "ok" text/html as well."""
    text = text.lstrip("\ufeff \t\r\n")
    if content_type.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml"):
        return text.startswith("<")
    while text.startswith(("<!--", "<?xml")):
        text = text.partition("-->" if text.startswith("<!--") else "?>")[2].lstrip()
    return _PAGE.match(text) is not None


def _hint(status: int, text: str) -> str:
    if status == 409 and _STILL_RUNNING in text:
        return "The workflow does not wait yet. It is tried again."
    if status in (401, 403):
        return "The receiver asks for a login. It is tried again."
    if status == 404:
        return "Nothing answers under this address. With n8n, the workflow must be active. It is tried again."
    return "It is tried again."


_ANSWER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class CallbackSettings:
    """How callbacks are sent, and for how long."""

    secret: str = ""
    """Signs callbacks when set."""
    private_hosts: frozenset[str] = frozenset()
    """May be called although their addresses are private."""
    timeout_s: float = 15.0
    """What one attempt may take."""
    keep_trying_s: float = 86400.0
    """Seconds after the run's end in which attempts are made."""
    max_attempts: int | None = None
    """None: no limit."""


class CallbackClient:
    """Posts callbacks."""

    def __init__(self, settings: CallbackSettings) -> None:
        self._settings = settings
        self._signer = CallbackSigner(settings.secret)

    async def post(self, url: str, body: bytes, *, run_id: str, attempt: int) -> CallbackOutcome:
        """Makes one attempt. Raises nothing that a receiver can cause."""
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
            text = (await read_available(response.content, _ANSWER_BYTES)).decode("utf-8", "replace")
            return callback_outcome(response.status, response.headers, text, time.time())

    def _headers(self, url: URL, body: bytes, run_id: str, attempt: int) -> dict[str, str]:
        """Returns the headers. The id is the same at every attempt, so that a receiver can recognize repetitions."""
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
