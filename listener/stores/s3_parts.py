"""Uploads in parts by others: an upload is begun here, a worker brings the parts by presigned addresses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from html import unescape
from typing import TypeVar

import urllib3
from urllib3.exceptions import HTTPError

from gpu_dispatch.task import PartUrls
from listener.store import UploadInParts
from listener.stores.s3_clients import S3Settings, connections
from listener.stores.s3_errors import code_in, error_from_code, s3_error
from listener.stores.s3_presign import Signer
from manifests.errors import GpuDropError, TransferFailed
from manifests.keys import check_key

_T = TypeVar("_T")

MAX_PARTS = 10_000
MIN_PART_BYTES = 5 * 2**20
"""S3's limits; the last part may be smaller."""

Sign = Callable[[str, Mapping[str, str]], str]
"""Gives the presigned address of the upload's key, for a method and a query."""

_ASKED_WITHIN_S = 900
_UPLOAD_ID = re.compile(r"<UploadId>([^<]{1,2000})</UploadId>")


class PartSigner:
    """Begins and ends uploads by requests of its own: obstore knows none. They block, so all of it runs in a thread."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = replace(settings, public_endpoint=None)
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
