"""How the streams of one source stand, told as one condition."""

from __future__ import annotations

from collections.abc import Sequence

from listener.sources.base import Condition, Inbox
from listener.sources.listen.planning import ListenStream
from manifests.errors import GpuDropError


class StreamConditions:
    """A stream that was asked for and has not answered yet says nothing; one in trouble speaks for all."""

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
