"""Uploads in parts by others: an upload is begun here, a worker brings the parts by presigned addresses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from html import unescape
from typing import TypeVar

import urllib3
from minio import Minio
from minio.error import MinioException
from urllib3.exceptions import HTTPError

from gpu_dispatch.task import PartUrls
from listener.store import UploadInParts
from listener.stores.s3_clients import S3Settings, connections, listing_client
from listener.stores.s3_errors import code_in, from_code, translate
from manifests.errors import TransferFailed
from manifests.media import check_key

_T = TypeVar("_T")

MAX_PARTS = 10_000
MIN_PART_BYTES = 5 * 2**20
"""S3's limits; the last part may be smaller."""

Sign = Callable[[str, Mapping[str, str]], str]
"""Gives the presigned address of the upload's key, for a method and a query."""

_UPLOAD_ID = re.compile(r"<UploadId>([^<]{1,2000})</UploadId>")


@dataclass(frozen=True, slots=True)
class _Place:
    bucket: str
    key: str
    expires: timedelta


class PartSigner:
    """Begins and ends with minio's client: obstore knows no upload. Blocks, so everything runs in a thread."""

    def __init__(self, settings: S3Settings) -> None:
        self._endpoint = settings.endpoint
        self._timeout_s = settings.timeout_s
        self._here = listing_client(settings)
        self._http = connections(settings)

    async def begin(
        self, bucket: str, key: str, content_type: str, size: int, part_bytes: int, sign: Sign
    ) -> UploadInParts:
        """`sign` makes the worker's addresses.

        Raises StoreUnavailable, StoreDenied, and TransferFailed for a file that no upload in parts can hold.
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
        place = _Place(bucket, check_key(key), timedelta(minutes=15))
        return await self._run(
            bucket, f"begin the upload of {key!r}", lambda: self._begin(place, count, part_bytes, content_type, sign)
        )

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        place = _Place(bucket, check_key(key), timedelta(minutes=15))
        doing = f"end the upload of {key!r}"
        await self._run(bucket, doing, lambda: self._abort(place, upload_id, doing))

    def _begin(self, place: _Place, count: int, part_bytes: int, content_type: str, sign: Sign) -> UploadInParts:
        doing = f"begin the upload of {place.key!r}"
        headers = {"Content-Type": content_type or "application/octet-stream"}
        url = _signed(self._here, "POST", place, {"uploads": ""})
        answer = self._http.request("POST", url, headers=headers, body=b"")
        text = answer.data.decode(errors="replace")
        found = _UPLOAD_ID.search(text)
        if answer.status != 200 or not found:
            raise from_code(
                code_in(text), answer.status, text, doing=doing, bucket=place.bucket, endpoint=self._endpoint
            )
        upload_id = unescape(found[1])
        parts = tuple(sign("PUT", {"partNumber": str(number), "uploadId": upload_id}) for number in range(1, count + 1))
        complete = sign("POST", {"uploadId": upload_id})
        return UploadInParts(upload_id, PartUrls(part_bytes, parts, complete))

    def _abort(self, place: _Place, upload_id: str, doing: str) -> None:
        url = _signed(self._here, "DELETE", place, {"uploadId": upload_id})
        answer: urllib3.BaseHTTPResponse = self._http.request("DELETE", url)
        text = answer.data.decode(errors="replace")
        code = code_in(text)
        if answer.status not in (200, 204) and code != "NoSuchUpload":
            raise from_code(code, answer.status, text, doing=doing, bucket=place.bucket, endpoint=self._endpoint)

    async def _run(self, bucket: str, doing: str, work: Callable[[], _T]) -> _T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.to_thread(work)
        except (MinioException, HTTPError, TimeoutError, ValueError) as e:
            raise translate(e, doing=doing, bucket=bucket, endpoint=self._endpoint) from e


def _signed(client: Minio, method: str, place: _Place, query: dict[str, str]) -> str:
    """Only the host is signed."""
    return client.get_presigned_url(
        method, place.bucket, place.key, expires=place.expires, extra_query_params=dict(query)
    )
