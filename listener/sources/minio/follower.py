"""Follows one stream across reconnections, and reports the condition of all streams of one source."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

import structlog

from gpu_dispatch.net.retries import STREAM, STREAM_REFUSED, Failure, Retries
from listener.config.credentials import AccessKeys
from listener.events.envelopes import decode_message
from listener.events.event import MessageChannel, ObjectEvent
from listener.sources.base import Condition, Inbox, deliver
from listener.sources.minio.connection import LineSplitter
from listener.sources.minio.request import ListenClient, ListenStream
from manifests.errors import GpuDropError, StoreDenied


class StreamConditions:
    """The conditions of one source's streams, reported as one.

    A failed stream decides, one that needs a person first; without one all must have answered.
    """

    def __init__(self, inbox: Inbox, name: str) -> None:
        self._inbox = inbox
        self._name = name
        self._streams: dict[ListenStream, GpuDropError | bool] = {}

    def use(self, streams: Sequence[ListenStream]) -> None:
        self._streams = {stream: self._streams.get(stream, False) for stream in streams}
        self._report()

    def connected(self, stream: ListenStream) -> None:
        self._set(stream, True)

    def failed(self, stream: ListenStream, error: GpuDropError) -> None:
        self._set(stream, error)

    def _set(self, stream: ListenStream, state: GpuDropError | bool) -> None:
        if stream in self._streams:
            self._streams[stream] = state
            self._report()

    def _report(self) -> None:
        states = list(self._streams.values())
        problems = sorted((s for s in states if isinstance(s, GpuDropError)), key=lambda error: error.retryable)
        if problems:
            self._inbox.report(self._name, Condition.problem(problems[0]))
        elif not states:
            self._inbox.report(self._name, Condition(True, "no trigger takes anything from these buckets"))
        elif all(states):
            told = ", ".join(sorted(map(str, self._streams)))
            self._inbox.report(self._name, Condition(True, f"events arrive: {told}"))


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.minio")

_KEYS_POLL_S = 1.0
"""Seconds between two checks for other keys after a refusal."""
_MAX_LINE_BYTES = 4 * 2**20

Ended = Callable[[ListenStream, GpuDropError], bool]
"""Called with the error of an ended stream; returns True when the stream is not wanted any more."""


class StreamFollower:
    """Follows one stream and delivers its events."""

    def __init__(
        self, stream: ListenStream, client: ListenClient, inbox: Inbox, conditions: StreamConditions, ended: Ended
    ) -> None:
        self._stream = stream
        self._client = client
        self._inbox = inbox
        self._conditions = conditions
        self._ended = ended
        self._name = client.settings.name
        self._wanted = frozenset(client.settings.buckets)
        self._used: AccessKeys | None = None

    async def follow(self) -> None:
        """Returns when the stream is not wanted any more."""
        probes = replace(STREAM_REFUSED, longest_s=self._client.settings.probe_s)
        try:
            await Retries(STREAM, lasting=probes).call(
                self._listen, on=self._is_wanted_after, on_failure=self._failed, wait=self._wait
            )
        except GpuDropError as e:
            log.info("other_plan", source=self._name, stream=str(self._stream), why=str(e))

    def _is_wanted_after(self, error: Exception) -> bool:
        return isinstance(error, GpuDropError) and not self._ended(self._stream, error)

    def _failed(self, failure: Failure) -> None:
        error, wait_s = failure.gpudrop_error, round(failure.wait_s, 2)
        self._conditions.failed(self._stream, error)
        told = {"source": self._name, "stream": str(self._stream), "error": str(error)}
        if error.retryable:
            log.warning("stream_ended", **told, retry_s=wait_s)
        else:
            log.error("no_stream", **told, code=error.info.code, hint=error.info.hint, probe_s=wait_s)
            self._inbox.gap(self._name, f"no event stream of {self._stream}: {error.info.code}")

    async def _listen(self) -> None:
        """Delivers the events of one connection; always raises the error that ended it."""
        splitter = LineSplitter(_MAX_LINE_BYTES)
        established = False
        self._used = None
        self._used = await self._client.current_keys()
        async with aclosing(self._client.listen(self._stream, self._used)) as stream:
            async for chunk in stream:
                if not established:
                    established = True
                    self._connected()
                await self._take(splitter, chunk)
        raise AssertionError("the stream ended without a reason")

    def _connected(self) -> None:
        log.info("stream_connected", source=self._name, stream=str(self._stream))
        self._conditions.connected(self._stream)
        self._inbox.gap(self._name, f"the event stream of {self._stream} was connected")

    async def _take(self, splitter: LineSplitter, chunk: bytes) -> None:
        dropped = splitter.dropped
        lines = splitter.feed(chunk)
        if not await deliver(self._inbox, self._decoded(lines), source=self._name):
            self._inbox.gap(self._name, "events were accepted slowly: the server may have dropped others")
        if splitter.dropped > dropped:
            self._inbox.count(self._name, "too_large", splitter.dropped - dropped)
            self._inbox.gap(self._name, f"an event was longer than {_MAX_LINE_BYTES} bytes")

    def _decoded(self, lines: list[bytes]) -> list[ObjectEvent]:
        events: list[ObjectEvent] = []
        ignored: Counter[str] = Counter()
        for line in lines:
            message = decode_message(line, MessageChannel.LISTEN, source=self._name)
            for item in message.ignored:
                ignored[item.reason] += 1
                log.debug("record_ignored", source=self._name, reason=item.reason, detail=item.detail)
            for event in message.events:
                if self._wanted and event.bucket not in self._wanted:
                    ignored["other_bucket"] += 1
                else:
                    events.append(event)
        for reason, n in ignored.items():
            self._inbox.count(self._name, reason, n)
        return events

    async def _wait(self, failure: Failure) -> None:
        """Waits for the retry; ends earlier when keys were missing or refused and there are other ones."""
        loop = asyncio.get_running_loop()
        until = loop.time() + failure.wait_s
        looking = self._used is None or isinstance(failure.error, StoreDenied)
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(min(left, _KEYS_POLL_S) if looking else left)
            if looking and await self._has_other_keys():
                return

    async def _has_other_keys(self) -> bool:
        try:
            return await self._client.current_keys() != self._used
        except GpuDropError:
            return False
