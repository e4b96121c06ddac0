"""AMQP 0-9-1 (RabbitMQ): a durable queue, shared by all listeners that name it.

The client hands over three messages at a time; waiting 20 ms for more brings 7,600 to 10,900 a second instead of 1,200
to 1,500. The heartbeat of 3 s lets silence be noticed after 12 s. MinIO's exchange is not durable by default: a binding
to it is lost when the broker restarts, and made again with the next connection. EXTERNAL is not offered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import aiormq
from aiormq import exceptions
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from yarl import URL

from gpu_dispatch.net.tls import TlsFiles, client_context
from listener.config.environment import SourceSecrets
from listener.sources.brokers.consumer import MOST, BrokerSession, Mailbox, MessageBatch
from listener.sources.brokers.errors import broker_broken, broker_denied, broker_unavailable
from manifests.errors import ConfigError, SourceDenied

CLOSED = "the connection closed"


@contextmanager
def amqp_error(place: str) -> Generator[None, None, None]:
    """Translates the client's errors."""
    try:
        yield
    except exceptions.ChannelPreconditionFailed as e:
        raise SourceDenied(
            f"{place} was declared otherwise than this source needs it: {e}.",
            hint="It has to be durable, without arguments: name another one in `queue`, or delete it (events in it are"
            " lost). Limits can be set by a policy of the broker.",
            where="queue",
        ) from e
    except (
        exceptions.AuthenticationError,
        exceptions.ProbableAuthenticationError,
        exceptions.ConnectionNotAllowed,
        exceptions.ChannelAccessRefused,
        exceptions.ChannelLockedResource,
    ) as e:
        raise broker_denied(place, e) from e
    except exceptions.InvalidFrameError as e:
        # The client hides the reason of a broker which closes the connection instead of opening the virtual host.
        if "Connection.Close" not in str(e):
            raise broker_broken(place, e) from e
        hint = "Check the virtual host in `url`, and that the user may use it."
        raise broker_denied(place, "the virtual host cannot be opened", hint) from e
    except asyncio.CancelledError as e:
        # The client cancels pending requests when the connection closes.
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        raise broker_unavailable(place, CLOSED) from e
    except RuntimeError as e:
        # The client raises it for a connection that closed between two requests; its text is an object's address.
        raise broker_unavailable(place, CLOSED) from e
    except (exceptions.AMQPError, EOFError, OSError, TimeoutError) as e:
        raise broker_broken(place, e) from e


_CONNECT_S = 10.0
_ANSWER_S = 5.0
_LINGER_S = 0.02
"""Seconds. The client delivers a few messages at a time; waiting makes larger batches."""
_PORTS = {"amqp": 5672, "amqps": 5671}
_HEARTBEAT_S = 3
"""Seconds. The client gives up after 3 x (this + 1) = 12 s without a byte."""


@dataclass(frozen=True, slots=True)
class AmqpSettings:
    """How an AMQP broker is reached, and which queue is read."""

    url: str
    """amqp://host:port/vhost or amqps://…, without a password."""
    exchange: str | None = None
    """The queue is bound to it; None: it is bound already, or filled otherwise."""
    exchange_type: Literal["fanout", "direct", "topic", "headers"] = "fanout"
    routing_key: str = ""
    queue: str = "gpudrop"
    tls: TlsFiles = field(default_factory=TlsFiles)
    secrets: SourceSecrets = field(default_factory=SourceSecrets)


class AmqpBroker:
    """A Broker over aiormq. Listeners share the queue."""

    exclusive = False

    def __init__(self, settings: AmqpSettings) -> None:
        self._settings = settings
        self._url = URL(settings.url)
        if self._url.scheme not in _PORTS or not self._url.host:
            raise ConfigError(f"{settings.url} is no address of AMQP.", hint="Write amqp://host or amqps://host.")

    @property
    def place(self) -> str:
        return (
            f"the AMQP queue {self._settings.queue!r} on {self._url.host}:{self._url.port or _PORTS[self._url.scheme]}"
        )

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[BrokerSession, None]:
        mailbox: Mailbox[DeliveredMessage] = Mailbox()
        connection = await self._connect()
        try:
            with amqp_error(self.place):
                async with asyncio.timeout(_CONNECT_S):
                    await self._declare(connection)
                    channel = await self._consume(connection, mailbox)
            yield _AmqpSession(self.place, channel, mailbox)
        finally:
            with suppress(exceptions.AMQPError, OSError, TimeoutError, RuntimeError):
                async with asyncio.timeout(_ANSWER_S):
                    await connection.close()

    async def _connect(self) -> AbstractConnection:
        secrets = self._settings.secrets
        url = self._url.update_query(heartbeat=_HEARTBEAT_S, name="gpudrop")
        if secrets.user:
            url = url.with_user(secrets.user).with_password(secrets.password)
        context = await asyncio.to_thread(client_context, self._settings.tls) if url.scheme == "amqps" else None
        with amqp_error(self.place):
            async with asyncio.timeout(_CONNECT_S):
                return await aiormq.connect(url, context=context)

    async def _declare(self, connection: AbstractConnection) -> None:
        """Declares the queue and binds it. An existing exchange stays: the store declares its own."""
        settings = self._settings
        channel = await connection.channel(publisher_confirms=False)
        await channel.queue_declare(settings.queue, durable=True)
        if settings.exchange:
            if not await _has_exchange(connection, settings.exchange):
                await channel.exchange_declare(settings.exchange, exchange_type=settings.exchange_type, durable=True)
            await channel.queue_bind(settings.queue, settings.exchange, settings.routing_key)
        await channel.close()

    async def _consume(self, connection: AbstractConnection, mailbox: Mailbox[DeliveredMessage]) -> AbstractChannel:
        channel = await connection.channel(publisher_confirms=False)

        def closed(end: asyncio.Future[None]) -> None:
            error = None if end.cancelled() else end.exception()
            # The client ends a silent connection by a cancellation.
            said = error if error and "CancelledError" not in str(error) else CLOSED
            mailbox.lose(broker_unavailable(self.place, said))

        async def arrived(message: DeliveredMessage) -> None:
            # Each call is a task, started in order; none awaits, so delivery tags stay in order.
            mailbox.put(message)

        channel.closing.add_done_callback(closed)  # pyright: ignore[reportUnknownMemberType]
        channel.on_consumer_cancel_callbacks.add(
            lambda _: mailbox.lose(broker_unavailable(self.place, "the queue was deleted"))
        )
        await channel.basic_qos(prefetch_count=MOST)
        await channel.basic_consume(self._settings.queue, arrived)
        return channel


async def _has_exchange(connection: AbstractConnection, name: str) -> bool:
    """Asks on a separate channel, because the broker closes a channel on a name that it does not find."""
    channel = await connection.channel(publisher_confirms=False)
    try:
        await channel.exchange_declare(name, passive=True)
    except exceptions.ChannelNotFoundEntity:
        return False
    await channel.close()
    return True


class _AmqpSession:
    """A BrokerSession over one channel."""

    def __init__(self, place: str, channel: AbstractChannel, mailbox: Mailbox[DeliveredMessage]) -> None:
        self._place = place
        self._channel = channel
        self._mailbox = mailbox

    async def collect(self) -> MessageBatch:
        messages = await self._mailbox.take(MOST, linger_s=_LINGER_S)
        last = messages[-1].delivery_tag
        return MessageBatch([message.body for message in messages], lambda: self._acknowledge(last))

    async def _acknowledge(self, last: int | None) -> None:
        with amqp_error(self._place):
            async with asyncio.timeout(_ANSWER_S):
                await self._channel.basic_ack(last or 0, multiple=True)
