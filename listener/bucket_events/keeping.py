"""The rules of buckets on a real server: read, and changed without losing what others put there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from listener.bucket_events.asking import Answer, NotificationApi
from listener.bucket_events.entries import Document, document_bytes, read_document
from listener.bucket_events.merging import Change, arrived
from listener.bucket_events.servers import Server, cannot, recognise
from listener.bucket_events.troubles import READ, WRITE, not_kept, refused, refused_rules
from manifests.errors import StoreUnavailable

_LOOKS = 4
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Reading:
    server: Server
    document: Document


class Keeper:
    """`endpoint` is named in errors. Every error is a GpuDropError."""

    def __init__(self, api: NotificationApi, endpoint: str) -> None:
        self._api = api
        self._endpoint = endpoint

    async def read(self, bucket: str) -> Reading:
        """Raises ConfigError for servers that keep no rules; they are asked nothing but this."""
        answer = await self._api.get(bucket)
        server = recognise(answer.headers)
        if problem := cannot(server, answer.status, answer.code):
            raise problem
        if not answer.ok:
            raise refused(answer.status, answer.body, action=READ, bucket=bucket, endpoint=self._endpoint)
        return Reading(server, read_document(answer.body))

    async def destinations(self) -> tuple[str, ...] | None:
        """See NotificationApi."""
        return await self._api.destinations()

    async def write(self, bucket: str, change: Change) -> None:
        """Reads again just before, and raises StoreUnavailable when somebody was quicker: nothing is written then.

        No server has a condition for this request, so what is written in the very moment between is not seen.
        """
        now = await self.read(bucket)
        if now.document != change.before:
            raise StoreUnavailable(
                f"The rules of bucket {bucket!r} were changed by somebody else just now; nothing was written.",
                hint="Run the command again.",
                where=bucket,
            )
        if now.server is Server.CEPH:
            await self._write_single(bucket, change)
        else:
            answer = await self._api.put(bucket, document_bytes(change.after.entries))
            await self._check(answer, bucket, change, now.server)
        await self._see(bucket, change, now.server)

    async def _write_single(self, bucket: str, change: Change) -> None:
        """Ceph RGW adds what a request names to what is there; one that names nothing takes everybody's rules away."""
        if new := (*change.added, *(new for _, new in change.changed)):
            await self._check(await self._api.put(bucket, document_bytes(new)), bucket, change, Server.CEPH)
        for entry in change.removed:
            answer = await self._api.delete(bucket, entry.id)
            if not answer.ok:
                raise refused(answer.status, answer.body, action=WRITE, bucket=bucket, endpoint=self._endpoint)

    async def _check(self, answer: Answer, bucket: str, change: Change, server: Server) -> None:
        if answer.ok:
            return
        known = await self._api.destinations() if server is Server.MINIO else None
        raise refused_rules(answer.status, answer.body, change, known, bucket=bucket, endpoint=self._endpoint)

    async def _see(self, bucket: str, change: Change, server: Server) -> None:
        """Amazon shows a bucket's new settings after a moment only."""
        for look in range(_LOOKS):
            if arrived(change, (await self.read(bucket)).document):
                return
            if server is not Server.AMAZON:
                break
            await asyncio.sleep(_LOOK_S * look)
        raise not_kept(change, server.value, bucket)
