"""What is said to whoever sets up notification rules: what to do on the server, and what went wrong there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from listener.config.environment import SourceSecrets
from listener.config.loader import parse_config
from listener.config.source_kinds import SourceSettings
from listener.notifications.amazon import lets_s3_send, statement
from listener.notifications.client import WRITE, request_refused, rules_refused
from listener.notifications.rules import QUEUE, TOPIC, NotificationDocument, merge_rules, rule
from listener.notifications.servers import NotificationServer, recognise_server, server_variables, why_no_rules
from listener.notifications.targets import KnownServer, NotificationTarget, choose_target, named_targets, needs_target
from listener.triggers.filters import Filter
from manifests.errors import ConfigError, ServerMisbehaves, StoreDenied, StoreUnavailable

STORE = {"kind": "s3", "endpoint": "http://h:1", "buckets": ["drop"]}
QUEUE_ARN = "arn:aws:sqs:eu-west-1:123456789012:drops"


def sources(*given: Any) -> tuple[SourceSettings, ...]:
    return parse_config({"store": STORE, "sources": list(given)}, origin="test").sources


def nothing(name: str) -> SourceSecrets:
    return SourceSecrets()


@pytest.mark.parametrize(
    ("headers", "server"),
    [
        ({"Server": "MinIO"}, NotificationServer.MINIO),
        ({"server": "AmazonS3"}, NotificationServer.AMAZON),
        ({"Server": "Ceph Object Gateway (tentacle)"}, NotificationServer.CEPH),
        (
            {"Server": "nginx", "X-Amz-Request-Id": "tx00000b5f3d1c2a4e6f708-0065a1b2c3-1f2e-zone-1"},
            NotificationServer.CEPH,
        ),
        ({"Server": "nginx", "X-Amz-Request-Id": "18EA18C2FC84D53D"}, NotificationServer.OTHER),
        ({"Server": "SeaweedFS 8000GB 4.48"}, NotificationServer.SEAWEEDFS),
        ({"Server": "VERSITYGW"}, NotificationServer.VERSITY),
        ({}, NotificationServer.OTHER),
    ],
)
def test_a_server_is_known_by_its_answers(headers: dict[str, str], server: NotificationServer) -> None:
    assert recognise_server(headers) is server


@pytest.mark.parametrize(
    ("server", "status", "code", "can"),
    [
        (NotificationServer.MINIO, 200, "", True),
        (NotificationServer.OTHER, 404, "NoSuchBucket", True),
        (NotificationServer.AMAZON, 403, "AccessDenied", True),
        (NotificationServer.SEAWEEDFS, 200, "", False),
        (NotificationServer.GARAGE, 501, "NotImplemented", False),
        (NotificationServer.OTHER, 501, "", False),
        (NotificationServer.OTHER, 404, "", False),
        (NotificationServer.OTHER, 404, "NoSuchKey", False),
        (NotificationServer.OTHER, 405, "MethodNotAllowed", False),
    ],
)
def test_who_keeps_no_rules_is_known_from_a_question(
    server: NotificationServer, status: int, code: str, can: bool
) -> None:
    assert (why_no_rules(server, status, code) is None) is can


HERE = "http://<this machine's address>:8710"
VARIABLES = [
    ("webhook", (), f'ENDPOINT_GPUDROP="{HERE}/"'),
    ({"kind": "webhook", "path": "/in"}, ("path_secret",), f'ENDPOINT_GPUDROP="{HERE}/in/<path secret>"'),
    ({"kind": "nats", "servers": "nats://n:4222", "stream": "s"}, (), 'JETSTREAM_GPUDROP="on"'),
    ({"kind": "redis", "url": "redis://r:6379", "key": "drops"}, ("password",), 'FORMAT_GPUDROP="access"'),
    (
        {"kind": "amqp", "url": "amqp://q:5672/v", "exchange": "x"},
        ("user",),
        'URL_GPUDROP="amqp://<user>:<password>@q:5672/v"',
    ),
    ({"kind": "kafka", "servers": ["k:9092", "l:9092"], "topic": "t"}, (), 'BROKERS_GPUDROP="k:9092,l:9092"'),
    ({"kind": "mqtt", "url": "mqtt://m:1883", "topic": "t"}, (), 'BROKER_GPUDROP="tcp://m:1883"'),
]


@pytest.mark.parametrize(("source", "secret", "expected"), VARIABLES)
def test_what_minio_needs_is_ready_to_paste_and_holds_no_secret(source: Any, secret: Any, expected: str) -> None:
    (found,) = sources(source)
    lines = server_variables(found, SourceSecrets(**dict.fromkeys(secret, "hush-hush")))
    name = f"MINIO_NOTIFY_{found.kind.upper()}_"
    assert f"{name}{expected}" in lines
    assert f'{name}ENABLE_GPUDROP="on"' in lines
    assert all(line.startswith(name) and line.endswith('"') for line in lines)
    assert "hush-hush" not in "".join(lines)


THEIRS, OURS = "arn:minio:sqs::N8N:webhook", "arn:minio:sqs:eu-west-1:GPUDROP:webhook"


def test_a_target_that_stands_alone_may_be_somebody_elses() -> None:
    with pytest.raises(ConfigError) as asked:
        choose_target(
            sources("webhook"), KnownServer(NotificationServer.MINIO, (THEIRS, "arn:minio:sqs::GPUDROP:nats")), nothing
        )
    assert THEIRS in str(asked.value)
    assert f"gpudrop events apply --target {THEIRS}" in asked.value.info.hint


@pytest.mark.parametrize(
    "known",
    [
        KnownServer(NotificationServer.MINIO, (THEIRS, OURS)),
        KnownServer(
            NotificationServer.MINIO, ("arn:minio:sqs::M:webhook", THEIRS), frozenset({"arn:minio:sqs::M:webhook"})
        ),
    ],
    ids=["named as we told it", "rules of ours name it"],
)
def test_a_target_that_is_known_to_lead_here_is_taken(known: KnownServer) -> None:
    assert known.destinations
    expected = OURS if OURS in known.destinations else known.destinations[0]
    assert choose_target(sources("webhook"), known, nothing) == NotificationTarget(QUEUE, expected)


def test_the_one_target_that_fits_is_taken() -> None:
    arns = ("arn:minio:sqs::GPUDROP:webhook", "arn:minio:sqs::GPUDROP:nats")
    known = KnownServer(NotificationServer.MINIO, arns)
    assert choose_target(sources("webhook", "reconcile"), known, nothing) == NotificationTarget(QUEUE, arns[0])
    nats = {"kind": "nats", "servers": "nats://n:4222", "stream": "s"}
    with pytest.raises(ConfigError, match="does not tell which"):
        choose_target(sources("webhook", nats), known, nothing)
    with pytest.raises(ConfigError, match="does not tell these keys"):
        choose_target(sources("webhook"), KnownServer(NotificationServer.MINIO), nothing)
    queue = {"kind": "sqs", "queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/drops"}
    (found,) = sources(queue)
    assert choose_target(sources(queue, "webhook"), KnownServer(NotificationServer.AMAZON), nothing) == found
    topic = {"kind": "webhook", "sns_topics": ["arn:aws:sns:eu-west-1:123456789012:t"]}
    assert choose_target(sources(topic), KnownServer(NotificationServer.OTHER), nothing) == NotificationTarget(
        TOPIC, topic["sns_topics"][0]
    )
    with pytest.raises(ConfigError, match="Several targets"):
        choose_target(sources(topic, queue), KnownServer(NotificationServer.AMAZON), nothing)
    with pytest.raises(ConfigError, match="No target"):
        choose_target(sources("webhook"), KnownServer(NotificationServer.AMAZON), nothing)


def test_targets_on_the_command_line_are_taken_first() -> None:
    assert named_targets([QUEUE_ARN, QUEUE_ARN], ()) == (NotificationTarget(QUEUE, QUEUE_ARN),)
    assert named_targets([], sources("minio", "reconcile")) == ()
    assert not needs_target(sources("minio", "reconcile"))
    assert needs_target(sources("webhook"))


def policy(**changes: Any) -> str:
    allowed = {**json.loads(statement(QUEUE_ARN, "drop")), **changes}
    return json.dumps({"Statement": {name: value for name, value in allowed.items() if value is not None}})


@pytest.mark.parametrize(
    ("text", "lets"),
    [
        ("", False),
        ("no json", False),
        ("[]", False),
        (policy(), True),
        (policy(Condition=None), True),
        (policy(Condition={"ArnLike": {"aws:SourceArn": ["arn:aws:s3:*:*:dr?p"]}}), True),
        (policy(Condition={"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::other"}}), False),
        (policy(Principal="*", Action=["SQS:*"], Resource="*"), True),
        (policy(Principal={"AWS": "*"}), True),
        (policy(Principal={"AWS": "arn:aws:iam::123456789012:root"}), False),
        (policy(Effect="Deny"), False),
        (policy(Action="sqs:ReceiveMessage"), False),
        (policy(Resource="arn:aws:sqs:eu-west-1:123456789012:other"), False),
    ],
)
def test_whether_s3_may_send_is_read_from_the_policy(text: str, lets: bool) -> None:
    assert lets_s3_send(text, QUEUE_ARN, "drop") is lets


def answer(code: str, message: str = "") -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


def test_refusals_say_what_to_do() -> None:
    mine = rule(QUEUE, QUEUE_ARN, "gpudrop-1", ("s3:ObjectCreated:*",), Filter("in/", ".mp3"))
    theirs = rule(QUEUE, "arn:aws:sqs:x:1:t", "theirs", ("s3:ObjectCreated:Put",), Filter("in/x", ""))
    place = {"bucket": "drop", "endpoint": "http://h:1"}
    crossing, alone = merge_rules(NotificationDocument((theirs,)), [mine]), merge_rules(NotificationDocument(), [mine])

    told = rules_refused(400, answer("InvalidArgument", "ambiguously defined"), crossing, None, **place)
    assert "Rules of others" in str(told)
    assert "theirs" in str(told)
    told = rules_refused(400, answer("InvalidArgument", "Unable to validate"), alone, None, **place)
    assert "Unable to validate" in str(told)
    assert "policy" in told.info.hint
    told = rules_refused(409, answer("BucketAlreadyExists"), alone, None, **place)
    assert isinstance(told, ServerMisbehaves)
    assert isinstance(request_refused(403, answer("AccessDenied"), action=WRITE, **place), StoreDenied)
    assert isinstance(request_refused(503, answer("SlowDown"), action=WRITE, **place), StoreUnavailable)
    assert "secret key" in str(request_refused(403, answer("SignatureDoesNotMatch"), action=WRITE, **place))
