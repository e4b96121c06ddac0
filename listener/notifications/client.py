"""Signed requests about one store's notification rules, each within a deadline, and their errors."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import quote

import aiohttp
from yarl import URL

from gpu_dispatch.net.bodies import BodyTooLong, read_whole
from gpu_dispatch.net.failures import BROKEN
from gpu_dispatch.net.sessions import http_session
from gpu_dispatch.net.tls import ca_context, tls_failure
from listener.notifications.rules import RuleEntry, RulesChange, expand_events
from listener.stores.s3.clients import S3Settings, bucket_address
from listener.stores.s3.errors import error_from_code
from listener.stores.s3.signatures import signed_headers
from listener.triggers.filters import overlap
from manifests.errors import ConfigError, GpuDropError, ServerMisbehaves, StoreDenied

_CODE = re.compile(rb"<Code>(\w{1,64})</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{1,500})</Message>")
_NOT_THE_RULES = frozenset({"AuthorizationHeaderMalformed", "ExpiredToken", "InvalidToken", "InvalidBucketName"})
READ, WRITE = "s3:GetBucketNotification", "s3:PutBucketNotification"


def notification_error_code(body: bytes) -> str:
    found = _CODE.search(body)
    return found[1].decode() if found else ""


def server_unreachable(error: Exception, *, bucket: str, endpoint: str) -> GpuDropError:
    told = str(error) if tls_failure(str(error)) else ""
    return error_from_code("", 0, told, doing="ask about notification rules", bucket=bucket, endpoint=endpoint)


def request_refused(status: int, body: bytes, *, action: str, bucket: str, endpoint: str) -> GpuDropError:
    """Returns the error for a refused request. `action` is READ or WRITE."""
    code = notification_error_code(body)
    doing = "read the notification rules" if action == READ else "change the notification rules"
    if code in ("AccessDenied", "AllAccessDisabled", "UnauthorizedAccess"):
        return StoreDenied(
            f"Could not {doing} of bucket {bucket!r}: the keys may not do this ({code}).",
            hint=f"Allow {action} on {bucket!r} to the store's keys, or run this once with keys that may.",
            where=bucket,
        )
    found = _MESSAGE.search(body)
    said = f": {found[1].decode(errors='replace')}" if found else ""
    if status == 400 and code not in _NOT_THE_RULES:
        return ConfigError(f"The server refused the rules of bucket {bucket!r} ({code}){said}", where=bucket)
    return error_from_code(code, status, "", doing=doing, bucket=bucket, endpoint=endpoint)


def rules_refused(
    status: int, body: bytes, change: RulesChange, known: Sequence[str] | None, *, bucket: str, endpoint: str
) -> GpuDropError:
    """Returns the error for refused rules. `known` are the server's configured ARNs, None when it hides them."""
    code = notification_error_code(body)
    if code.startswith("BucketAlready"):
        return ServerMisbehaves(
            f"The server takes rules for bucket {bucket!r} for a request to make it: it keeps no notification rules.",
            hint="Nothing was changed. Use `sources: [reconcile]`: new objects are found by listing.",
            where=bucket,
        )
    if code != "InvalidArgument":
        return request_refused(status, body, action=WRITE, bucket=bucket, endpoint=endpoint)
    if b"ARN does not exist" in body:
        return _unknown_target(change, known, bucket)
    if crossing := _overlapping(change):
        names = ", ".join(sorted({each.id or each.arn for each in crossing}))
        return ConfigError(
            f"Rules of others in bucket {bucket!r} tell of the same keys and events: {names}.",
            hint="The server allows one rule for a key. Remove theirs, send both through one SNS topic or EventBridge,"
            " or give the triggers narrower prefixes and suffixes.",
            where=bucket,
        )
    error = request_refused(status, body, action=WRITE, bucket=bucket, endpoint=endpoint)
    hint = "Check that the queue or topic exists in the bucket's region and that its policy lets S3 send to it."
    return ConfigError(str(error), hint=hint, where=bucket)


def not_kept(change: RulesChange, server: str, bucket: str) -> GpuDropError:
    rules = ", ".join(each.id or each.kind for each in (*change.added, *change.removed))
    return ServerMisbehaves(
        f"{server} took the rules of bucket {bucket!r}, but does not show them as they were sent ({rules}).",
        hint="See `gpudrop events show`. A server without EventBridge forgets such an entry.",
        where=bucket,
    )


