"""The pure parts of the sources: lines out of chunks, and when a file is finished."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.events.event import ObjectCreated, ObjectEvent
from listener.sources.base import deliver
from listener.sources.folder_tree import GROWING_SETTLE_S, STABLE_S, FileStability, FileStamp
from listener.sources.minio.connection import LineSplitter
from listener.sources.minio.errors import listen_refused
from manifests.errors import StoreDenied, StoreUnavailable


@given(st.lists(st.binary(max_size=40)), st.data())
def test_lines_come_whole_however_they_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    sent = b"".join(line + b"\n" for line in lines)
    splitter, got, at = LineSplitter(100), [], 0
    while at < len(sent):
        size = data.draw(st.integers(1, 30))
        got += splitter.feed(sent[at : at + size])
        at += size
    assert got == lines


def test_a_line_that_is_too_long_is_left_out_and_counted() -> None:
    splitter = LineSplitter(10)
    assert splitter.feed(b"short\n" + b"x" * 8) == [b"short"]
    assert splitter.feed(b"y" * 8) == []
    assert splitter.feed(b"y" * 8 + b"\nnext\n") == [b"next"]
    assert splitter.dropped == 1
    assert splitter.feed(b"0123456789\n") == [b"0123456789"]


def test_a_file_is_finished_once_it_stays_as_it_is() -> None:
    settling, stamp = FileStability(), FileStamp(5, 1)
    settling.seen("a", stamp, 0.0)
    settling.seen("a", stamp, 0.3)
    assert settling.due(STABLE_S - 0.01) == []
    assert settling.due(STABLE_S) == ["a"]
    assert settling.finished({"a": stamp}, STABLE_S) == ["a"]
    assert len(settling) == 0


def test_a_file_that_grew_or_is_empty_gets_more_time() -> None:
    settling = FileStability()
    settling.seen("grows", FileStamp(5, 1), 0.0)
    settling.seen("empty", FileStamp(0, 1), 0.0)
    assert settling.finished({"grows": FileStamp(9, 2)}, 1.0) == []
    assert settling.due(1.9) == []
    assert settling.due(GROWING_SETTLE_S) == ["empty"]
    assert set(settling.due(1.0 + GROWING_SETTLE_S)) == {"empty", "grows"}
    assert settling.finished({"grows": FileStamp(9, 2), "empty": None}, 3.0) == ["grows"]
    assert len(settling) == 0


@pytest.mark.parametrize(
    ("status", "body", "code", "hint"),
    [
        (403, b"<Error><Code>AccessDenied</Code></Error>", "store_denied", "s3:ListenBucketNotification"),
        (403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>", "store_denied", "GPUDROP_S3_SECRET_KEY"),
        (403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", "store_denied", "NTP"),
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", "config_invalid", "buckets"),
        (501, b"<Error><Code>NotImplemented</Code></Error>", "server_misbehaves", "sources"),
        (400, b"<Error><Code>X</Code><Region>eu-west-1</Region></Error>", "config_invalid", "'eu-west-1'"),
        (302, b"", "config_invalid", "endpoint"),
        (400, b"\xff<html>", "store_denied", ""),
        (503, b"<Error><Code>SlowDown</Code></Error>", "store_unavailable", ""),
        (502, b"<html>", "store_unavailable", ""),
    ],
)
def test_refusals_say_what_to_do(status: int, body: bytes, code: str, hint: str) -> None:
    error = listen_refused(status, body, bucket="b", endpoint="http://s")
    assert error.info.code == code
    assert hint in error.info.hint
    assert error.retryable == (code == "store_unavailable")


class Picky:
    """An inbox that cannot have one key, and now and then nothing at all."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._calls = 0

    async def accept(self, events: Sequence[ObjectEvent]) -> None:
        self._calls += 1
        if self._calls in (1, 3):
            raise StoreUnavailable("away")
        if any(event.key == "bad" for event in events):
            raise StoreDenied("never")
        self.keys += [event.key for event in events]

    def gap(self, source: str, reason: str) -> None:
        raise AssertionError


async def test_one_event_that_can_never_be_accepted_holds_up_no_other() -> None:
    inbox = Picky()
    assert await deliver(inbox, [ObjectCreated("b", key, "s") for key in ("a", "bad", "c")], source="s")
    assert inbox.keys == ["a", "c"]
