"""`gpudrop events` where S3 speaks to SQS, SNS and EventBridge, as moto plays them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from listener.notifications.amazon import lets_s3_send
from support.notifications import Outcome, Rules, configuration, environment_of, events, policy_of
from support.queues import Cloud

ROLE = "arn:aws:iam::123456789012:role/lambda"


@pytest.fixture
def cloud(moto_server: Any) -> Cloud:
    return Cloud(moto_server)


@pytest.fixture
def bucket(cloud: Cloud) -> str:
    return cloud.bucket()


@pytest.fixture
def rules(moto_server: Any, bucket: str) -> Rules:
    """Those of the bucket; somebody else's rule for a Lambda function is there, for other keys."""
    found = Rules(moto_server, bucket)
    function = {
        "Id": "theirs",
        "LambdaFunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:theirs",
        "Events": ["s3:ObjectCreated:Put"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "theirs/"}]}},
    }
    found.put(LambdaFunctionConfigurations=[function])
    return found


async def run(what: str, server: Any, bucket: str, *targets: str, sources: Any = (), **options: Any) -> Outcome:
    config = configuration(server.endpoint, bucket, **({"sources": list(sources)} if sources else {}))
    secrets = {"GPUDROP_SQS_USER": server.access_key, "GPUDROP_SQS_PASSWORD": server.secret_key}
    return await events(what, config, environment_of(server, **secrets), *targets, **options)


async def test_the_queue_of_the_source_is_the_target(moto_server: Any, cloud: Cloud, bucket: str, rules: Rules) -> None:
    queue = cloud.queue()
    sources = [{"kind": "sqs", "queue_url": queue}, "reconcile"]
    foreign = rules.foreign()
    assert len(foreign) == 1

    applied = await run("apply", moto_server, bucket, sources=sources)
    assert applied.code == 0, applied.told
    assert rules.foreign() == foreign
    found = rules.get()["QueueConfigurations"]
    assert {each["QueueArn"] for each in found} == {cloud.arn(queue)}
    assert {tuple(each["Events"]) for each in found} == {("s3:ObjectCreated:*", "s3:ObjectRemoved:*")}
    assert "nothing to change" in (await run("apply", moto_server, bucket, sources=sources)).text

    cloud.receive(queue)
    cloud.put(bucket, "in/x.mp3")
    cloud.put(bucket, "out/x.mp3")
    assert [k for body in cloud.receive(queue) for k in keys_in(body)] == ["in/x.mp3"]

    assert (await run("remove", moto_server, bucket, sources=sources)).code == 0
    assert rules.foreign() == foreign
    assert rules.ours() == []


def keys_in(body: str) -> list[str]:
    return [each["s3"]["object"]["key"].replace("%2F", "/") for each in json.loads(body).get("Records", [])]


async def test_a_policy_that_keeps_s3_out_is_told_with_the_statement_that_lets_it_in(
    moto_server: Any, cloud: Cloud, bucket: str
) -> None:
    queue = cloud.queue()
    arn, sources = cloud.arn(queue), [{"kind": "sqs", "queue_url": queue}]
    shown = await run("show", moto_server, bucket, sources=sources)
    assert "does not let S3 send to it" in shown.text
    policy = json.dumps({"Version": "2012-10-17", "Statement": [policy_of(shown.text)]})
    assert lets_s3_send(policy, arn, bucket)
    assert not lets_s3_send(policy, arn, "another-bucket")
    cloud.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    assert "does not let" not in (await run("show", moto_server, bucket, sources=sources)).text


async def test_a_topic_is_a_target(moto_server: Any, cloud: Cloud, bucket: str, rules: Rules) -> None:
    topic = cloud.sns.create_topic(Name=bucket)["TopicArn"]
    sources = [{"kind": "webhook", "sns_topics": [topic]}]
    applied = await run("apply", moto_server, bucket, sources=sources)
    assert applied.code == 0, applied.told
    assert {each["TopicArn"] for each in rules.get()["TopicConfigurations"]} == {topic}
    assert len(rules.get()["LambdaFunctionConfigurations"]) == 1


async def test_event_bridge_is_set_beside_what_is_there(
    moto_server: Any, cloud: Cloud, bucket: str, rules: Rules
) -> None:
    """moto never shows the entry, which Amazon does: the command says so, and the events come all the same."""
    before, queue = rules.get(), cloud.queue()
    cloud.events.put_rule(Name=bucket, EventPattern=json.dumps({"detail": {"bucket": {"name": [bucket]}}}))
    cloud.events.put_targets(Rule=bucket, Targets=[{"Id": "queue", "Arn": cloud.arn(queue)}])
    applied = await run("apply", moto_server, bucket, "eventbridge")
    assert "+ EventBridge" in applied.text
    assert "does not show" in str(applied.error)
    assert rules.get() == before
    cloud.put(bucket, "in/x.mp3")
    assert {json.loads(body)["detail"]["object"]["key"] for body in cloud.receive(queue)} == {"in/x.mp3"}


async def test_a_missing_queue_and_a_wrong_target_are_told(moto_server: Any, cloud: Cloud, bucket: str) -> None:
    gone = cloud.queue().rpartition("/")[0] + "/not-there"
    missing = await run("apply", moto_server, bucket, sources=[{"kind": "sqs", "queue_url": gone}])
    assert "no such queue" in str(missing.error)
    for target in (
        "arn:aws:lambda:us-east-1:123456789012:function:x",
        "queue",
        "arn:aws:sqs:us-east-1:123456789012:q.fifo",
    ):
        wrong = await run("apply", moto_server, bucket, target)
        assert wrong.code == 1
    pushed = await run("apply", moto_server, bucket, "http://10.0.0.1:8710/secret-path")
    assert "Only Ceph RGW" in str(pushed.error)
    assert "secret-path" not in pushed.told


async def test_two_targets_are_one_too_many(moto_server: Any, bucket: str) -> None:
    arns = [f"arn:aws:sqs:us-east-1:123456789012:{name}" for name in "ab"]
    refused = await run("apply", moto_server, bucket, *arns)
    assert "two places" in str(refused.error)
