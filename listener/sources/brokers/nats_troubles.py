"""What the errors of NATS's client mean: which to wait out, which somebody must act on."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from nats import errors
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError, ServiceUnavailableError

from listener.sources.brokers.troubles import broker_broken, broker_denied
from manifests.errors import SourceDenied

_LOGIN_HINT = "Check GPUDROP_<NAME>_USER and GPUDROP_<NAME>_PASSWORD, or GPUDROP_<NAME>_TOKEN, and its permissions."
_REFUSALS = ("authorization", "authentication", "permissions violation", "account")


class NatsErrors:
    """One connection's. A request that is not permitted is refused beside it, and then merely goes unanswered."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._refused = ""
        self._heard: Exception | None = None

    async def hear(self, error: Exception) -> None:
        """For the client, which tells here most of what it raises, and what it has nobody to raise to."""
        self._heard = error
        if _is_refusal(error):
            self._refused = str(error)

    @contextmanager
    def told(self) -> Generator[None, None, None]:
        """The client's errors as ours."""
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
            # That no server is left says nothing: what became of the last one does.
            raise broker_broken(place, self._heard or e if isinstance(e, errors.NoServersError) else e) from e


def _is_refusal(error: Exception) -> bool:
    """The client has a class for few of them; the words are the server's."""
    return any(word in str(error).lower() for word in _REFUSALS)


def check_consumer(config: ConsumerConfig, *, stream: str, durable: str, subject: str | None) -> None:
    """Raises SourceDenied for one that somebody made otherwise than this source needs it."""
    # A message that is given up after some deliveries is lost to a listener that was killed as often.
    gives_up = (config.max_deliver or -1) > 0
    other = config.ack_policy != AckPolicy.EXPLICIT or config.deliver_subject or gives_up
    if other or (config.filter_subject or None) != subject:
        raise SourceDenied(
            f"The NATS consumer {durable!r} of stream {stream!r} is not as this source needs it: pulling, explicit"
            f" acknowledgement, any number of deliveries, {f'subject {subject!r}' if subject else 'every subject'}.",
            hint=f"Set `durable` to a new name, or remove it: nats consumer rm {stream} {durable}.",
            where="durable",
        )
