"""What the messages in tests/events mean. Their names say by which way they came."""

from __future__ import annotations

from pathlib import Path

import pytest

from listener.events.envelopes import decode_message
from listener.events.event import (
    DecodedMessage,
    IgnoredRecord,
    MessageChannel,
    ObjectCreated,
    ObjectEvent,
    ObjectRemoved,
    SnsConfirmation,
)

EVENTS = Path(__file__).parents[3] / "events"
CHANNELS = {
    "listen": MessageChannel.LISTEN,
    "webhook": MessageChannel.WEBHOOK,
    "sqs": MessageChannel.QUEUE,
    "nats": MessageChannel.BROKER,
    "redis": MessageChannel.BROKER,
}
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
KEY = "in/a b+c%20.mp3"
TOPIC = "arn:aws:sns:us-west-2:123456789012:drops"


def created(key: str = KEY, bucket: str = "drop") -> ObjectCreated:
    return ObjectCreated(bucket, key, "s")


def removed(key: str = KEY, bucket: str = "drop") -> ObjectRemoved:
    return ObjectRemoved(bucket, key, "s")


def other(name: str) -> IgnoredRecord:
    return IgnoredRecord("other_event", repr(name))


TEST_EVENT = IgnoredRecord("test_event")

MINIO: dict[str, list[ObjectEvent | IgnoredRecord]] = {
    "put": [created("a/talk.job.yaml")],
    "post": [created("a/form.mp3")],
    "copy": [created("a/copy.job.yaml")],
    "multipart": [created("a/big.mp3")],
    "versioned-put": [created("v.mp3", "versions")],
    "folder-marker": [created("a/folder/")],
    "delete": [removed("a/copy.job.yaml")],
    "delete-marker": [removed("v.mp3", "versions")],
    "tagging": [other("s3:ObjectCreated:PutTagging")],
}
VERSITYGW = {
    **{case: found for case, found in MINIO.items() if case != "post"},
    "bulk-delete": [removed("d1+1.mp3"), removed("d 2.mp3")],
    "tagging": [other("s3:ObjectTagging:Put")],
    "test": [TEST_EVENT],
}
BROKER: dict[str, list[ObjectEvent | IgnoredRecord]] = {
    "put": [created("a/talk.job.yaml")],
    "delete": [removed("a/talk.job.yaml")],
}
MOTO: dict[str, list[ObjectEvent | IgnoredRecord]] = {
    "sqs-put": [created("a/talk.job.yaml")],
    "sqs-multipart": [created("a/big.mp3"), created("a/big.mp3")],
    "sqs-delete": [removed("a/talk.job.yaml")],
    "sqs-test": [TEST_EVENT],
    "sqs-sns-put": [created("a b+c%20.mp3", "drop2")],
    "sqs-snsraw-put": [created("a b+c%20.mp3", "drop2")],
    "webhook-sns": [TEST_EVENT, created("a b+c%20.mp3", "drop2")],
    "sqs-eventbridge-put": [created("a b+c%20.mp3", "drop3"), other("Object Tags Added")],
    "sqs-eventbridge-delete": [removed("a b+c%20.mp3", "drop3")],
}
AWS: dict[str, list[ObjectEvent | IgnoredRecord]] = {
    "put": [created()],
    "post": [created()],
    "copy": [created()],
    "multipart": [created()],
    "delete": [removed()],
    "delete-marker": [removed()],
    "lifecycle-delete": [removed()],
    "lifecycle-marker": [removed()],
    "two-records": [created("a.mp3"), removed("b.mp3")],
    "tagging": [other("ObjectTagging:Put")],
    "acl": [other("ObjectAcl:Put")],
    "restored": [other("ObjectRestore:Completed")],
    "transition": [other("LifecycleTransition")],
    "tiering": [other("IntelligentTiering")],
    "replicated": [other("Replication:OperationReplicatedAfterThreshold")],
    "test": [TEST_EVENT],
    "sns-eventbridge-put": [created()],
    "eventbridge-put": [created()],
    "eventbridge-post": [created()],
    "eventbridge-copy": [created()],
    "eventbridge-multipart": [created()],
    "eventbridge-delete": [removed()],
    "eventbridge-delete-marker": [removed()],
    "eventbridge-lifecycle": [removed()],
    "eventbridge-tags": [other("Object Tags Added")],
    "eventbridge-restored": [other("Object Restore Completed")],
}
AWS_WEBHOOK: dict[str, list[ObjectEvent | IgnoredRecord]] = {
    "sns-put": [created()],
    "sns-test": [TEST_EVENT],
    "sns-text": [IgnoredRecord("not_json", "'Hello from another publisher'")],
    # Nothing tells raw delivery by Amazon SNS from a store that does not escape.
    "snsraw-put": [created("in/a+b%2Bc%2520.mp3"), created()],
    "snsraw-plain": [created("in/a.mp3")],
    "sns-subscribe": [],
    "sns-unsubscribe": [],
}
RGW: dict[str, list[ObjectEvent | IgnoredRecord]] = {
    "put": [created()],
    "put-prefixed": [created()],
    "multipart": [created()],
    "synced": [created()],
    "delete": [removed()],
    "delete-marker": [removed()],
    "expired": [removed()],
    "expired-noncurrent": [other("ObjectLifecycle:Expiration:NonCurrent")],
    "transition": [other("ObjectLifecycle:Transition:Current")],
}
RUSTFS: dict[str, list[ObjectEvent | IgnoredRecord]] = {
    "listen-ping": [],
    "listen-put": [created()],
    "listen-delete": [removed()],
    "webhook-put": [created()],
    "webhook-multipart": [created()],
    "webhook-delete": [removed()],
    "webhook-tagging": [other("s3:ObjectCreated:PutTagging")],
    "webhook-without-key": [IgnoredRecord("no_key")],
}
MEANINGS: dict[str, list[ObjectEvent | IgnoredRecord]] = {
    **{f"minio-{way}-{case}": found for way in ("listen", "webhook") for case, found in MINIO.items()},
    **{f"minio-{way}-{case}": found for way in ("nats", "redis") for case, found in BROKER.items()},
    **{f"versitygw-webhook-{case}": found for case, found in VERSITYGW.items()},
    **{f"moto-{case}": found for case, found in MOTO.items()},
    **{f"aws-sqs-{case}": found for case, found in AWS.items()},
    **{f"aws-webhook-{case}": found for case, found in AWS_WEBHOOK.items()},
    **{f"rgw-webhook-{case}": found for case, found in RGW.items()},
    **{f"rustfs-{case}": found for case, found in RUSTFS.items()},
}
MESSAGES = sorted(file.stem for file in EVENTS.glob("*.json*"))
ODD = [name for name in MESSAGES if name.endswith("-odd-keys")]


