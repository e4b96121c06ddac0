"""NATS JetStream: a durable pull consumer, shared by all listeners that name it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError, ServiceUnavailableError

from gpu_dispatch.net.tls import TlsFiles, client_context
from listener.config.environment import SourceSecrets
from listener.sources.brokers.consumer import MOST, BrokerSession, MessageBatch, nothing
from listener.sources.brokers.errors import broker_broken, broker_denied
from manifests.errors import SourceDenied

_LOGIN_HINT = "Check GPUDROP_<NAME>_USER and GPUDROP_<NAME>_PASSWORD, or GPUDROP_<NAME>_TOKEN, and its permissions."
_REFUSALS = ("authorization", "authentication", "permissions violation", "account")


class NatsErrors:
    """The errors of one connection. A forbidden request gets no answer; its refusal comes to the error callback."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._refused = ""
        self._heard: Exception | None = None

    async def hear(self, error: Exception) -> None:
        """Is the client's error callback; it gets most raised errors, and those without a caller."""
        self._heard = error
        if _is_refusal(error):
            self._refused = str(error)

    @contextmanager
    def told(self) -> Generator[None, None, None]:
        """Translates the client's errors."""
        place = self._place
        try:
            yield
        except NotFoundError as e:
            raise broker_denied(
                place, e.description, "The stream or its consumer was removed: create the stream."
            ) from e
        except (ServiceUnavailableError, errors.NoRespondersError) as e:
            raise broker_denied(
                place, "no JetStream answers", "Start the server with JetStream, for this account."
            ) from e
        except (errors.Error, OSError, TimeoutError) as e:
            if self._refused or _is_refusal(e):
                raise broker_denied(place, self._refused or e, _LOGIN_HINT) from e
            # NoServersError names no cause; the last error heard does.
            raise broker_broken(place, self._heard or e if isinstance(e, errors.NoServersError) else e) from e


def _is_refusal(error: Exception) -> bool:
    """Matches the server's words: the client has classes for few refusals."""
    return any(word in str(error).lower() for word in _REFUSALS)


def check_consumer(config: ConsumerConfig, *, stream: str, durable: str, subject: str | None) -> None:
    """Raises SourceDenied for an existing consumer with settings that the source cannot use."""
    # With a limit of deliveries, a listener that is killed as often loses the message.
    gives_up = (config.max_deliver or -1) > 0
    other = config.ack_policy != AckPolicy.EXPLICIT or config.deliver_subject or gives_up
    if other or (config.filter_subject or None) != subject:
        raise SourceDenied(
            f"The NATS consumer {durable!r} of stream {stream!r} is not as this source needs it: pulling, explicit"
            f" acknowledgement, any number of deliveries, {f'subject {subject!r}' if subject else 'every subject'}.",
            hint=f"Set `durable` to a new name, or remove it: nats consumer rm {stream} {durable}.",
            where="durable",
        )


_CONNECT_S = 10.0
_ANSWER_S = 5.0
_CLOSE_S = 2.0
_IDLE_S = 4.0
_LINGER_S = 0.05
_PING_S = 4
_MOST_PENDING = 10 * MOST


@dataclass(frozen=True, slots=True)
class NatsSettings:
    """How NATS is reached, and which stream is read."""

    servers: tuple[str, ...]
    """URLs: nats://, tls://."""
    stream: str
    subject: str | None = None
    """None: every subject of the stream."""
    durable: str = "gpudrop"
    tls: TlsFiles = field(default_factory=TlsFiles)
    secrets: SourceSecrets = field(default_factory=SourceSecrets)
    ack_wait_s: float = 60.0
    """An unacknowledged message is delivered again after this long. A consumer that exists keeps its own."""


