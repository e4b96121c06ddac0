"""Probes a job's links as a hostile worker would: copies another object, whole and as a part, and reads it.

Bytes decide, not statuses: an ignored header is safe, and so are a folder's paths. As found:

store                                  signed with           copy    part    verdict
MinIO 2025-09-07 and archived head     temporary keys        403     403     safe
MinIO 2025-09-07, a service account    the listener's keys   copied  copied  unsafe
MinIO, both, `sts.mode: off`           the listener's keys   copied  copied  unsafe
VersityGW 1.8.0 (STS: 405)             the listener's keys   403     403     safe
SeaweedFS 4.48 (STS: 503)              the listener's keys   403     403     safe
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
import urllib3
from urllib3.exceptions import HTTPError

from listener.stores.base import JobObjects, LinkReport, ObjectMeta
from listener.stores.s3.links import LinkMaker, S3JobLinks
from listener.stores.s3.policies import deny_copies
from listener.stores.s3.presign import MIN_PART_BYTES, PartSigner
from manifests.errors import GpuDropError

if TYPE_CHECKING:
    from listener.stores.s3.store import S3Store

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.stores")

FOLDER = ".gpudrop/link-check/"
STALE_S = 3600.0
"""Age after which an object there is left over from an interrupted probe, in seconds."""

_CANARY = b"Nobody's job may read this."
_OWN = b"What the job itself has written."
_LIVES_S = 900
_UNKNOWN = (
    "See what the store's policies, and whatever stands before it, do to presigned requests and to their answers."
)


@dataclass(frozen=True, slots=True)
class ProbeAnswers:
    """HTTP statuses of the answers (0: none), and whether bytes were copied."""

    plain: int
    """To an ordinary write."""
    copy: int
    part_copy: int
    elsewhere: int
    """To reading another object with the signature of the job's output."""
    copied: bool
    """Whether the job's output has the canary's bytes."""
    part_copied: bool


class LinkProbe:
    """Probes at the store's own endpoint, because the listener may not reach the public one."""

    def __init__(self, store: S3Store, maker: LinkMaker, parts: PartSigner, http: urllib3.PoolManager) -> None:
        self._store = store
        self._maker = maker
        self._parts = parts
        self._http = http

    async def report(self, bucket: str) -> LinkReport:
        """Probes one bucket. Raises StoreUnavailable, and StoreDenied if the listener's own keys do not suffice."""
        await self._sweep(bucket)
        folder = f"{FOLDER}{uuid.uuid4().hex}/"
        canary, output = f"{folder}canary", f"{folder}output"
        await self._store.put(bucket, canary, _CANARY, content_type="text/plain")
        try:
            objects = JobObjects(reads=((bucket, output),), writes=((bucket, output),))
            links = await self._maker.links(objects, _LIVES_S, inside=True)
            seen = await self._probe(links, bucket, canary, output)
        finally:
            for key in (canary, output):
                await self._store.delete(bucket, key)
        return probe_verdict(seen, bucket, narrowed=links.narrowed, absence=self._maker.absence)

    async def _sweep(self, bucket: str) -> None:
        """Removes what earlier probes left; errors are logged only, because the keys may lack the right to list."""
        before = datetime.now(UTC) - timedelta(seconds=STALE_S)
        try:
            async for item in self._store.list(bucket, FOLDER):
                if isinstance(item, ObjectMeta) and item.last_modified < before:
                    await self._store.delete(bucket, item.key)
        except GpuDropError as e:
            log.info("link_checks_left", bucket=bucket, code=e.info.code, error=str(e))

    async def _probe(self, links: S3JobLinks, bucket: str, canary: str, output: str) -> ProbeAnswers:
        source = {"x-amz-copy-source": f"/{bucket}/{canary}"}
        put, get = await links.sign("PUT", bucket, output), await links.sign("GET", bucket, output)
        plain = await self._ask("PUT", put)
        copy = await self._ask("PUT", put, source)
        found = await self._store.read(bucket, output, max_bytes=2**16)
        elsewhere = await self._ask("GET", get.replace(output, canary))
        upload = await links.sign_parts(bucket, output, size_hint=1, part_bytes=MIN_PART_BYTES)
        try:
            part = await self._ask("PUT", upload.urls.parts[0], source)
        finally:
            await self._parts.abort(bucket, output, upload.id)
        return ProbeAnswers(
            plain.status,
            copy.status,
            part.status,
            elsewhere.status,
            copied=found == _CANARY,
            part_copied=part.status == 200 and b"CopyPartResult" in part.data,
        )

    async def _ask(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> urllib3.BaseHTTPResponse:
        body = _OWN if method == "PUT" else None
        try:
            return await asyncio.to_thread(
                self._http.request, method, url, body=body, headers=dict(headers or {}), retries=False
            )
        except HTTPError:
            return urllib3.HTTPResponse(b"", status=0)


def probe_verdict(seen: ProbeAnswers, bucket: str, *, narrowed: bool, absence: str) -> LinkReport:
    """Judges the answers. `absence`: why links are signed with the listener's own keys; "" if they are not."""
    whose = "temporary keys of each job" if narrowed else "the listener's own keys"
    if not narrowed and absence:
        whose += f" (no temporary ones: {absence})"
    head = f"links are signed with {whose}"
    if seen.copied or seen.part_copied or seen.elsewhere == 200:
        detail = (
            f"{head}, and a worker can read every object that these may read: the store copies for whoever has a link"
        )
        return LinkReport(False, narrowed, detail, _remedy(bucket))
    if seen.plain // 100 != 2 or not all(
        _is_definite(status) for status in (seen.copy, seen.part_copy, seen.elsewhere)
    ):
        told = f"write {seen.plain}, copy {seen.copy}, part {seen.part_copy}, other object {seen.elsewhere}"
        return LinkReport(
            None, narrowed, f"{head}; whether they open more than a job's objects is not known ({told})", _UNKNOWN
        )
    return LinkReport(True, narrowed, f"{head}; a copy of another object was refused ({seen.copy})"
                      if seen.copy // 100 == 4 else f"{head}; the wish to copy another object was ignored")  # fmt: skip


def _is_definite(status: int) -> bool:
    """Returns whether the status is a definite success or refusal."""
    return status // 100 in (2, 4) and status not in (408, 429)


def _remedy(bucket: str) -> str:
    return (
        "On MinIO give the listener keys of a user (not a service account): then each job gets temporary keys. "
        f"Or add this to that user's policy, or elsewhere to the bucket's: {deny_copies([bucket])} "
        "Workers you trust with everything in the store need neither: store.trust_workers: true."
    )
