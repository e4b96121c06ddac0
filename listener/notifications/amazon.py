"""Requests to SQS and SNS, and whether a queue's policy lets Amazon S3 send to it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]
from botocore.parsers import ResponseParserError  # pyright: ignore[reportMissingTypeStubs]

from listener.config.environment import SourceSecrets
from listener.notifications.targets import PushUrl, source_arn
from listener.sources.sqs.errors import sqs_error
from listener.sources.sqs.queue import SqsSettings, boto_client, endpoint_of, region_of
from listener.stores.s3.clients import S3Settings
from manifests.errors import ConfigError, GpuDropError, StoreDenied, StoreUnavailable

_SOURCE = "aws:sourcearn"


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """ARN and policy of an SQS queue."""

    arn: str
    policy: str
    """JSON; empty for none."""


def lets_s3_send(policy: str, queue_arn: str, bucket: str) -> bool:
    """Returns whether a queue's policy (JSON; "" for none) allows it. Ignores denials, because S3 tests by itself."""
    try:
        document: Any = json.loads(policy or "{}")
    except ValueError:
        return False
    return any(_allows(each, queue_arn, bucket) for each in _statements(document))


def statement(queue_arn: str, bucket: str) -> str:
    """Returns the statement to add to the policy, as JSON."""
    partition = queue_arn.split(":")[1]
    account = queue_arn.split(":")[4]
    return json.dumps(
        {
            "Sid": f"gpudrop-{bucket}",
            "Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": queue_arn,
            "Condition": {
                "ArnEquals": {"aws:SourceArn": source_arn(bucket, partition)},
                "StringEquals": {"aws:SourceAccount": account},
            },
        },
        indent=2,
    )


def _statements(document: Any) -> Iterator[Mapping[str, Any]]:
    found: Any = cast("dict[str, Any]", document).get("Statement", []) if isinstance(document, dict) else []
    for each in cast("list[Any]", found if isinstance(found, list) else [found]):
        if isinstance(each, dict):
            yield cast("dict[str, Any]", each)


def _allows(each: Mapping[str, Any], queue_arn: str, bucket: str) -> bool:
    principal: Any = each.get("Principal")
    services = _texts(cast("dict[str, Any]", principal).get("Service")) if isinstance(principal, dict) else []
    everybody = principal == "*" or (isinstance(principal, dict) and "*" in _texts(principal.get("AWS")))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return (
        each.get("Effect") == "Allow"
        and (everybody or "s3.amazonaws.com" in services)
        and any(_like(a.lower(), "sqs:sendmessage") for a in _texts(each.get("Action")))
        and any(_like(r, queue_arn) for r in _texts(each.get("Resource")))
        and _from_bucket(each.get("Condition"), source_arn(bucket, queue_arn.split(":")[1]))
    )


def _from_bucket(condition: Any, arn: str) -> bool:
    """Returns whether a condition admits the source `arn`; other conditions count as met."""
    if not isinstance(condition, dict):
        return True
    for test in cast("dict[str, Any]", condition).values():
        for name, values in cast("dict[str, Any]", test if isinstance(test, dict) else {}).items():
            if name.lower() == _SOURCE and not any(_like(value, arn) for value in _texts(values)):
                return False
    return True


def _texts(value: Any) -> list[str]:
    found = cast("list[Any]", value if isinstance(value, list) else [value])
    return [each for each in found if isinstance(each, str)]


