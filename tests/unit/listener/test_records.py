"""Real messages of MinIO (tests/events) and whatever else a wire may bring."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.decoding.records import EVENT_NAMES, Ignored, KeyEncoding, decode_message, decode_record
from listener.events import ObjectCreated, ObjectRemoved

EVENTS = Path(__file__).parents[2] / "events"
ENCODINGS = {"listen": KeyEncoding.RAW, "webhook": KeyEncoding.QUERY}
ODD_KEYS = [
    "a|b.mp3",
    "it's.mp3",
    "1+1=2.mp3",
    "100%20sure.mp3",
    "music 🎵.mp3",
    "with  spaces .mp3",
    "é/ü&?#*[].mp3",
    "GOD IS GREATER/SEE GOD'S PLAN UNFOLDING FOR YOU RIGHT NOW | Inspiration | Motivational/audios/audio_final.mp3",
]


def captured(name: str, transport: str) -> list[object]:
    (file,) = EVENTS.glob(f"minio-{transport}-{name}.json*")
    lines = file.read_bytes().splitlines()
    return [item for line in lines for item in decode_message(line, encoding=ENCODINGS[transport], source="s")]


@pytest.mark.parametrize("transport", ENCODINGS)
@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("put", ObjectCreated("drop", "a/talk.job.yaml", "s")),
        ("post", ObjectCreated("drop", "a/form.mp3", "s")),
        ("copy", ObjectCreated("drop", "a/copy.job.yaml", "s")),
        ("multipart", ObjectCreated("drop", "a/big.mp3", "s")),
        ("versioned-put", ObjectCreated("versions", "v.mp3", "s")),
        ("folder-marker", ObjectCreated("drop", "a/folder/", "s")),
        ("delete", ObjectRemoved("drop", "a/copy.job.yaml", "s")),
        ("delete-marker", ObjectRemoved("versions", "v.mp3", "s")),
        ("tagging", Ignored("other_event", "'s3:ObjectCreated:PutTagging'")),
    ],
)
def test_what_minio_sends(name: str, event: object, transport: str) -> None:
    assert captured(name, transport) == [event]


@pytest.mark.parametrize("transport", ENCODINGS)
def test_keys_are_as_users_see_them(transport: str) -> None:
    assert [event.key for event in captured("odd-keys", transport)] == ODD_KEYS  # type: ignore[attr-defined]


@pytest.mark.parametrize("data", [b"", b" ", b"  \r", b'{"Records":null}', b'{"Records":[]}'])
def test_keep_alives_say_nothing(data: bytes) -> None:
    assert decode_message(data, encoding=KeyEncoding.RAW, source="s") == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<Error/>", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b"1" * 10_000, "not_json"),
        (b'{"Event":"s3:TestEvent"}', "no_records"),
        (b'{"Records":{}}', "no_records"),
        (b"[]", "no_records"),
        (b'{"Records":[7]}', "not_a_record"),
        (b'{"Records":[{"eventName":["s3:ObjectCreated:Put"]}]}', "not_a_record"),
        (b'{"Records":[{"eventName":"s3:ObjectCreated:Put","s3":7}]}', "no_bucket"),
        (b'{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":""}}}]}', "no_key"),
        (
            b'{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"\\ud800"}}}]}',
            "key_not_text",
        ),
    ],
)
def test_nonsense_is_named(data: bytes, reason: str) -> None:
    (ignored,) = decode_message(data, encoding=KeyEncoding.RAW, source="s")
    assert isinstance(ignored, Ignored)
    assert ignored.reason == reason


def test_an_escape_that_is_no_utf8_is_named() -> None:
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "a%ff"}}}
    decoded = decode_record(record, encoding=KeyEncoding.QUERY, source="s")
    assert isinstance(decoded, Ignored)
    assert decoded.reason == "key_not_text"
    assert decode_record(record, encoding=KeyEncoding.RAW, source="s") == ObjectCreated("b", "a%ff", "s")


# Nearly right records, so that the walk gets past the first check.
near_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(EVENT_NAMES),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Records", "eventName", "s3", "bucket", "object", "name", "key"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)


@given(st.binary() | near_json.map(lambda value: json.dumps(value).encode()), st.sampled_from(KeyEncoding))
def test_bytes_from_a_wire_never_raise(data: bytes, encoding: KeyEncoding) -> None:
    for item in decode_message(data, encoding=encoding, source="s"):
        assert isinstance(item, ObjectCreated | ObjectRemoved | Ignored)
        if not isinstance(item, Ignored):
            assert item.key.encode()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.sampled_from(EVENT_NAMES), st.booleans())
def test_every_key_comes_through_either_encoding(key: str, name: str, short: bool) -> None:
    for encoding, sent in ((KeyEncoding.RAW, key), (KeyEncoding.QUERY, quote_plus(key))):
        s3 = {"bucket": {"name": "b"}, "object": {"key": sent}}
        message = {"Records": [{"eventName": name.removeprefix("s3:") if short else name, "s3": s3}]}
        (event,) = decode_message(json.dumps(message).encode(), encoding=encoding, source="s")
        assert isinstance(event, ObjectCreated | ObjectRemoved)
        assert event.key == key
