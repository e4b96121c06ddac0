"""Translates RunPod's error responses and connection failures into errors that say whether a job was created."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

import aiohttp

from gpu_dispatch.net.tls import tls_failure
from gpu_dispatch.runpod.responses import plain_error
from manifests.errors import EndpointDenied, EndpointUnavailable, GpuDropError, SubmitUnknown, TaskRefused
from manifests.text import plain_text

_BODY = 4096
_WORDS = 160
_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_SECRETS = re.compile(r"\?\S+|\S*(?:x-amz-|signature=)\S*|\b(?:rpa_|bearer\s+)\S+", re.IGNORECASE)

_REFUSED = frozenset({400, 405, 406, 411, 413, 414, 415, 422, 431})
_WAIT = "It is tried again."


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response."""

    status: int
    body: bytes
    retry_after_s: float | None = None
    """Seconds a 429 asks to wait; None when it names none."""
    key: str = field(default="", repr=False)
    """The API key of the request, to be removed from quoted text."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        return reply_text(self.body, self.key)


class RequestNotSent(Exception):
    """The request was not sent whole, so RunPod cannot have acted on it. `error` says why."""

    def __init__(self, error: GpuDropError) -> None:
        super().__init__(error.info.message)
        self.error = error


class RequestBroken(Exception):
    """The request was sent, or may have been, and no complete response came."""


def reply_text(body: bytes, key: str) -> str:
    """Returns a short text of the response without markup, key or signatures; "" when it has none."""
    text = plain_error(body) or html.unescape(_TAGS.sub(" ", body[:_BODY].decode("utf-8", "replace")))
    if key:
        text = text.replace(key, "…")
    text = plain_text(_SECRETS.sub("…", text))
    return text if len(text) <= _WORDS else text[:_WORDS] + "…"


def not_sent(e: Exception, api: str) -> RequestNotSent | None:
    """Returns the failure when `e` was raised before anything was sent; None when something may have been."""
    if isinstance(e, aiohttp.ClientSSLError) and (
        failure := tls_failure(str(e), ca_setting="runpod.ca_file in config.yaml")
    ):
        kind = EndpointDenied if failure.lasting else EndpointUnavailable
        return RequestNotSent(kind(f"{api} cannot be used: {failure.reason}.", hint=failure.hint))
    if isinstance(e, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return RequestNotSent(EndpointDenied(f"{api} is no usable address.", hint="Mend runpod.api in config.yaml."))
    if isinstance(e, aiohttp.ClientHttpProxyError):
        hint = "Check runpod.proxy, or HTTPS_PROXY, and what the proxy allows."
        return RequestNotSent(EndpointUnavailable(f"The proxy lets nothing through to {api} ({e.status}).", hint=hint))
    if isinstance(e, aiohttp.ClientProxyConnectionError):
        return RequestNotSent(
            EndpointUnavailable(f"The proxy before {api} cannot be reached.", hint="Check runpod.proxy.")
        )
    if isinstance(e, aiohttp.ClientConnectorDNSError):
        return RequestNotSent(
            EndpointUnavailable(f"The host of {api} is not found.", hint="Check the network and its DNS.")
        )
    if isinstance(e, aiohttp.ConnectionTimeoutError):
        return RequestNotSent(
            EndpointUnavailable(f"No connection to {api} in time.", hint="Check the network. " + _WAIT)
        )
    if isinstance(e, aiohttp.ClientConnectorError):
        reason = e.os_error.strerror or "refused"
        return RequestNotSent(
            EndpointUnavailable(f"No connection to {api} ({reason}).", hint="Check the network. " + _WAIT)
        )
    return None


def why_broken(e: Exception) -> str:
    if isinstance(e, TimeoutError):
        return "no answer came in time"
    return "the connection broke off"


def access_denied(reply: Reply, endpoint_id: str) -> EndpointDenied | None:
    """Returns the error of a response that a person has to resolve; None for any other."""
    said = _quoted(reply.text)
    if reply.status in (401, 403):
        hint = "Set GPUDROP_RUNPOD_API_KEY to a key that may use this endpoint."
        return EndpointDenied(f"RunPod refuses the key for endpoint {endpoint_id} ({reply.status}).{said}", hint=hint)
    if reply.status == 402:
        hint = "Add credit to the RunPod account, or raise its spending limit."
        return EndpointDenied(f"RunPod takes no work for endpoint {endpoint_id} without payment.{said}", hint=hint)
    if 300 <= reply.status < 400:
        hint = "Check runpod.api in config.yaml, and whether a proxy asks for a login."
        return EndpointDenied(f"RunPod's address leads elsewhere ({reply.status}).", hint=hint)
    return None


def rate_limited(reply: Reply, endpoint_id: str) -> EndpointUnavailable | None:
    if reply.status != 429:
        return None
    return EndpointUnavailable(
        f"RunPod takes no more calls for endpoint {endpoint_id} now (429).",
        hint=f"{_WAIT} Too many calls, or too many jobs in the queue: raise the endpoint's max workers.",
    )


def submit_error(reply: Reply, endpoint_id: str) -> GpuDropError:
    """Returns the error of a response to a submission that names no job."""
    known = access_denied(reply, endpoint_id) or rate_limited(reply, endpoint_id)
    if known:
        return known
    if reply.status == 404:
        return unknown_endpoint(endpoint_id)
    if reply.status in _REFUSED:
        hint = "The task is larger than RunPod takes, or not what it expects; trying again cannot help."
        return TaskRefused(f"RunPod refuses the task ({reply.status}).{_quoted(reply.text)}", hint=hint)
    if reply.ok:
        return submit_unknown("its answer names no job", reply.text)
    return submit_unknown(f"it answered {reply.status}", reply.text)


def submit_unknown(reason: str, text: str = "") -> SubmitUnknown:
    return SubmitUnknown(
        f"RunPod was given a task, and whether it took it is unknown: {reason}.{_quoted(text)}",
        hint="A worker that takes it claims it first, so that it is done once.",
    )


def status_error(reply: Reply, endpoint_id: str) -> GpuDropError:
    """Returns the error of an unusable response to a call that may be repeated."""
    known = access_denied(reply, endpoint_id) or rate_limited(reply, endpoint_id)
    if known:
        return known
    what = "cannot be understood" if reply.ok else f"is {reply.status}"
    return EndpointUnavailable(f"RunPod's answer about endpoint {endpoint_id} {what}.{_quoted(reply.text)}", hint=_WAIT)


def wrong_job_response(endpoint_id: str, job_id: str) -> EndpointUnavailable:
    return EndpointUnavailable(
        f"RunPod was asked for the job {job_id} at endpoint {endpoint_id} and answered for another.", hint=_WAIT
    )


def unknown_endpoint(endpoint_id: str) -> EndpointDenied:
    return EndpointDenied(
        f"RunPod has no endpoint {endpoint_id}, or the key belongs to another account (404).",
        hint="Check the endpoint's `id` in config.yaml, or make it with gpudrop deploy.",
    )


def _quoted(text: str) -> str:
    return f" It says: {text}" if text else ""
