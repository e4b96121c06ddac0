"""What the errors of AMQP's client mean: which to wait out, which somebody must act on."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from aiormq import exceptions

from listener.sources.brokers.troubles import broken, denied
from manifests.errors import SourceDenied


@contextmanager
def told(place: str) -> Generator[None, None, None]:
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
        raise denied(place, e) from e
    except exceptions.InvalidFrameError as e:
        # The client keeps to itself what the broker said when it closed the connection instead of opening the host.
        if "Connection.Close" not in str(e):
            raise broken(place, e) from e
        hint = "Check the virtual host in `url`, and that the user may use it."
        raise denied(place, "the virtual host cannot be opened", hint) from e
    except (exceptions.AMQPError, exceptions.ChannelInvalidStateError, EOFError, OSError, TimeoutError) as e:
        raise broken(place, e) from e
