"""The calls on an SQS queue, blocking and bounded in time, and the threads they run on."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import urlsplit

from boto3.session import Session  # pyright: ignore[reportMissingTypeStubs]
from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]
from botocore.parsers import ResponseParserError  # pyright: ignore[reportMissingTypeStubs]

from listener.config.environment import SourceSecrets
from listener.sources.sqs.errors import sqs_error

BATCH = 10
"""Messages that one request can carry."""

_CONNECT_S = 5
_READ_S = 10
_REGION = re.compile(r"(?:^|\.)(?:sqs|sqs-fips)\.([a-z]{2,4}-[a-z0-9-]+)\.|^([a-z]{2}-[a-z0-9-]+)\.queue\.amazonaws\.")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SqsSettings:
    """Settings of SqsSource."""

    queue_url: str
    region: str | None = None
    """None: the one in `queue_url`, else `default_region`."""
    default_region: str = "us-east-1"
    endpoint: str | None = None
    """None: the host of `queue_url`."""
    visibility_s: float = 60.0
    """Whole seconds, 5 to 43200, that a received message stays hidden; hidden again in time while it is processed."""
    wait_s: int = 20
    """Seconds, up to 20, that a receive waits for messages."""
    receivers: int = 8
    """Concurrent receivers under load."""
    probe_s: float = 120.0
    """Longest wait in seconds between retries of what only a person can fix."""
    secrets: SourceSecrets = field(default_factory=SourceSecrets)
    """User, password and token: access key, secret key and session token. Without them boto3 looks for its own."""


@dataclass(frozen=True, slots=True)
class SqsMessage:
    """A received message."""

    id: str
    receipt: str
    """Names this delivery of the message."""
    body: str


@dataclass(frozen=True, slots=True)
class UndeletedMessage:
    """A message of a batch for which the server did not do what was requested."""

    message: SqsMessage
    code: str
    sender_fault: bool
    """The request is at fault, so a retry would change nothing."""


class _SqsClient(Protocol):
    """The methods used of boto3's untyped client."""

    def receive_message(self, **arguments: object) -> Mapping[str, Any]: ...
    def get_queue_attributes(self, **arguments: object) -> Mapping[str, Any]: ...
    def delete_message_batch(self, **arguments: object) -> Mapping[str, Any]: ...
    def change_message_visibility_batch(self, **arguments: object) -> Mapping[str, Any]: ...
    def close(self) -> None: ...


