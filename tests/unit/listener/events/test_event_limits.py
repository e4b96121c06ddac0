"""What no store sends and anybody may: nothing of it raises, and nothing of it reaches a key that was not named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from listener.events.envelopes import decode_message
from listener.events.event import DecodedMessage, IgnoredRecord, MessageChannel, ObjectCreated
from listener.events.records import EVENT_NAMES

CREATED = "s3:ObjectCreated:Put"


def record(key: Any = "a.mp3", bucket: Any = "drop", **more: Any) -> dict[str, Any]:
    return {"eventName": CREATED, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}, **more}


def told(*records: Any, channel: MessageChannel = MessageChannel.WEBHOOK, **more: Any) -> DecodedMessage:
    return decode_message(json.dumps({"Records": records, **more}).encode(), channel, source="s")


def keys(decoded: DecodedMessage) -> list[str]:
    return [event.key for event in decoded.events]


@pytest.mark.parametrize("data", [b"", b" ", b"  \r", b'{"Records":null}', b'{"Records":[]}'])
def test_keep_alives_say_nothing(data: bytes) -> None:
    assert decode_message(data, MessageChannel.LISTEN, source="s") == DecodedMessage()
    assert not decode_message(data, MessageChannel.LISTEN, source="s").malformed


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<Error/>", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"Records":' * 100_000, "not_json"),
        (b"1" * 10_000, "not_json"),
        (b" " * (16 * 2**20 + 1), "too_large"),
        (b'{"Records":[' + b"{}," * 500_000 + b"{}]}", "too_large"),
        (b"7", "unknown_shape"),
        (b"null", "unknown_shape"),
        (b'"\\ud800"', "unknown_shape"),
        (b"{}", "unknown_shape"),
        (b"[]", "unknown_shape"),
        (b'[{"Event":[]},{}]', "unknown_shape"),
        (b'[{"Event":"s3:TestEvent"}]', "unknown_shape"),
        (b'{"Records":{}}', "unknown_shape"),
        (b'{"Event":"s3:OtherEvent"}', "unknown_shape"),
        (b'{"detail-type":7,"detail":{}}', "unknown_shape"),
        (b'{"key":"/buckets/drop/a.mp3","event_type":"create","message":{}}', "unknown_shape"),
        (b'{"Type":"Notification","Message":"{}"}', "unknown_shape"),
        (b'{"Type":"Notification","TopicArn":"arn:x","Message":"{}"}', "unknown_shape"),
        (b'{"Type":"Notification","TopicArn":"arn:x","Message":7}', "unknown_shape"),
        (b'{"Type":"Notification","TopicArn":"\\ud800","Message":"{\\"Records\\":[]}"}', "unknown_shape"),
        (b'{"Type":"Notification","TopicArn":"a\\nb","Message":"{\\"Records\\":[]}"}', "unknown_shape"),
        (b'{"Type":"Notification","TopicArn":"","Message":"{\\"Records\\":[]}"}', "unknown_shape"),
        (b'{"Type":"SubscriptionConfirmation","TopicArn":"arn:x","SubscribeURL":"a b"}', "unknown_shape"),
        (b'{"Type":["SubscriptionConfirmation"],"TopicArn":"arn:x","SubscribeURL":"https://x"}', "unknown_shape"),
        (b'{"Type":"Notification","TopicArn":"arn:x","Message":"' + b"[" * 100_000 + b'"}', "not_json"),
    ],
)
@pytest.mark.parametrize("channel", MessageChannel)
def test_what_cannot_be_read_is_malformed(data: bytes, reason: str, channel: MessageChannel) -> None:
    decoded = decode_message(data, channel, source="s")
    assert decoded.malformed
    assert [item.reason for item in decoded.ignored] == [reason]
    assert all(len(item.detail) < 500 and item.detail.isascii() for item in decoded.ignored)


@pytest.mark.parametrize("depth", range(200, 1001, 20))
def test_nesting_that_only_just_parses_does_not_raise_later(depth: int) -> None:
    for data in (b'{"Records":' * depth + b"1" + b"}" * depth, b"[" * depth + b"]" * depth):
        assert decode_message(data, MessageChannel.WEBHOOK, source="s").malformed


def test_a_message_of_sns_within_one_of_sns_is_not_opened() -> None:
    inner = {"Type": "Notification", "TopicArn": "arn:b", "Message": json.dumps({"Records": [record()]})}
    outer = {"Type": "Notification", "TopicArn": "arn:a", "Message": json.dumps(inner)}
    decoded = decode_message(json.dumps(outer).encode(), MessageChannel.WEBHOOK, source="s")
    assert decoded.events == ()
    assert (decoded.malformed, decoded.sns_topic) == (True, "arn:a")


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (7, "not_a_record"),
        (None, "not_a_record"),
        ({"eventName": [CREATED]}, "not_a_record"),
        ({"eventName": "\ud800"}, "other_event"),
        ({"eventName": "ObjectCreated:*"}, "other_event"),
        ({"eventName": CREATED, "s3": 7}, "no_bucket"),
        (record(bucket=7), "no_bucket"),
        (record(bucket=""), "no_bucket"),
        (record(key=7), "no_key"),
        (record(key=""), "no_key"),
        (record(key="\ud800"), "key_not_text"),
        (record(key="a\0b"), "key_not_text"),
        (record(key="a%00b", eventSource="minio:s3"), "key_not_text"),
        (record(key="a%ff", eventSource="minio:s3"), "key_not_text"),
        (record(key="a" * 1025), "key_too_long"),
        (record(key="é" * 513), "key_too_long"),
        (record(key="%41" * 1025), "key_too_long"),
    ],
)
def test_a_bad_record_is_named_and_its_neighbours_stay(odd: Any, reason: str) -> None:
    decoded = told(record("first.mp3"), odd, record("last.mp3"))
    assert keys(decoded) == ["first.mp3", "last.mp3"]
    assert [item.reason for item in decoded.ignored] == [reason]
    assert not decoded.malformed


def test_a_key_that_no_spelling_can_make_short_is_not_even_unescaped() -> None:
    (item,) = told(record(key="%" * 1_000_000)).ignored
    assert item.reason == "key_too_long"
    assert item.detail.startswith("1000000 characters")


@pytest.mark.parametrize(
    "bucket",
    ["a/b", "drop/a.mp3", "..", "...", "a..b", "ab", ".hidden", "-a-", "a b", "a%2Fb", "dröp", "a\nb", "a" * 256],
)
def test_what_no_bucket_is_called_is_refused(bucket: str) -> None:
    decoded = told(record(bucket=bucket))
    assert decoded.events == ()
    assert [item.reason for item in decoded.ignored] == ["bad_bucket"]


@pytest.mark.parametrize("bucket", ["drop", "a.b-c", "My_Old_Bucket", "123", "a" * 63, "A" * 255])
def test_buckets_of_all_times_are_taken(bucket: str) -> None:
    assert told(record(bucket=bucket)).events == (ObjectCreated(bucket, "a.mp3", "s"),)


def test_keys_may_be_as_long_as_stores_allow() -> None:
    for key in ("a" * 1024, "é" * 512):
        assert keys(told(record(key))) == [key]
    assert keys(told(record("%C3%A9" * 512, eventSource="minio:s3"))) == ["é" * 512]


@pytest.mark.parametrize("channel", MessageChannel)
@pytest.mark.parametrize("source", [None, 7, "aws:s3", "scality:s3", ["minio:s3"]])
def test_in_doubt_both_readings_are_told(channel: MessageChannel, source: Any) -> None:
    expected = ["a b"] if source == "aws:s3" and channel is MessageChannel.QUEUE else ["a+b", "a b"]
    assert keys(told(record("a+b", eventSource=source), channel=channel)) == expected
    assert keys(told(record("plain.mp3", eventSource=source), channel=channel)) == ["plain.mp3"]


def test_a_reading_that_is_no_key_settles_the_doubt() -> None:
    assert keys(told(record("100%ff.mp3"))) == ["100%ff.mp3"]
    assert keys(told(record("a%00"))) == ["a%00"]
    assert keys(told(record("%C3%A9" * 200))) == ["é" * 200]


@pytest.mark.parametrize("key", ["a+b", "a b"])
def test_a_key_that_the_envelope_repeats_settles_the_doubt(key: str) -> None:
    assert keys(told(record("a+b"), Key=f"drop/{key}")) == [key]


@pytest.mark.parametrize("named", ["drop/other.mp3", "elsewhere/a b", "drop/", "a b", "", 7, None, "drop/\ud800"])
def test_an_envelope_that_speaks_of_something_else_settles_nothing(named: Any) -> None:
    assert keys(told(record("a+b"), Key=named)) == ["a+b", "a b"]


def test_an_envelope_with_several_records_settles_nothing() -> None:
    assert keys(told(record("a+b"), record("a+b"), Key="drop/a b")) == ["a+b", "a b"] * 2


def test_what_the_envelope_repeats_does_not_overrule_a_store_that_is_known() -> None:
    assert keys(told(record("a+b", eventSource="rustfs:s3"), Key="drop/a+b")) == ["a b"]


def test_records_without_an_envelope_are_read_too() -> None:
    assert keys(decode_message(json.dumps([record("a.mp3")]).encode(), MessageChannel.BROKER, source="s")) == ["a.mp3"]


def test_a_hundred_thousand_records_are_read() -> None:
    text = b'{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"drop"},"object":{"key":"a"}}}'
    decoded = decode_message(b'{"Records":[' + b",".join([text] * 100_000) + b"]}", MessageChannel.QUEUE, source="s")
    assert len(decoded.events) == 100_000


def test_the_names_to_ask_a_store_for_are_understood() -> None:
    for name in EVENT_NAMES:
        for spelled in (name, name.removeprefix("s3:")):
            assert not told({**record(), "eventName": spelled}).ignored


def test_details_of_hostile_messages_are_fit_for_a_log() -> None:
    for odd in ({"eventName": "\x1b[2J\n\ud800"}, record(bucket="\x1b]0;x"), record(key="\x1b\ud800")):
        (item,) = told(odd).ignored
        assert isinstance(item, IgnoredRecord)
        assert item.detail.isascii()
        assert item.detail.isprintable()
