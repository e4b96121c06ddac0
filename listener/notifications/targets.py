"""Chooses the target of one store's rules, and builds the rules for it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, quote_plus, unquote_plus, urlsplit

from listener.config.environment import SourceSecrets
from listener.config.fields import usable_address
from listener.config.source_kinds import SourceSettings, TargetedSource
from listener.config.sources import SqsSourceConfig, WebhookSourceConfig
from listener.events.records import EVENT_NAMES
from listener.notifications.rules import EVENT_BRIDGE, OURS, QUEUE, TOPIC, RuleEntry, event_bridge, rule
from listener.notifications.servers import ID, NotificationServer, minio_sends_to, server_variables
from listener.triggers.filters import MAX_RULES, Filter, filters_of
from listener.triggers.triggers import Trigger
from manifests.errors import ConfigError

AMAZON_EVENTS = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*")
"""The same as EVENT_NAMES on Amazon. On MinIO the first also includes tagging, retention and legal hold."""

_HINT = (
    "It is an ARN (arn:minio:sqs::ID:webhook, arn:aws:sqs:…, arn:aws:sns:…), the word eventbridge,"
    " or for Ceph RGW the http, amqp or kafka URL that events shall go to."
)


@dataclass(frozen=True, slots=True)
class NotificationTarget:
    """What rules send to."""

    kind: str
    """QUEUE, TOPIC or EVENT_BRIDGE: the element of its rules."""
    arn: str = ""

    @property
    def amazon(self) -> bool:
        """Whether it is Amazon's: rules may not overlap there, filters are encoded, and wildcards are exact."""
        parts = self.arn.split(":")
        return len(parts) > 5 and parts[1].startswith("aws") and parts[4].isdigit() and len(parts[4]) == 12

    def __str__(self) -> str:
        return self.arn or "EventBridge"


@dataclass(frozen=True, slots=True)
class PushUrl:
    """A URL that Ceph RGW pushes to; it needs a topic first."""

    url: str
    """May hold secrets."""

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{'/…' if parts.path.strip('/') else ''}"


def parse_target(text: str) -> NotificationTarget | PushUrl:
    """Parses a target. Raises ConfigError."""
    parts = text.split(":")
    if text.lower() == "eventbridge":
        return NotificationTarget(EVENT_BRIDGE)
    if text.partition("://")[0].lower() in ("http", "https", "amqp", "amqps", "kafka"):
        return PushUrl(_usable(text))
    if len(parts) > 5 and parts[0] == "arn" and parts[2] in ("sqs", "sns"):
        if parts[1].startswith("aws") and parts[5].endswith(".fifo"):
            raise ConfigError(
                f"Amazon S3 does not send to FIFO queues and topics: {text}.",
                hint="Use a standard one.",
                where="--target",
            )
        return NotificationTarget(QUEUE if parts[2] == "sqs" else TOPIC, text)
    raise ConfigError(f"{text!r} is not a target that events can be sent to.", hint=_HINT, where="--target")


def rules_of(
    triggers: Sequence[Trigger], bucket: str, target: NotificationTarget, *, most: int = MAX_RULES
) -> tuple[RuleEntry, ...]:
    """Returns at most `most` rules, without overlaps, which cover every event that the triggers need."""
    found = filters_of(triggers, bucket, most=most)
    if target.kind == EVENT_BRIDGE:
        return (event_bridge(),) if found else ()
    events = AMAZON_EVENTS if target.amazon else EVENT_NAMES
    return tuple(
        rule(target.kind, target.arn, _id(target, each), events, _encoded(each) if target.amazon else each)
        for each in found
    )


def decoded_filter(entry: RuleEntry) -> Filter:
    """Returns the entry's filter with decoded keys, because Amazon keeps it encoded."""
    if not NotificationTarget(entry.kind, entry.arn).amazon:
        return entry.filter
    return Filter(unquote_plus(entry.filter.prefix), unquote_plus(entry.filter.suffix))


def topic_name(target: PushUrl) -> str:
    """Returns a hash of the URL as a name, which is stable and reveals nothing of it."""
    return OURS + hashlib.sha256(target.url.encode()).hexdigest()[:12]


def _id(target: NotificationTarget, each: Filter) -> str:
    return OURS + hashlib.sha256("\0".join((target.arn, each.prefix, each.suffix)).encode()).hexdigest()[:12]


def _encoded(each: Filter) -> Filter:
    return Filter(quote_plus(each.prefix, safe="/"), quote_plus(each.suffix, safe="/"))


def source_arn(bucket: str, partition: str = "aws") -> str:
    return f"arn:{partition}:s3:::{quote(bucket, safe='')}"


def _usable(url: str) -> str:
    try:
        return usable_address(url)
    except ValueError as e:
        raise ConfigError(
            f"{url!r} is not a target that events can be sent to: {e}.", hint=_HINT, where="--target"
        ) from e


