"""Presigned URLs (Signature Version 4), and multipart uploads by presigned URLs."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import unescape
from math import inf
from typing import TypeVar
from urllib.parse import quote, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from gpu_dispatch.task import PartUrls
from listener.config.credentials import AccessKeys
from listener.stores.base import UploadInParts
from listener.stores.s3.clients import S3Settings, connections, object_address
from listener.stores.s3.errors import code_in, error_from_code, s3_error
from manifests.errors import GpuDropError, TransferFailed
from manifests.hosts import ascii_host
from manifests.keys import check_key

MAX_EXPIRES_S = 7 * 86400
"""The longest life that stores accept."""

_ALGORITHM = "AWS4-HMAC-SHA256"


def signing_time() -> float:
    """Returns epoch seconds from the clock that boto3 signs with, so that both are right or wrong together."""
    return datetime.now(UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs URLs with `keys`."""

    settings: S3Settings
    keys: AccessKeys
    until: float = inf
    """When the keys expire, in epoch seconds; URLs expire no later."""
    now: Callable[[], float] = signing_time
    """Gives epoch seconds."""

    def url(
        self,
        method: str,
        bucket: str,
        key: str,
        lifetime_s: float,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "",
    ) -> str:
        now_s = self.now()
        return presigned(
            method,
            object_address(self.settings, bucket, key),
            self.keys,
            region=self.settings.region,
            expires_s=max(1, int(min(lifetime_s, self.until - now_s))),
            now_s=now_s,
            query=query,
            headers={"content-type": content_type} if content_type else None,
        )


def presigned(
    method: str,
    url: str,
    keys: AccessKeys,
    *,
    region: str,
    expires_s: int,
    now_s: float,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> str:
    """Signs `url`, which is percent-encoded and has no query, for `method` from `now_s` (epoch seconds) on.

    Its user must send exactly `headers`; of all others only Host is signed.
    """
    parts = urlsplit(url)
    host = _host(url)
    at = datetime.fromtimestamp(now_s, UTC)
    scope = f"{at:%Y%m%d}/{region}/s3/aws4_request"
    signed = {
        "host": host,
        **{name.lower(): " ".join(value.split()) for name, value in (headers or {}).items()},
    }
    names = ";".join(sorted(signed))
    asked = {
        **(query or {}),
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{keys.access_key}/{scope}",
        "X-Amz-Date": f"{at:%Y%m%dT%H%M%SZ}",
        "X-Amz-Expires": str(min(expires_s, MAX_EXPIRES_S)),
        "X-Amz-SignedHeaders": names,
    }
    if keys.session_token:
        asked["X-Amz-Security-Token"] = keys.session_token
    canonical_query = "&".join(
        sorted(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in asked.items())
    )
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    request = "\n".join((method, parts.path or "/", canonical_query, lines, names, "UNSIGNED-PAYLOAD"))
    digest = hashlib.sha256(request.encode()).hexdigest()
    to_sign = "\n".join((_ALGORITHM, f"{at:%Y%m%dT%H%M%SZ}", scope, digest))
    key = f"AWS4{keys.secret_key}".encode()
    for step in (*scope.split("/"), to_sign):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    return f"{parts.scheme}://{host}{parts.path or '/'}?{canonical_query}&X-Amz-Signature={key.hex()}"


def _host(url: str) -> str:
    """Returns the Host header that clients send and the server checks: lower-case ASCII, no default port."""
    parts = urlsplit(url)
    name = ascii_host(parts.hostname or "") or parts.hostname or ""
    name = f"[{name}]" if ":" in name else name
    usual = 443 if parts.scheme == "https" else 80
    return name if parts.port in (None, usual) else f"{name}:{parts.port}"


_T = TypeVar("_T")

MAX_PARTS = 10_000
"""S3's limit."""
MIN_PART_BYTES = 5 * 2**20
"""S3's limit; the last part may be smaller."""

Sign = Callable[[str, Mapping[str, str]], str]
"""Returns the presigned URL of the upload's key for a method and a query."""

_ASKED_WITHIN_S = 900
_UPLOAD_ID = re.compile(r"<UploadId>([^<]{1,2000})</UploadId>")


class PartSigner:
    """Begins and aborts multipart uploads, which obstore does not offer, by blocking requests in threads."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = replace(settings, public_endpoint=None)
        self._http = connections(settings)

    async def begin(
        self, bucket: str, key: str, content_type: str, size: int, part_bytes: int, sign: Sign
    ) -> UploadInParts:
        """Begins an upload of up to `size` bytes; `sign` makes the worker's URLs.

        Raises StoreUnavailable, StoreDenied, and TransferFailed for a file that does not fit into MAX_PARTS.
        """
        part_bytes = max(part_bytes, MIN_PART_BYTES)
        count = max(1, -(-size // part_bytes))
        if count > MAX_PARTS:
            raise TransferFailed(
                f"A file of {size:,} bytes does not fit into {MAX_PARTS:,} parts of {part_bytes:,} bytes.",
                hint="Ask for larger parts.",
                where=key,
                retryable=False,
            )
        check_key(key)
        doing = f"begin the upload of {key!r}"
        headers = {"Content-Type": content_type or "application/octet-stream"}

        def begin() -> UploadInParts:
            answer = self._ask("POST", bucket, key, {"uploads": ""}, headers)
            text = answer.data.decode(errors="replace")
            found = _UPLOAD_ID.search(text)
            if answer.status != 200 or not found:
                raise self._refused(answer, text, doing, bucket)
            upload_id = unescape(found[1])
            numbers = range(1, count + 1)
            parts = tuple(sign("PUT", {"partNumber": str(each), "uploadId": upload_id}) for each in numbers)
            return UploadInParts(upload_id, PartUrls(part_bytes, parts, sign("POST", {"uploadId": upload_id})))

        return await self._run(bucket, doing, begin)

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        check_key(key)
        doing = f"end the upload of {key!r}"

        def abort() -> None:
            answer = self._ask("DELETE", bucket, key, {"uploadId": upload_id})
            text = answer.data.decode(errors="replace")
            if answer.status not in (200, 204) and code_in(text) != "NoSuchUpload":
                raise self._refused(answer, text, doing, bucket)

        await self._run(bucket, doing, abort)

    def _ask(
        self, method: str, bucket: str, key: str, query: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        signer = Signer(self._settings, self._settings.keys())
        url = signer.url(method, bucket, key, _ASKED_WITHIN_S, query=query)
        return self._http.request(method, url, headers=headers, body=b"" if method == "POST" else None)

    def _refused(self, answer: urllib3.BaseHTTPResponse, text: str, doing: str, bucket: str) -> GpuDropError:
        endpoint = self._settings.endpoint
        return error_from_code(code_in(text), answer.status, text, doing=doing, bucket=bucket, endpoint=endpoint)

    async def _run(self, bucket: str, doing: str, work: Callable[[], _T]) -> _T:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await asyncio.to_thread(work)
        except (HTTPError, TimeoutError) as e:
            raise s3_error(e, doing=doing, bucket=bucket, endpoint=self._settings.endpoint) from e
