"""Properties of decoding that hold for every message and every key."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote_plus

from hypothesis import given, settings
from hypothesis import strategies as st

from listener.events.envelopes import decode_message
from listener.events.event import DecodedMessage, IgnoredRecord, MessageChannel, ObjectCreated, ObjectRemoved
from listener.events.records import EVENT_NAMES, KINDS

EVENTS = Path(__file__).parents[3] / "events"
DOCUMENTS = [json.loads(line) for file in sorted(EVENTS.glob("*.json*")) for line in file.read_text().splitlines()]

channels = st.sampled_from(MessageChannel)
usable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=300)
keys = (usable | st.text("ab/+% 20é", min_size=1, max_size=40)).filter(lambda key: len(key.encode()) <= 1024)


def strings(value: Any) -> Iterator[str]:
    """Every text in a document, and in documents within its texts."""
    if isinstance(value, str):
        yield value
        if value.startswith(("{", "[")):
            with contextlib.suppress(ValueError):
                yield from strings(json.loads(value))
    elif isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from strings(member)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def places(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for name, member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(member, *path, name)


def check(decoded: DecodedMessage, document: Any) -> None:
    """What holds of whatever was decoded from `document`."""
    found = set(strings(document))
    for event in decoded.events:
        assert isinstance(event, ObjectCreated | ObjectRemoved)
        assert event.bucket in found
        assert "/" not in event.bucket
        assert event.key in found or any(unquote_plus(text) == event.key for text in found)
        assert 0 < len(event.key.encode()) <= 1024
        assert "\0" not in event.key
    for item in decoded.ignored:
        assert isinstance(item, IgnoredRecord)
        assert item.detail.isascii()
    if decoded.confirmation is not None:
        assert {decoded.confirmation.topic_arn, decoded.confirmation.subscribe_url} <= found
        assert not decoded.events


@given(st.binary(max_size=300), channels)
def test_no_bytes_raise(data: bytes, channel: MessageChannel) -> None:
    assert not decode_message(data, channel, source="s").events


@given(st.sampled_from(DOCUMENTS), channels, st.data())
def test_broken_off_and_damaged_messages_do_not_raise(
    document: Any, channel: MessageChannel, data: st.DataObject
) -> None:
    sent = bytearray(json.dumps(document, ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(sent[: data.draw(st.integers(0, len(sent)))])
    for message in (bytes(sent), cut):
        decoded = decode_message(message, channel, source="s")
        assert all("/" not in event.bucket and event.key.encode() for event in decoded.events)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A message with some of its members replaced, dropped, or moved from elsewhere in it."""
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    odd = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(sorted(KINDS))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([place for place in places(document) if place] or [()]))
        if not path:
            return draw(odd)
        parent = document
        for step in path[:-1]:
            parent = parent[step]
        kind = draw(st.sampled_from(["replace", "drop", "wrap", "move"]))
        if kind == "drop" and isinstance(parent, dict):
            del parent[path[-1]]
        elif kind == "wrap":
            parent[path[-1]] = draw(st.sampled_from([[parent[path[-1]]], {"name": parent[path[-1]]}]))
        elif kind == "move":
            parent[path[-1]] = copy.deepcopy(draw(st.sampled_from([document, draw(st.sampled_from(DOCUMENTS))])))
        else:
            parent[path[-1]] = draw(odd | st.lists(odd, max_size=2))
    return document


@settings(max_examples=300)
@given(mutated(), channels)
def test_no_message_yields_a_bucket_or_key_that_it_does_not_name(document: Any, channel: MessageChannel) -> None:
    check(decode_message(json.dumps(document).encode(), channel, source="s"), document)


NAMES = (
    *("Records", "eventName", "eventSource", "s3", "bucket", "object", "name", "key", "Key", "Event"),
    *("Type", "TopicArn", "Message", "SubscribeURL", "detail-type", "detail"),
)
near_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(EVENT_NAMES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)


@given(near_json, channels)
def test_nearly_right_documents_do_not_raise(document: Any, channel: MessageChannel) -> None:
    check(decode_message(json.dumps(document).encode(), channel, source="s"), document)


def message(key: str, source: str | None, name: str = "s3:ObjectCreated:Put", arn: str = "arn:aws:s3:::drop") -> bytes:
    s3 = {"bucket": {"name": "drop", "arn": arn}, "object": {"key": key}}
    return json.dumps({"Records": [{"eventName": name, "eventSource": source, "s3": s3}]}).encode()


def told(data: bytes, channel: MessageChannel) -> list[str]:
    decoded = decode_message(data, channel, source="s")
    assert not decoded.ignored
    return [event.key for event in decoded.events]


@given(keys, st.sampled_from(sorted(KINDS)))
def test_every_key_comes_through_every_spelling_that_is_known(key: str, name: str) -> None:
    for escaped in (quote_plus(key), quote_plus(key, safe="/"), quote(key, safe="")):
        assert told(message(escaped, "minio:s3", name), MessageChannel.WEBHOOK) == [key]
        assert told(message(escaped, "minio:s3", name), MessageChannel.BROKER) == [key]
        assert told(message(escaped, "rustfs:s3", name), MessageChannel.LISTEN) == [key]
        assert told(message(escaped, "rustfs:s3", name), MessageChannel.WEBHOOK) == [key]
        assert told(message(escaped, "aws:s3", name), MessageChannel.QUEUE) == [key]
    assert told(message(key, "minio:s3", name), MessageChannel.LISTEN) == [key]
    assert told(message(key, "ceph:s3", name), MessageChannel.WEBHOOK) == [key]
    assert told(message(key, "ceph:s3", name), MessageChannel.BROKER) == [key]
    assert told(message(key, "aws:s3", name, f"arn:aws:s3:::/drop/{key}"), MessageChannel.BROKER) == [key]


@given(keys, channels, st.sampled_from(["aws:s3", "other:s3", None]))
def test_in_doubt_the_key_is_among_at_most_two(key: str, channel: MessageChannel, source: str | None) -> None:
    for spelled in (key, quote_plus(key)):
        if spelled == key and source == "aws:s3" and channel is MessageChannel.QUEUE:
            continue
        found = told(message(spelled, source), channel)
        assert key in found
        assert len(found) == len(set(found)) <= 2


@given(keys, channels)
def test_every_key_comes_through_the_envelopes_of_aws(key: str, channel: MessageChannel) -> None:
    wrapped = {
        "Type": "Notification",
        "TopicArn": "arn:aws:sns:x",
        "Message": message(quote_plus(key), "aws:s3").decode(),
    }
    assert told(json.dumps(wrapped).encode(), channel) == [key]
    detail = {"bucket": {"name": "drop"}, "object": {"key": key}}
    bridged = json.dumps({"detail-type": "Object Created", "source": "aws.s3", "detail": detail})
    assert told(bridged.encode(), channel) == [key]
    assert told(json.dumps({**wrapped, "Message": bridged}).encode(), channel) == [key]