def _unknown_target(change: RulesChange, known: Sequence[str] | None, bucket: str) -> ConfigError:
    used = dict.fromkeys(each.arn for each in change.after.entries if each.arn)
    lost = [arn for arn in used if known is None or arn not in known]
    there = "It can send to: " + (", ".join(known) or "nothing") + "." if known is not None else ""
    return ConfigError(
        f"The server does not know {' or '.join(lost) or 'a target'}; the rules of bucket {bucket!r} stay.",
        hint=f"{there} Give one of those with --target, or set the target up on the server first.".strip(),
        where="--target",
    )


def _overlapping(change: RulesChange) -> list[RuleEntry]:
    new = (*change.added, *(new for _, new in change.changed))
    return [
        each
        for each in change.after.foreign
        if any(overlap(each.filter, n.filter) and expand_events(each.events) & expand_events(n.events) for n in new)
    ]


_MAX_ANSWER = 16 * 2**20


@dataclass(frozen=True, slots=True)
class NotificationResponse:
    """A server's response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """The server's error code; empty on success or without one."""
        return "" if self.ok else notification_error_code(self.body)


def request_time() -> datetime:
    return datetime.now(UTC)


class NotificationClient:
    """Sends requests and returns responses of any status. Raises the errors of `server_unreachable` without one.

    XML passes unchanged, because a client with a model of it would drop what servers have added to the rules.
    """

    def __init__(
        self, settings: S3Settings, session: aiohttp.ClientSession, *, now: Callable[[], datetime] = request_time
    ) -> None:
        self._settings = settings
        self._session = session
        self._now = now

    async def get(self, bucket: str) -> NotificationResponse:
        return await self._ask("GET", bucket, self._url(bucket))

    async def put(self, bucket: str, body: bytes) -> NotificationResponse:
        return await self._ask("PUT", bucket, self._url(bucket), body)

    async def delete(self, bucket: str, rule_id: str) -> NotificationResponse:
        """Deletes one rule; only Ceph RGW supports it. Raises ValueError without an id, which would delete all."""
        if not rule_id:
            raise ValueError("no rule named")
        return await self._ask("DELETE", bucket, self._url(bucket) + quote(rule_id, safe=""))

    async def destinations(self) -> tuple[str, ...] | None:
        """Returns the ARNs that MinIO is configured to send to; None where these keys may not read them."""
        answer = await self._ask(
            "GET", ", ".join(self._settings.buckets), f"{self._settings.endpoint}/minio/admin/v3/info"
        )
        if not answer.ok:
            return None
        try:
            told: Any = json.loads(answer.body)
        except ValueError:
            return None
        found = cast("dict[str, Any]", told).get("sqsARN") if isinstance(told, dict) else None
        return tuple(str(each) for each in cast("list[object]", found or []))

    def _url(self, bucket: str) -> str:
        settings = self._settings
        address = bucket_address(settings.endpoint, bucket, path_style=settings.path_style)
        return f"{address}/{quote(bucket, safe='') if settings.path_style else ''}?notification="

    async def _ask(self, method: str, bucket: str, url: str, body: bytes = b"") -> NotificationResponse:
        headers = await self._signed(method, url, body)
        settings = self._settings
        try:
            async with (
                asyncio.timeout(settings.timeout_s),
                self._session.request(
                    method,
                    URL(url, encoded=True),
                    data=body or None,
                    headers=headers,
                    allow_redirects=False,
                ) as response,
            ):
                headers = {name: ", ".join(response.headers.getall(name)) for name in response.headers}
                return NotificationResponse(response.status, headers, await _whole(response))
        except BROKEN as e:
            raise server_unreachable(e, bucket=bucket, endpoint=settings.endpoint) from e

    async def _signed(self, method: str, url: str, body: bytes) -> dict[str, str]:
        keys = await asyncio.to_thread(self._settings.keys)
        headers: dict[str, str] = {}
        if body:
            headers["Content-MD5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
            headers["Content-Type"] = "application/xml"
        region = self._settings.region
        return signed_headers(method, url, keys=keys, region=region, now=self._now(), headers=headers, body=body)


@asynccontextmanager
async def notification_client(settings: S3Settings) -> AsyncGenerator[NotificationClient]:
    """Opens a client. Raises ConfigError when the store's CA file cannot be read."""
    tls = await asyncio.to_thread(ca_context, settings.ca_file, where="store.ca_file")
    async with http_session(tls=tls, compressed=True) as session:
        yield NotificationClient(settings, session)


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await read_whole(response.content, _MAX_ANSWER)
    except BodyTooLong as e:
        raise ServerMisbehaves(
            "The server's answer about notification rules does not end.",
            hint="Check that store.endpoint is the S3 endpoint itself.",
        ) from e
