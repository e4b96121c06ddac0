"""What the errors of Kafka's client mean: which to wait out, which somebody must act on. By the client's own names."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import KafkaError

from listener.sources.brokers.troubles import broker_denied, broker_tls_error, broker_unavailable
from manifests.errors import GpuDropError

_REFUSED = frozenset(
    {
        "_AUTHENTICATION",
        "SASL_AUTHENTICATION_FAILED",
        "UNSUPPORTED_SASL_MECHANISM",
        "ILLEGAL_SASL_STATE",
        "TOPIC_AUTHORIZATION_FAILED",
        "GROUP_AUTHORIZATION_FAILED",
        "CLUSTER_AUTHORIZATION_FAILED",
    }
)
_NO_TOPIC = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "TOPIC_EXCEPTION"})
_MENDED_BY_CLIENT = frozenset({"_TRANSPORT", "_TIMED_OUT", "_RESOLVE", "_MAX_POLL_EXCEEDED"})
"""One broker of several is away, or the group went on without us; once all are away, "_ALL_BROKERS_DOWN" is told."""

SHARED_OUT_ANEW = frozenset({"ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS", "_ASSIGNMENT_LOST"})


def worst_error(errors: Sequence[KafkaError], *, place: str, topic: str) -> GpuDropError | None:
    """The error that has to be told, those somebody must act on first. None: the client goes on by itself."""
    serious = [error for error in errors if error.name() not in _MENDED_BY_CLIENT]
    if not serious:
        return None
    # That every broker is down is told apart from why the last one was left.
    ours = [kafka_error(error, place=place, topic=topic) for error in serious]
    ours += [found for error in errors if (found := broker_tls_error(place, error.str()))]
    return min(ours, key=lambda error: error.retryable)


def kafka_error(error: KafkaError, *, place: str, topic: str) -> GpuDropError:
    name = error.name()
    # How long it took differs each time, and would make news of an error that is known.
    said = error.str().partition(" (after ")[0]
    if name in _REFUSED:
        return broker_denied(place, said)
    if name in _NO_TOPIC:
        return broker_denied(place, "there is no such topic", f"Create it: kafka-topics.sh --create --topic {topic}.")
    return broker_tls_error(place, said) or broker_unavailable(place, said)
