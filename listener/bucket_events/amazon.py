"""What has to be asked of SQS and SNS: blocking calls, each bounded in time, for use on a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from boto3.session import Session  # pyright: ignore[reportMissingTypeStubs]
from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]
from botocore.parsers import ResponseParserError  # pyright: ignore[reportMissingTypeStubs]

from listener.bucket_events.destinations import PushUrl
from listener.bucket_events.policies import QueueFacts
from listener.sources.sqs.errors import sqs_error
from listener.sources.sqs.queue import SqsSettings, endpoint_of, region_of
from listener.stores.s3_clients import S3Settings
from manifests.errors import ConfigError, GpuDropError, StoreDenied, StoreUnavailable

_CONNECT_S = 5
_READ_S = 15

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of Ceph RGW. `attributes` say where it pushes to, and hold what secrets that takes."""

    name: str
    attributes: Mapping[str, str]


class _AmazonClient(Protocol):
    """boto3 has no types of its own."""

    def get_queue_attributes(self, **arguments: object) -> Mapping[str, Any]: ...
    def create_topic(self, **arguments: object) -> Mapping[str, Any]: ...
    def list_topics(self, **arguments: object) -> Mapping[str, Any]: ...


def queue_facts(settings: SqsSettings) -> QueueFacts:
    """Raises the errors of the SQS source."""
    url = settings.queue_url
    try:
        client = _client(
            "sqs",
            region=region_of(settings),
            endpoint=endpoint_of(settings),
            keys=(settings.secrets.user, settings.secrets.password, settings.secrets.token),
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
    """RGW keeps what it could not deliver and tries again, because the topic is persistent."""
    attributes = {"push-endpoint": push.url, "persistent": "true"}
    if push.url.startswith("amqp"):
        attributes |= {"amqp-exchange": exchange, "amqp-ack-level": "broker"}
    elif push.url.startswith("kafka"):
        attributes |= {"kafka-ack-level": "broker"}
    return Topic(name, attributes)


def make_topic(store: S3Settings, topic: Topic) -> str:
    """Makes the topic at the store's own endpoint, or gives the one that is there new attributes. Returns its ARN."""
    answer = _asked(store, lambda c: c.create_topic(Name=topic.name, Attributes=dict(topic.attributes)))
    return str(answer["TopicArn"])


def find_topic(store: S3Settings, name: str) -> str:
    """The ARN of the topic, "" when it is not there."""
    answer = _asked(store, lambda c: c.list_topics())
    arns = [str(each.get("TopicArn", "")) for each in cast("list[dict[str, Any]]", answer.get("Topics") or [])]
    return next((arn for arn in arns if arn.rpartition(":")[2] == name), "")


def _asked(store: S3Settings, call: Callable[[_AmazonClient], T]) -> T:
    keys = store.keys()
    try:
        client = _client(
            "sns",
            region=store.region,
            endpoint=store.endpoint,
            keys=(keys.access_key, keys.secret_key, keys.session_token or ""),
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
    # The server's own words may hold the request, and with it the secrets of the address to push to.
    return StoreDenied(
        f"{endpoint} refused to make a topic ({code}).",
        hint="Check that it is Ceph RGW, that its topic API is on, and that the keys may create topics. An address with"
        " a password in it is only taken over https.",
    )


def _client(
    service: str, *, region: str, endpoint: str | None, keys: tuple[str, str, str], ca_file: str | None = None
) -> _AmazonClient:
    config = Config(connect_timeout=_CONNECT_S, read_timeout=_READ_S, retries={"total_max_attempts": 2})
    made = Session().client  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    user, password, token = keys
    return cast("Callable[..., _AmazonClient]", made)(
        service,
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=user or None,
        aws_secret_access_key=password or None,
        aws_session_token=token or None,
        verify=ca_file,
        config=config,
    )
