"""`gpudrop events` on a real MinIO that has been set up to send to several places."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from minio import Minio
from minio.credentials import AssumeRoleProvider
from minio.notificationconfig import NotificationConfig, PrefixFilterRule, QueueConfig, SuffixFilterRule

from listener.config.environment import read_environment
from listener.events.records import EVENT_NAMES
from listener.notifications.client import notification_client
from listener.notifications.rules import QUEUE, merge_rules, rule
from listener.notifications.sync import RulesSync
from listener.triggers.filters import Filter
from manifests.errors import StoreDenied, StoreUnavailable
from support.notifications import Rules, configuration, environment_of, events
from support.queues import eventually
from support.stores import admin_client, servers, settings_for, start_minio

pytestmark = pytest.mark.minio

W, V = "arn:minio:sqs::W:webhook", "arn:minio:sqs::V:webhook"
ALL = {"pattern": "*.mp3", "name": "all", "manifest": {"operation": "transcribe"}}
WEBHOOK = {"sources": ["webhook", "reconcile"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, receiver_port: int) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("minio-events")
    settings: dict[str, str] = {}
    for letter in "WV":
        settings |= {
            f"MINIO_NOTIFY_WEBHOOK_ENABLE_{letter}": "on",
            f"MINIO_NOTIFY_WEBHOOK_ENDPOINT_{letter}": f"http://127.0.0.1:{receiver_port}/{letter}",
            f"MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_{letter}": str(folder / letter),
        }
    started = start_minio("minio", folder / "data", environment=settings)
    yield started
    servers.stop(started)


@pytest.fixture(scope="module")
def receiver_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def bucket(server: Any) -> str:
    name = f"events-{uuid.uuid4().hex[:12]}"
    admin_client(server).make_bucket(name)
    return name


def put_foreign(client: Minio, bucket: str) -> None:
    """Two rules of somebody else's, by another client; one of them has no Id."""
    config = NotificationConfig(
        queue_config_list=[
            QueueConfig(
                queue=V,
                events=["s3:ObjectCreated:*", "s3:ObjectAccessed:Get"],
                config_id="theirs <&> é",
                prefix_filter_rule=PrefixFilterRule("in/a b+c"),
                suffix_filter_rule=SuffixFilterRule(".mp3"),
            ),
            QueueConfig(queue=W, events=["s3:ObjectRemoved:*"]),
        ]
    )
    client.set_bucket_notification(bucket, config)


async def test_rules_come_and_go_and_those_of_others_stay_as_they_are(server: Any, bucket: str) -> None:
    put_foreign(admin_client(server), bucket)
    rules, config, environment = Rules(server, bucket), configuration(server.endpoint, bucket), environment_of(server)
    before = rules.wire()
    foreign = rules.foreign()
    assert len(foreign) == 2

    dry = await events("apply", config, environment, W, dry_run=True)
    assert dry.code == 0, dry.told
    assert "+ gpudrop-" in dry.text
    assert rules.wire() == before

    applied = await events("apply", config, environment, W)
    assert applied.code == 0, applied.told
    assert rules.foreign() == foreign
    assert {(each.arn, each.events) for each in rules.ours()} == {(W, EVENT_NAMES)}
    assert {f"{each.filter.prefix}*{each.filter.suffix}" for each in rules.ours()} == {
        *("in/*.mp3", "in/*.wav", "*.cancel"),
        *("*.job.json", "*.job.yaml", "*.job.yml", "*.job.csv"),
    }

    there = rules.wire()
    again = await events("apply", config, environment, W)
    assert (again.code, "nothing to change" in again.text) == (0, True)
    assert rules.wire() == there

    removed = await events("remove", config, environment)
    assert (removed.code, removed.text.count("- gpudrop-")) == (0, 7)
    assert rules.wire() == before
    assert "nothing to change" in (await events("remove", config, environment)).text


