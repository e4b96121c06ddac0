"""Signed requests about one store's notification rules, each within a deadline."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import quote, urlsplit

import aiohttp
from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_s3
from yarl import URL

from gpu_dispatch.net.bodies import BodyTooLong, read_whole
from gpu_dispatch.net.failures import BROKEN
from gpu_dispatch.net.sessions import http_session
from gpu_dispatch.net.tls import ca_context
from listener.bucket_events.troubles import notification_error_code, server_unreachable
from listener.stores.s3_clients import S3Settings, bucket_address
from manifests.errors import ServerMisbehaves

_MAX_ANSWER = 16 * 2**20


@dataclass(frozen=True, slots=True)
class NotificationResponse:
    """`code` is the server's own word for what went wrong, "" when nothing did or it said none."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        return "" if self.ok else notification_error_code(self.body)


def request_time() -> datetime:
    return datetime.now(UTC)


class NotificationClient:
    """Requests as they are, answers as they come: whoever asks judges them. Raises StoreUnavailable without answer.

    XML goes through untouched: a client with a model of it would drop what servers have added to the rules.
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
        """Takes one rule away; only Ceph RGW knows this. Without an Id it would take all of them."""
        if not rule_id:
            raise ValueError("no rule named")
        return await self._ask("DELETE", bucket, self._url(bucket) + quote(rule_id, safe=""))

    async def destinations(self) -> tuple[str, ...] | None:
        """The ARNs that MinIO has been set up to send to; None where that is not told to these keys."""
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
        parts = urlsplit(url)
        now = self._now()
        digest = hashlib.sha256(body).hexdigest()
        headers: dict[str, str | list[str] | tuple[str]] = {
            "Host": parts.netloc,
            "x-amz-content-sha256": digest,
            "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
        }
        if body:
            headers["Content-MD5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
            headers["Content-Type"] = "application/xml"
        if keys.session_token:
            headers["x-amz-security-token"] = keys.session_token
        signed = sign_v4_s3(
            method=method,
            url=parts,
            region=self._settings.region,
            headers=headers,
            credentials=Credentials(keys.access_key, keys.secret_key, keys.session_token),
            content_sha256=digest,
            date=now,
        )
        return {name: str(value) for name, value in signed.items()}


@asynccontextmanager
async def notification_client(settings: S3Settings) -> AsyncGenerator[NotificationClient]:
    """Raises ConfigError when the file with the store's certificates cannot be read."""
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
