"""Which target the rules of one store shall send to. Pure: what was found out about the server comes in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from listener.bucket_events.destinations import NotificationTarget, PushUrl, parse_target
from listener.bucket_events.minio_settings import ID, KINDS, server_variables
from listener.bucket_events.servers import NotificationServer
from listener.configuration.environment import SourceSecrets
from listener.configuration.sources import AnySource, SqsSourceConfig, TargetedSource, WebhookSourceConfig
from manifests.errors import ConfigError

NOTHING_TO_SET_UP = (
    "The configured sources need no rules: the minio source asks for its own event stream, reconcile lists the buckets."
)


@dataclass(frozen=True, slots=True)
class KnownServer:
    """What the server is, and the ARNs it can send to (None: it does not tell); `recorded` are in rules of ours."""

    server: NotificationServer
    destinations: tuple[str, ...] | None = None
    recorded: frozenset[str] = frozenset()

    def leads_here(self, arn: str) -> bool:
        """Whether we, or whoever set the server up after our words, made this target ours."""
        return arn in self.recorded or arn.split(":")[4:5] == [ID]


Chosen = NotificationTarget | PushUrl | SqsSourceConfig
"""A queue is asked for its ARN later."""


def named_targets(given: Sequence[str], sources: Sequence[AnySource]) -> tuple[NotificationTarget | PushUrl, ...]:
    """Those of the command line, else those that sources name in config.yaml; () when neither names any."""
    texts = [*given] or [each.target for each in sources if isinstance(each, TargetedSource) and each.target]
    return tuple(dict.fromkeys(parse_target(text) for text in texts))


def needs_target(sources: Sequence[AnySource]) -> bool:
    return any(each.kind in KINDS or each.kind == "sqs" for each in sources)


def choose_target(sources: Sequence[AnySource], known: KnownServer, secrets: Callable[[str], SourceSecrets]) -> Chosen:
    """The one target that fits the sources. Raises ConfigError that says what to do when none does, or several do."""
    if known.server in (NotificationServer.MINIO, NotificationServer.RUSTFS):
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
    found: list[Chosen] = [*queues, *(parse_target(arn) for arn in dict.fromkeys(topics))]
    if len(found) == 1:
        return found[0]
    names = [each.queue_url if isinstance(each, SqsSourceConfig) else str(each) for each in found]
    raise ConfigError(
        f"Several targets fit the sources: {', '.join(names)}." if names else "No target fits the sources.",
        hint="Give --target with the ARN of an SQS queue or an SNS topic, or the word eventbridge.",
        where="--target",
    )


def _of_minio(
    sources: Sequence[AnySource], known: KnownServer, secrets: Callable[[str], SourceSecrets]
) -> NotificationTarget:
    wanted = [each for each in sources if each.kind in KINDS]
    if known.destinations is None:
        raise ConfigError(
            "The server does not tell these keys what it can send to.",
            hint=f"Give --target arn:minio:sqs::ID:{wanted[0].kind if wanted else 'webhook'}, or use keys with the"
            " permission admin:ServerInfo.",
            where="--target",
        )
    fitting = [arn for arn in known.destinations if arn.rpartition(":")[2] in {each.kind for each in wanted}]
    ours = [arn for arn in fitting if known.leads_here(arn)]
    if len(ours) == 1:
        found = parse_target(ours[0])
        if isinstance(found, NotificationTarget):
            return found
    raise _unclear(fitting) if fitting else _not_set_up(wanted, secrets)


def _unclear(fitting: Sequence[str]) -> ConfigError:
    """The server tells names of targets, and not where they lead: one that stands alone may be anybody's."""
    commands = "\n  ".join(f"gpudrop events apply --target {arn}" for arn in fitting)
    return ConfigError(
        f"The server can send to {', '.join(fitting)}, and does not tell which of them leads to this gpudrop.",
        hint=f"If it is set up to send here, name it:\n  {commands}\nOr set up one of its own with the ID {ID}: that"
        " one is taken without asking.",
        where="--target",
    )


def _not_set_up(wanted: Sequence[AnySource], secrets: Callable[[str], SourceSecrets]) -> ConfigError:
    lines = [line for each in wanted[:1] for line in server_variables(each, secrets(each.named))]
    kinds = " or ".join(dict.fromkeys(each.kind for each in wanted)) or "a source"
    return ConfigError(
        f"The server has not been set up to send to {kinds}.",
        hint="Start it with these variables, then run this again:\n  "
        + "\n  ".join(lines)
        + (f"\nIts target is arn:minio:sqs::{ID}:{wanted[0].kind} then." if wanted else ""),
        where="--target",
    )