async def test_a_changed_configuration_changes_only_what_differs(server: Any, bucket: str) -> None:
    environment, rules = environment_of(server), Rules(server, bucket)
    assert (await events("apply", configuration(server.endpoint, bucket), environment, W)).code == 0
    kept = {each.id for each in rules.ours()}
    changed = await events("apply", configuration(server.endpoint, bucket, triggers=[ALL]), environment, W)
    assert changed.code == 0, changed.told
    assert (changed.text.count("- gpudrop-"), changed.text.count("+ gpudrop-")) == (2, 1)
    assert len(kept & {each.id for each in rules.ours()}) == 5
    moved = await events("apply", configuration(server.endpoint, bucket, triggers=[ALL]), environment, V)
    assert moved.code == 0, moved.told
    assert {each.arn for each in rules.ours()} == {V}


async def test_events_arrive_where_the_rules_send_them(server: Any, bucket: str, receiver_port: int) -> None:
    heard: list[str] = []

    async def hear(request: web.Request) -> web.Response:
        heard.extend(record["s3"]["object"]["key"] for record in json.loads(await request.read()).get("Records", []))
        return web.Response()

    config = configuration(server.endpoint, bucket)
    applied = await events("apply", config, environment_of(server), W)
    assert applied.code == 0, applied.told
    app = web.Application()
    app.router.add_route("*", "/W", hear)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", receiver_port).start()
    rules = Rules(server, bucket)
    for key in ("other/x.mp3", "in/x.txt", "in/x.mp3", "deep/er/talk.job.yaml", "in/x.mp3.cancel"):
        rules.s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    await eventually(lambda: len(heard) >= 3)
    await runner.cleanup()
    assert sorted(heard) == ["deep%2Fer%2Ftalk.job.yaml", "in%2Fx.mp3", "in%2Fx.mp3.cancel"]


async def test_show_marks_whose_a_rule_is_and_writes_nothing(server: Any, bucket: str) -> None:
    put_foreign(admin_client(server), bucket)
    environment, rules = environment_of(server), Rules(server, bucket)
    config = configuration(server.endpoint, bucket)
    before = rules.wire()
    shown = await events("show", config, environment, W)
    assert shown.code == 0, shown.told
    assert "foreign  theirs <&> é  in/a b+c*.mp3  ObjectCreated:* ObjectAccessed:Get" in shown.text
    assert "+ gpudrop-" in shown.text
    assert rules.wire() == before
    await events("apply", config, environment, W)
    shown = await events("show", config, environment, W)
    assert shown.text.count("  ours   ") == 7
    assert "what is there" in shown.text


async def test_a_target_is_asked_for_until_rules_of_ours_name_it(server: Any, bucket: str, tmp_path: Path) -> None:
    several = await events("apply", configuration(server.endpoint, bucket, **WEBHOOK), environment_of(server))
    assert several.code == 1
    assert W in several.told
    assert V in several.told
    assert Rules(server, bucket).ours() == []
    one = {
        "MINIO_NOTIFY_WEBHOOK_ENABLE_ONE": "on",
        "MINIO_NOTIFY_WEBHOOK_ENDPOINT_ONE": "http://127.0.0.1:9/",
        "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_ONE": str(tmp_path / "queue"),
    }
    other = start_minio("minio", tmp_path / "data", environment=one)
    try:
        admin_client(other).make_bucket("drop-here")
        config = configuration(other.endpoint, "drop-here", **WEBHOOK)
        asked = await events("apply", config, environment_of(other))
        assert asked.code == 1
        one_arn = "arn:minio:sqs::ONE:webhook"
        assert f"gpudrop events apply --target {one_arn}" in asked.told
        assert Rules(other, "drop-here").ours() == []
        named = await events("apply", config, environment_of(other), one_arn)
        assert named.code == 0, named.told
        assert {each.arn for each in Rules(other, "drop-here").ours()} == {one_arn}
        again = await events("apply", config, environment_of(other))
        assert (again.code, "nothing to change" in again.text) == (0, True), again.told
    finally:
        servers.stop(other)