NOTHING_TO_SET_UP = (
    "The configured sources need no rules: the minio source asks for its own event stream, reconcile lists the buckets."
)


@dataclass(frozen=True, slots=True)
class KnownServer:
    """What is known of a server."""

    server: NotificationServer
    destinations: tuple[str, ...] | None = None
    """ARNs that it can send to; None when it hides them."""
    recorded: frozenset[str] = frozenset()
    """ARNs in our rules."""

    def is_ours(self, arn: str) -> bool:
        """Returns whether the target is ours: our rules use it, or its ID is the one that `server_variables` sets."""
        return arn in self.recorded or arn.split(":")[4:5] == [ID]


ChosenTarget = NotificationTarget | PushUrl | SqsSourceConfig
"""A target, or a queue whose ARN is requested later."""


def named_targets(given: Sequence[str], sources: Sequence[SourceSettings]) -> tuple[NotificationTarget | PushUrl, ...]:
    """Returns the targets of the command line, else those of sources in config.yaml; () when there are none."""
    texts = [*given] or [each.target for each in sources if isinstance(each, TargetedSource) and each.target]
    return tuple(dict.fromkeys(parse_target(text) for text in texts))


def needs_target(sources: Sequence[SourceSettings]) -> bool:
    return any(minio_sends_to(each) or each.kind == "sqs" for each in sources)


def choose_target(
    sources: Sequence[SourceSettings], known: KnownServer, secrets: Callable[[str], SourceSecrets]
) -> ChosenTarget:
    """Returns the one target that fits the sources. Raises ConfigError with a hint when none or several do."""
    if known.server.tells_destinations:
        return _of_minio(sources, known, secrets)
    if known.server is NotificationServer.CEPH:
        raise ConfigError(
            "Ceph RGW needs to be told where to send.",
            hint="Give --target with the URL it shall push to: http://this-machine:8710/PATH-SECRET for the webhook"
            " source, amqp://… or kafka://…; or with the ARN of a topic that is there.",
            where="--target",
        )
    queues = [each for each in sources if isinstance(each, SqsSourceConfig)]
    topics = [arn for each in sources if isinstance(each, WebhookSourceConfig) for arn in each.sns_topics]
    found: list[ChosenTarget] = [*queues, *(parse_target(arn) for arn in dict.fromkeys(topics))]
    if len(found) == 1:
        return found[0]
    names = [each.queue_url if isinstance(each, SqsSourceConfig) else str(each) for each in found]
    raise ConfigError(
        f"Several targets fit the sources: {', '.join(names)}." if names else "No target fits the sources.",
        hint="Give --target with the ARN of an SQS queue or an SNS topic, or the word eventbridge.",
        where="--target",
    )


def _of_minio(
    sources: Sequence[SourceSettings], known: KnownServer, secrets: Callable[[str], SourceSecrets]
) -> NotificationTarget:
    wanted = [each for each in sources if minio_sends_to(each)]
    if known.destinations is None:
        raise ConfigError(
            "The server does not tell these keys what it can send to.",
            hint=f"Give --target arn:minio:sqs::ID:{wanted[0].kind if wanted else 'webhook'}, or use keys with the"
            " permission admin:ServerInfo.",
            where="--target",
        )
    fitting = [arn for arn in known.destinations if arn.rpartition(":")[2] in {each.kind for each in wanted}]
    ours = [arn for arn in fitting if known.is_ours(arn)]
    if len(ours) == 1:
        found = parse_target(ours[0])
        if isinstance(found, NotificationTarget):
            return found
    raise _unclear(fitting) if fitting else _not_set_up(wanted, secrets)


def _unclear(fitting: Sequence[str]) -> ConfigError:
    """Returns the error for targets of unknown owner: the server names targets but not where they lead."""
    commands = "\n  ".join(f"gpudrop events apply --target {arn}" for arn in fitting)
    return ConfigError(
        f"The server can send to {', '.join(fitting)}, and does not tell which of them leads to this gpudrop.",
        hint=f"If it is set up to send here, name it:\n  {commands}\nOr set up one of its own with the ID {ID}: that"
        " one is taken without asking.",
        where="--target",
    )


def _not_set_up(wanted: Sequence[SourceSettings], secrets: Callable[[str], SourceSecrets]) -> ConfigError:
    lines = [line for each in wanted[:1] for line in server_variables(each, secrets(each.named))]
    kinds = " or ".join(dict.fromkeys(each.kind for each in wanted)) or "a source"
    return ConfigError(
        f"The server has not been set up to send to {kinds}.",
        hint="Start it with these variables, then run this again:\n  "
        + "\n  ".join(lines)
        + (f"\nIts target is arn:minio:sqs::{ID}:{wanted[0].kind} then." if wanted else ""),
        where="--target",
    )