class NatsBroker:
    """A Broker over nats-py. Listeners share the consumer."""

    exclusive = False

    def __init__(self, settings: NatsSettings) -> None:
        self._settings = settings

    @property
    def place(self) -> str:
        hosts = ", ".join(urlsplit(url).netloc.rpartition("@")[2] for url in self._settings.servers)
        return f"the NATS stream {self._settings.stream!r} on {hosts}"

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[BrokerSession, None]:
        nats_errors = NatsErrors(self.place)
        # Before there is a client: one that was never told to connect cannot be closed.
        tls = await self._tls()
        client = Client()
        try:
            with nats_errors.told():
                async with asyncio.timeout(_CONNECT_S):
                    await self._connect(client, nats_errors, tls)
                stream = client.jetstream(timeout=_ANSWER_S)  # pyright: ignore[reportUnknownMemberType]
                await self._consumer(stream)
                pull = await stream.pull_subscribe_bind(self._settings.durable, self._settings.stream)
            yield _NatsSession(client, pull, nats_errors)
        finally:
            with suppress(errors.Error, OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await client.close()

    async def _tls(self) -> ssl.SSLContext | None:
        settings = self._settings
        given = settings.tls.given or any(url.startswith("tls:") for url in settings.servers)
        return await asyncio.to_thread(client_context, settings.tls) if given else None

    async def _connect(self, client: Client, nats_errors: NatsErrors, tls: ssl.SSLContext | None) -> None:
        settings = self._settings
        await client.connect(
            list(settings.servers),
            error_cb=nats_errors.hear,
            name="gpudrop",
            # Every server is tried twice, and the first error is reported; BrokerSource reconnects.
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            ping_interval=_PING_S,
            max_outstanding_pings=2,
            tls=tls,
            user=settings.secrets.user or None,
            password=settings.secrets.password or None,
            token=settings.secrets.token or None,
        )

    async def _consumer(self, stream: JetStreamContext) -> None:
        """Makes the consumer unless it exists. Raises SourceDenied without a stream, or for an unfit consumer."""
        settings = self._settings
        try:
            await stream.stream_info(settings.stream)
        except NotFoundError as e:
            raise SourceDenied(
                f"There is no {self.place.removeprefix('the ')}.",
                hint=f"Create it: nats stream add {settings.stream} --subjects SUBJECT --storage file --defaults.",
            ) from e
        try:
            found = await stream.consumer_info(settings.stream, settings.durable)
            check_consumer(found.config, stream=settings.stream, durable=settings.durable, subject=settings.subject)
        except NotFoundError:
            await stream.add_consumer(  # pyright: ignore[reportUnknownMemberType]
                settings.stream,
                ConsumerConfig(
                    durable_name=settings.durable,
                    deliver_policy=DeliverPolicy.ALL,
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=settings.ack_wait_s,
                    max_deliver=-1,
                    max_ack_pending=_MOST_PENDING,
                    filter_subject=settings.subject,
                ),
            )


class _NatsSession:
    """A BrokerSession over one pull subscription."""

    def __init__(self, client: Client, pull: JetStreamContext.PullSubscription, nats_errors: NatsErrors) -> None:
        self._client = client
        self._pull = pull
        self._nats_errors = nats_errors

    async def collect(self) -> MessageBatch:
        with self._nats_errors.told():
            try:
                messages = await self._pull.fetch(1, timeout=_IDLE_S)
            except (TimeoutError, ServiceUnavailableError):
                # A deleted consumer looks like one without messages, or like a server without JetStream, and may
                # answer at once: asking for it tells which.
                await self._pull.consumer_info()
                await asyncio.sleep(_LINGER_S)
                return MessageBatch((), nothing)
            with suppress(TimeoutError):
                messages += await self._pull.fetch(MOST - 1, timeout=_LINGER_S)
            return MessageBatch([message.data for message in messages], lambda: self._acknowledge(messages))

    async def _acknowledge(self, messages: list[Msg]) -> None:
        with self._nats_errors.told():
            for message in messages:
                await message.ack()
            await self._client.flush(timeout=int(_ANSWER_S))
