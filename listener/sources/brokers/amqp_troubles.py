"""What the errors of AMQP's client mean: which to wait out, which somebody must act on."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from aiormq import exceptions

from listener.sources.brokers.troubles import broker_broken, broker_denied, broker_unavailable
from manifests.errors import SourceDenied

CLOSED = "the connection closed"


@contextmanager
def amqp_error(place: str) -> Generator[None, None, None]:
    """The client's errors as ours."""
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
        # The client keeps to itself what the broker said when it closed the connection instead of opening the host.
        if "Connection.Close" not in str(e):
            raise broker_broken(place, e) from e
        hint = "Check the virtual host in `url`, and that the user may use it."
        raise broker_denied(place, "the virtual host cannot be opened", hint) from e
    except asyncio.CancelledError as e:
        # When the connection closes, the client ends so whoever waits for an answer.
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        raise broker_unavailable(place, CLOSED) from e
    except RuntimeError as e:
        # Its word for a connection that closed between two requests; with the address of an object.
        raise broker_unavailable(place, CLOSED) from e
    except (exceptions.AMQPError, EOFError, OSError, TimeoutError) as e:
        raise broker_broken(place, e) from e
