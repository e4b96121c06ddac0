"""`gpudrop events` on servers that keep no rules, keep them another way, or are no servers at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from listener.config.environment import Environment
from listener.config.loader import parse_config
from listener.notifications.rules import QUEUE, rule
from listener.triggers.filters import Filter
from manifests.errors import ConfigError
from support.notifications import Gateway, Rules, configuration, environment_of, events
from support.queues import Cloud

W = "arn:minio:sqs::W:webhook"


def make_bucket(server: Any) -> None:
    keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
    boto3.client("s3", endpoint_url=server.endpoint, region_name="us-east-1", **keys).create_bucket(Bucket="drop-here")


@pytest.mark.parametrize("what", ["show", "apply", "remove"])
async def test_seaweedfs_is_asked_nothing_and_told_about(seaweedfs_server: Any, what: str) -> None:
    bucket = f"drop-{what}"
    keys = {"aws_access_key_id": seaweedfs_server.access_key, "aws_secret_access_key": seaweedfs_server.secret_key}
    s3: Any = boto3.client("s3", endpoint_url=seaweedfs_server.endpoint, region_name="us-east-1", **keys)
    s3.create_bucket(Bucket=bucket)
    config = configuration(seaweedfs_server.endpoint, bucket)
    told = await events(what, config, environment_of(seaweedfs_server), W)
    assert isinstance(told.error, ConfigError)
    assert str(told.error) == "SeaweedFS keeps no notification rules for buckets."
    assert "sources: [reconcile]" in told.error.info.hint


async def test_versitygw_is_told_about_with_its_own_flags(start_versitygw: Callable[..., Any]) -> None:
    server = start_versitygw()
    make_bucket(server)
    told = await events("apply", configuration(server.endpoint, "drop-here"), environment_of(server), W)
    assert str(told.error) == "VersityGW keeps no notification rules for buckets."
    assert "--event-webhook-url" in told.told


async def test_a_folder_store_is_told_about(tmp_path: Path) -> None:
    config = parse_config({"store": {"kind": "folder", "root": str(tmp_path)}}, origin="test")
    told = await events("apply", config, Environment())
    assert "watches the folder by itself" in str(told.error)


async def test_a_bucket_that_is_not_configured_is_refused(moto_server: Any) -> None:
    told = await events(
        "show", configuration(moto_server.endpoint, "a-bucket"), environment_of(moto_server), bucket="b"
    )
    assert "a-bucket" in told.told


@pytest.fixture
def gateway(moto_server: Any) -> Iterator[Gateway]:
    theirs = rule(QUEUE, "arn:aws:sns:default::theirs", "theirs", ("s3:ObjectCreated:*",), Filter("in/"))
    with Gateway(moto_server.endpoint, {"theirs": theirs}).serve() as serving:
        yield serving


async def test_ceph_rgw_gets_a_topic_and_rules_one_by_one(gateway: Gateway, moto_server: Any) -> None:
    config, environment = configuration(gateway.endpoint, "drop-here"), environment_of(gateway)
    url = "http://10.0.0.1:8710/secret-path"
    before = dict(gateway.rules)

    dry = await events("apply", config, environment, url, dry_run=True)
    assert dry.code == 0, dry.told
    assert "arn:aws:sns:<zonegroup>::gpudrop-" in dry.text
    assert gateway.rules == before
    assert [each["Action"] for each in gateway.topics] == [["ListTopics"]]

    applied = await events("apply", config, environment, url)
    assert applied.code == 0, applied.told
    assert "secret-path" not in applied.text
    assert len(gateway.rules) == 8
    made = gateway.topics[-1]
    assert made["Action"] == ["CreateTopic"]
    attributes = {made[f"Attributes.entry.{i}.key"][0]: made[f"Attributes.entry.{i}.value"][0] for i in (1, 2)}
    assert attributes == {"push-endpoint": url, "persistent": "true"}
    topics = [each["TopicArn"] for each in Cloud(moto_server).sns.list_topics()["Topics"]]
    assert {each.arn for each in gateway.rules.values()} - {"arn:aws:sns:default::theirs"} <= set(topics)

    removed = await events("remove", config, environment)
    assert removed.code == 0, removed.told
    assert gateway.rules == before, "what others have set up is still there"
    assert not [ask for ask in gateway.asked if ask == ("DELETE", "")], "which would take everything"


async def test_kafka_on_ceph_rgw_takes_its_topic_from_the_source(gateway: Gateway) -> None:
    source = {"kind": "kafka", "servers": "10.0.0.1:9092", "topic": "drops"}
    config = configuration(gateway.endpoint, "drop-here", sources=[source])
    unnamed = await events("apply", config, environment_of(gateway))
    assert "needs to be told where to send" in str(unnamed.error)
    applied = await events("apply", config, environment_of(gateway), "kafka://10.0.0.1:9092")
    assert applied.code == 0, applied.told
    assert gateway.topics[-1]["Name"] == ["drops"]


async def test_rules_of_a_server_read_the_same_by_another_client(gateway: Gateway) -> None:
    config, environment = configuration(gateway.endpoint, "drop-here"), environment_of(gateway)
    await events("apply", config, environment, "arn:aws:sns:default::mine")
    found = Rules(gateway, "drop-here").get()["TopicConfigurations"]
    assert {each["TopicArn"] for each in found} == {"arn:aws:sns:default::mine"}
    assert len(found) == 7


async def test_a_topic_is_found_among_many(gateway: Gateway, moto_server: Any) -> None:
    """A list of topics comes in pages of a hundred."""
    config, environment = configuration(gateway.endpoint, "drop-here"), environment_of(gateway)
    sns, url = Cloud(moto_server).sns, "http://10.0.0.1:8710/on-page-two"
    others = [sns.create_topic(Name=f"others-{n}")["TopicArn"] for n in range(100)]
    try:
        assert (await events("apply", config, environment, url)).code == 0
        shown = await events("show", config, environment, url)
    finally:
        for arn in others:
            sns.delete_topic(TopicArn=arn)
    assert shown.code == 0, shown.told
    assert "<zonegroup>" not in shown.text
    assert "what is there" in shown.text


async def test_rules_that_amazon_shows_late_have_arrived(moto_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked for once more after the last wait."""
    monkeypatch.setattr("listener.notifications.sync._CHECK_S", 0.1)
    with Gateway(moto_server.endpoint, server="AmazonS3", late_s=0.45).serve() as amazon:
        config, environment = configuration(amazon.endpoint, "drop-here"), environment_of(amazon)
        applied = await events("apply", config, environment, "arn:aws:sqs:us-east-1:123456789012:drops")
    assert applied.code == 0, applied.told


@pytest.mark.parametrize("server", ["MinIO", "RustFS"])
async def test_a_server_that_knows_its_targets_names_them_when_it_refuses_another(server: str) -> None:
    refusal = b"<Error><Code>InvalidArgument</Code><Message>A destination ARN does not exist</Message></Error>"
    known = "arn:minio:sqs::KNOWN:webhook"
    with Gateway("", server=server, refusal=refusal, destinations=(known,)).serve() as refusing:
        config, environment = configuration(refusing.endpoint, "drop-here"), environment_of(refusing)
        refused = await events("apply", config, environment, "arn:minio:sqs::OTHER:webhook")
    assert f"It can send to: {known}" in refused.told
