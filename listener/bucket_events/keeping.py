"""The rules of buckets on a real server: read, and changed without losing what others put there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from listener.bucket_events.asking import NotificationClient, NotificationResponse
from listener.bucket_events.entries import NotificationDocument, notification_document_bytes, read_notification_document
from listener.bucket_events.merging import RulesChange, arrived
from listener.bucket_events.servers import NotificationServer, recognise_server, why_no_rules
from listener.bucket_events.troubles import READ, WRITE, not_kept, request_refused, rules_refused
from manifests.errors import StoreUnavailable

_LOOKS = 4
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class CurrentRules:
    server: NotificationServer
    document: NotificationDocument


class RulesKeeper:
    """`endpoint` is named in errors. Every error is a GpuDropError."""

    def __init__(self, api: NotificationClient, endpoint: str) -> None:
        self._api = api
        self._endpoint = endpoint

    async def read(self, bucket: str) -> CurrentRules:
        """Raises ConfigError for servers that keep no rules; they are asked nothing but this."""
        answer = await self._api.get(bucket)
        server = recognise_server(answer.headers)
        if problem := why_no_rules(server, answer.status, answer.code):
            raise problem
        if not answer.ok:
            raise request_refused(answer.status, answer.body, action=READ, bucket=bucket, endpoint=self._endpoint)
        return CurrentRules(server, read_notification_document(answer.body))

    async def destinations(self) -> tuple[str, ...] | None:
        """See NotificationApi."""
        return await self._api.destinations()

    async def write(self, bucket: str, change: RulesChange) -> None:
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
        if now.server is NotificationServer.CEPH:
            await self._write_single(bucket, change)
        else:
            answer = await self._api.put(bucket, notification_document_bytes(change.after.entries))
            await self._check(answer, bucket, change, now.server)
        await self._see(bucket, change, now.server)

    async def _write_single(self, bucket: str, change: RulesChange) -> None:
        """Ceph RGW adds what a request names to what is there; one that names nothing takes everybody's rules away."""
        if new := (*change.added, *(new for _, new in change.changed)):
            await self._check(
                await self._api.put(bucket, notification_document_bytes(new)), bucket, change, NotificationServer.CEPH
            )
        for entry in change.removed:
            answer = await self._api.delete(bucket, entry.id)
            if not answer.ok:
                raise request_refused(answer.status, answer.body, action=WRITE, bucket=bucket, endpoint=self._endpoint)

    async def _check(
        self, answer: NotificationResponse, bucket: str, change: RulesChange, server: NotificationServer
    ) -> None:
        if answer.ok:
            return
        known = await self._api.destinations() if server is NotificationServer.MINIO else None
        raise rules_refused(answer.status, answer.body, change, known, bucket=bucket, endpoint=self._endpoint)

    async def _see(self, bucket: str, change: RulesChange, server: NotificationServer) -> None:
        """Amazon shows a bucket's new settings after a moment only."""
        for look in range(_LOOKS):
            if arrived(change, (await self.read(bucket)).document):
                return
            if server is not NotificationServer.AMAZON:
                break
            await asyncio.sleep(_LOOK_S * look)
        raise not_kept(change, server.value, bucket)