class SqsQueue:
    """One queue of one server, for use by many threads at once."""

    def __init__(self, settings: SqsSettings) -> None:
        """Reads files and may request keys from a server: for use on a thread. Raises the errors of `sqs_error`."""
        self._url = settings.queue_url
        self._settings = settings
        self._client = self._translated("use", lambda: _client(settings))

    def receive(self, wait_s: int) -> list[SqsMessage]:
        """Receives up to BATCH messages; waits up to `wait_s` seconds for the first."""
        answer = self._translated(
            "receive from",
            lambda: self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=wait_s,
                VisibilityTimeout=round(self._settings.visibility_s),
            ),
        )
        found = cast("list[dict[str, str]]", answer.get("Messages") or [])
        return [SqsMessage(each["MessageId"], each["ReceiptHandle"], each.get("Body", "")) for each in found]

    def waiting(self) -> int:
        """Returns approximately how many messages wait to be received."""
        name = "ApproximateNumberOfMessages"
        call = self._client.get_queue_attributes
        answer = self._translated("look at", lambda: call(QueueUrl=self._url, AttributeNames=[name]))
        return int(cast("dict[str, str]", answer.get("Attributes") or {}).get(name, "0"))

    def delete(self, messages: Sequence[SqsMessage]) -> list[UndeletedMessage]:
        """Deletes up to BATCH messages; returns those that were not deleted."""
        entries = [{"Id": str(i), "ReceiptHandle": each.receipt} for i, each in enumerate(messages)]
        call = self._client.delete_message_batch
        answer = self._translated("delete from", lambda: call(QueueUrl=self._url, Entries=entries))
        return _failed_messages(messages, answer)

    def hide(self, messages: Sequence[SqsMessage], seconds: int) -> list[UndeletedMessage]:
        """Hides up to BATCH messages for `seconds` from now; 0 shows them at once. Returns those where it failed."""
        entries = [
            {"Id": str(i), "ReceiptHandle": each.receipt, "VisibilityTimeout": seconds}
            for i, each in enumerate(messages)
        ]
        call = self._client.change_message_visibility_batch
        answer = self._translated("hide messages of", lambda: call(QueueUrl=self._url, Entries=entries))
        return _failed_messages(messages, answer)

    def release(self, messages: Sequence[SqsMessage]) -> None:
        """Makes messages receivable at once; one request, failures per message are ignored."""
        if messages:
            self.hide(messages, 0)

    def close(self) -> None:
        """Closes idle connections."""
        self._client.close()

    def _translated(self, doing: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except (BotoCoreError, ClientError, ResponseParserError, ValueError, KeyError) as e:
            raise sqs_error(e, doing=doing, queue_url=self._url) from e


def region_of(settings: SqsSettings) -> str:
    found = _REGION.search(urlsplit(settings.queue_url).hostname or "")
    return settings.region or (found and (found[1] or found[2])) or settings.default_region


def endpoint_of(settings: SqsSettings) -> str | None:
    """Returns the endpoint; None leaves it to boto3: hosts of Amazon's oldest queue URLs cannot be signed for."""
    parts = urlsplit(settings.queue_url)
    if settings.endpoint or "queue.amazonaws." in parts.netloc:
        return settings.endpoint
    return f"{parts.scheme}://{parts.netloc}"


def _client(settings: SqsSettings) -> _SqsClient:
    config = Config(
        connect_timeout=_CONNECT_S,
        read_timeout=settings.wait_s + _READ_S,
        # The source itself retries, and reports each failure.
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=2 * settings.receivers + 2,
        tcp_keepalive=True,
    )
    return boto_client(
        "sqs", config, region=region_of(settings), endpoint=endpoint_of(settings), secrets=settings.secrets
    )


def boto_client(
    service: str,
    config: Config,
    *,
    region: str,
    endpoint: str | None,
    secrets: SourceSecrets,
    ca_file: str | None = None,
) -> Any:
    """Returns boto3's untyped client. Without secrets it looks for its own, without an endpoint it takes Amazon's."""
    # A new session sees new keys in a profile, and threads share no default session.
    made = Session().client  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return cast("Callable[..., Any]", made)(
        service,
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=secrets.user or None,
        aws_secret_access_key=secrets.password or None,
        aws_session_token=secrets.token or None,
        verify=ca_file,
        config=config,
    )


def _failed_messages(messages: Sequence[SqsMessage], answer: Mapping[str, Any]) -> list[UndeletedMessage]:
    failed = cast("list[dict[str, Any]]", answer.get("Failed") or [])
    return [
        UndeletedMessage(messages[int(each["Id"])], str(each.get("Code", "")), bool(each.get("SenderFault")))
        for each in failed
    ]


async def on_thread(call: Callable[[], T], *, on_cancelled: Callable[[T], object] | None = None) -> T:
    """Runs a blocking call on a daemon thread. A cancellation returns at once, and the call goes on.

    The result of a cancelled call is passed to `on_cancelled` on a thread, whose errors are dropped. asyncio's own pool
    is not used because closing the loop would wait for it, as long as a server holds a request.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(tell: Callable[[], None], drop: Callable[[], object]) -> None:
        if future.done():
            threading.Thread(target=drop, name="sqs-drop", daemon=True).start()
        else:
            tell()

    def work() -> None:
        try:
            result = call()
        except BaseException as e:  # noqa: BLE001 - handed to whoever awaits
            error = e
            _to_loop(loop, lambda: settle(lambda: future.set_exception(error), _nothing), _nothing)
        else:
            drop = _dropping(result, on_cancelled)
            _to_loop(loop, lambda: settle(lambda: future.set_result(result), drop), drop)

    threading.Thread(target=work, name="sqs", daemon=True).start()
    return await future


def _to_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], None], otherwise: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        otherwise()  # the loop was closed meanwhile


def _dropping(result: T, on_cancelled: Callable[[T], object] | None) -> Callable[[], object]:
    def drop() -> None:
        try:
            if on_cancelled:
                on_cancelled(result)
        except Exception:  # noqa: BLE001, S110 - nobody is left to tell
            pass

    return drop


def _nothing() -> None:
    return None