def read(name: str) -> list[DecodedMessage]:
    (file,) = EVENTS.glob(f"{name}.json*")
    data = file.read_bytes()
    channel = CHANNELS[name.split("-")[1]]
    messages = [data] if file.suffix == ".json" else data.splitlines()
    return [decode_message(message, channel, source="s") for message in messages]


def test_every_file_has_a_meaning_here() -> None:
    assert sorted({*MEANINGS, *ODD}) == MESSAGES


@pytest.mark.parametrize("name", MEANINGS)
def test_messages_of_all_stores(name: str) -> None:
    decoded = read(name)
    assert [item for one in decoded for item in (*one.events, *one.ignored)] == MEANINGS[name]
    assert [one.malformed for one in decoded] == [name == "aws-webhook-sns-text"] * len(decoded)


@pytest.mark.parametrize("name", ODD)
def test_keys_are_as_users_see_them(name: str) -> None:
    assert [event.key for one in read(name) for event in one.events if event.key != "a b+c%20.mp3"] == ODD_KEYS


def test_odd_keys_came_by_every_way_of_every_store() -> None:
    assert {name.rsplit("-", 2)[0] for name in ODD} == {
        *("minio-listen", "minio-webhook", "minio-nats", "minio-redis", "versitygw-webhook", "moto-sqs"),
        *("aws-sqs", "aws-sqs-eventbridge", "rgw-webhook", "rustfs-listen", "rustfs-webhook"),
    }


@pytest.mark.parametrize("name", [name for name in MESSAGES if "sns-" in name or name == "moto-webhook-sns"])
def test_what_amazon_sns_wraps_keeps_the_name_of_its_topic(name: str) -> None:
    for one in read(name):
        if one.confirmation is None:
            assert one.sns_topic == ("arn:aws:sns:us-east-1:123456789012:drops" if name.startswith("moto") else TOPIC)


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
def test_confirmations_of_amazon_sns_are_handed_on(kind: str) -> None:
    (one,) = read(f"aws-webhook-sns-{kind}")
    assert isinstance(one.confirmation, SnsConfirmation)
    assert (one.confirmation.kind, one.confirmation.topic_arn) == (kind, TOPIC)
    assert one.confirmation.subscribe_url.startswith("https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription")
    assert not one.events
    assert not one.ignored
