"""What a receiver's answer to a callback means, and what follows from it. Pure."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from gpu_dispatch.net.failures import retry_after
from gpu_dispatch.net.tls_failures import tls_failure
from gpu_dispatch.waiting import Backoff
from listener.ledger.callbacks import CallbackRow

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
    """How one attempt went. failed: it may go better later; refused: it cannot."""

    kind: Literal["heard", "failed", "refused"]
    error: str = ""
    hint: str = ""
    retry_after_s: float = 0.0


HEARD = CallbackOutcome("heard")


def callback_outcome(status: int, headers: Mapping[str, str], text: str, now: float) -> CallbackOutcome:
    """`text` is the beginning of the answer's body; `now` is in epoch seconds.

    n8n's waiting workflows answer 409 both when they are not yet asleep (call again) and when they were woken.
    """
    if status == 409 and _FINISHED in text:
        return HEARD
    if 200 <= status < 300:
        if _is_page(headers.get("Content-Type", ""), text):
            return CallbackOutcome("failed", f"It answered {status} with an HTML page.", _WEBHOOK)
        return HEARD
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
    """`row` after an attempt that went like `outcome`."""
    told = replace(row, updated=now, last_error=outcome.error, hint=outcome.hint)
    if outcome.kind == "heard":
        return replace(told, state="delivered")
    if outcome.kind == "refused":
        return replace(told, state="refused")
    if now >= row.until or (max_attempts is not None and row.attempts >= max_attempts):
        return replace(told, state="given_up")
    wait = max(_BACKOFF.delay(row.attempts, rng), min(outcome.retry_after_s, RETRY_AFTER_MAX_S))
    return replace(told, due=min(now + wait, row.until))


def _is_page(content_type: str, text: str) -> bool:
    """Frameworks call a plain "ok" text/html as well: only markup makes a page."""
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