def _like(pattern: str, text: str) -> bool:
    parts = re.split(r"([*?])", pattern)
    expression = "".join({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(expression, text, re.DOTALL) is not None


_TWICE = Config(connect_timeout=5, read_timeout=15, retries={"total_max_attempts": 2})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of Ceph RGW."""

    name: str
    attributes: Mapping[str, str]
    """Where it pushes to, secrets included."""


class _Paginator(Protocol):
    def paginate(self) -> Iterable[Mapping[str, Any]]: ...


class _AmazonClient(Protocol):
    """The methods used of boto3's untyped clients."""

    def get_queue_attributes(self, **arguments: object) -> Mapping[str, Any]: ...
    def create_topic(self, **arguments: object) -> Mapping[str, Any]: ...
    def get_paginator(self, operation_name: str) -> _Paginator: ...


def queue_facts(settings: SqsSettings) -> QueueFacts:
    """Requests a queue's ARN and policy. Raises the errors of `sqs_error`."""
    url = settings.queue_url
    try:
        client: _AmazonClient = boto_client(
            "sqs", _TWICE, region=region_of(settings), endpoint=endpoint_of(settings), secrets=settings.secrets
        )
        answer = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn", "Policy"])
        found = cast("dict[str, str]", answer["Attributes"])
        return QueueFacts(found["QueueArn"], found.get("Policy", ""))
    except ClientError as e:
        if "AccessDenied" in str(e):
            raise ConfigError(
                f"The keys may not ask the queue {url} for its ARN.",
                hint="Allow sqs:GetQueueAttributes to them, or give the queue's ARN with --target.",
                where=url,
            ) from e
        raise sqs_error(e, doing="ask about", queue_url=url) from e
    except (BotoCoreError, ResponseParserError, ValueError, KeyError) as e:
        raise sqs_error(e, doing="ask about", queue_url=url) from e


def topic_of(name: str, push: PushUrl, *, exchange: str = "") -> Topic:
    """Returns a persistent topic, for which RGW keeps and retries what it could not deliver."""
    attributes = {"push-endpoint": push.url, "persistent": "true"}
    if push.url.startswith("amqp"):
        attributes |= {"amqp-exchange": exchange, "amqp-ack-level": "broker"}
    elif push.url.startswith("kafka"):
        attributes |= {"kafka-ack-level": "broker"}
    return Topic(name, attributes)


def make_topic(store: S3Settings, topic: Topic) -> str:
    """Creates the topic at the store's endpoint, or updates its attributes. Returns its ARN."""
    answer = _asked(store, lambda c: c.create_topic(Name=topic.name, Attributes=dict(topic.attributes)))
    return str(answer["TopicArn"])


def find_topic(store: S3Settings, name: str) -> str:
    """Returns the ARN of the topic, "" when it does not exist."""
    pages = _asked(store, lambda c: list(c.get_paginator("list_topics").paginate()))
    topics = [each for page in pages for each in cast("list[dict[str, Any]]", page.get("Topics") or [])]
    arns = [str(each.get("TopicArn", "")) for each in topics]
    return next((arn for arn in arns if arn.rpartition(":")[2] == name), "")


def _asked(store: S3Settings, call: Callable[[_AmazonClient], T]) -> T:
    keys = store.keys()
    try:
        client: _AmazonClient = boto_client(
            "sns",
            _TWICE,
            region=store.region,
            endpoint=store.endpoint,
            secrets=SourceSecrets(keys.access_key, keys.secret_key, keys.session_token or ""),
            ca_file=str(store.ca_file) if store.ca_file else None,
        )
        return call(client)
    except ClientError as e:
        raise _refused(e, store.endpoint) from e
    except (BotoCoreError, ResponseParserError, ValueError, KeyError) as e:
        raise StoreUnavailable(
            f"Could not ask {store.endpoint} about topics ({type(e).__name__}).",
            hint="Check that it is Ceph RGW and that its topic API is on (rgw_enable_apis holds notifications).",
        ) from e


def _refused(error: ClientError, endpoint: str) -> GpuDropError:
    answer = cast("dict[str, dict[str, Any]]", error.response)  # pyright: ignore[reportUnknownMemberType]
    code = str(answer.get("Error", {}).get("Code", ""))
    # The server's message may hold the request, and with it the secrets of the push URL.
    return StoreDenied(
        f"{endpoint} refused to make a topic ({code}).",
        hint="Check that it is Ceph RGW, that its topic API is on, and that the keys may create topics. An address with"
        " a password in it is only taken over https.",
    )