async def test_a_server_that_is_not_set_up_gets_the_variables_it_needs(
    minio_server: Any, minio_bucket: str, tmp_path: Path
) -> None:
    source = {"kind": "webhook", "listen": "10.0.0.5:8710", "path": "/in"}
    config = configuration(minio_server.endpoint, minio_bucket, sources=[source, "reconcile"])
    lacking = await events("apply", config, environment_of(minio_server, GPUDROP_WEBHOOK_TOKEN="very-secret"))
    assert lacking.code == 1
    assert 'MINIO_NOTIFY_WEBHOOK_ENABLE_GPUDROP="on"' in lacking.told
    assert 'MINIO_NOTIFY_WEBHOOK_ENDPOINT_GPUDROP="http://10.0.0.5:8710/in"' in lacking.told
    assert "very-secret" not in lacking.told

    lines = dict(line.strip().split("=", 1) for line in lacking.told.splitlines() if "MINIO_NOTIFY_" in line)
    variables = {name: value.strip('"') for name, value in lines.items()}
    other = start_minio(
        "minio", tmp_path / "data", environment={**variables, "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_GPUDROP": str(tmp_path)}
    )
    try:
        admin_client(other).make_bucket("drop-here")
        config = configuration(other.endpoint, "drop-here", sources=[source, "reconcile"])
        applied = await events("apply", config, environment_of(other))
        assert applied.code == 0, applied.told
        assert {each.arn for each in Rules(other, "drop-here").ours()} == {"arn:minio:sqs::GPUDROP:webhook"}
    finally:
        servers.stop(other)


async def test_an_unknown_target_names_those_that_exist(server: Any, bucket: str) -> None:
    unknown = await events(
        "apply", configuration(server.endpoint, bucket), environment_of(server), "arn:minio:sqs::Z:nats"
    )
    assert unknown.code == 1
    assert "arn:minio:sqs::Z:nats" in str(unknown.error)
    assert W in unknown.told
    assert Rules(server, bucket).ours() == []


async def test_what_the_server_forgets_is_told(server: Any, bucket: str) -> None:
    forgotten = await events("apply", configuration(server.endpoint, bucket), environment_of(server), "eventbridge")
    assert forgotten.code == 1
    assert "does not show them as they were sent" in str(forgotten.error)


async def test_the_listen_stream_needs_no_rules(server: Any, bucket: str) -> None:
    config = configuration(server.endpoint, bucket)
    for what in ("show", "apply"):
        told = await events(what, config, environment_of(server))
        assert told.code == 0, told.told
        assert "need no rules" in told.text
    assert Rules(server, bucket).ours() == []


async def test_rules_changed_meanwhile_are_not_overwritten(server: Any, bucket: str) -> None:
    settings, rules = settings_for(server, bucket), Rules(server, bucket)
    async with notification_client(settings) as api:
        keeper = RulesSync(api, settings.endpoint)
        seen = await keeper.read(bucket)
        put_foreign(admin_client(server), bucket)
        there = rules.wire()
        wanted = [rule(QUEUE, W, "gpudrop-x", EVENT_NAMES, Filter("in/"))]
        with pytest.raises(StoreUnavailable, match="changed by somebody else"):
            await keeper.write(bucket, merge_rules(seen.document, wanted))
    assert rules.wire() == there


@pytest.mark.parametrize(
    ("allowed", "lacks"),
    [((), "s3:GetBucketNotification"), (("s3:GetBucketNotification",), "s3:PutBucketNotification")],
)
async def test_a_missing_permission_is_named(server: Any, bucket: str, allowed: tuple[str, ...], lacks: str) -> None:
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["s3:ListBucket", *allowed], "Resource": ["arn:aws:s3:::*"]}],
    }
    given = AssumeRoleProvider(
        sts_endpoint=server.endpoint,
        access_key=server.access_key,
        secret_key=server.secret_key,
        policy=json.dumps(policy),
    ).retrieve()
    keys = {
        "GPUDROP_S3_ACCESS_KEY": given.access_key,
        "GPUDROP_S3_SECRET_KEY": given.secret_key,
        "GPUDROP_S3_SESSION_TOKEN": str(given.session_token),
    }
    denied = await events("apply", configuration(server.endpoint, bucket), read_environment(keys), W)
    assert isinstance(denied.error, StoreDenied), denied.told
    assert lacks in denied.told


async def test_a_missing_bucket_and_a_missing_server_are_told(server: Any) -> None:
    missing = await events("show", configuration(server.endpoint, "not-there-at-all"), environment_of(server))
    assert "does not exist" in str(missing.error)
    gone = await events("show", configuration("http://127.0.0.1:9", "drop-here"), environment_of(server))
    assert "cannot be reached" in str(gone.error)
