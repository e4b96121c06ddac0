"""How RunPod is reached, and how one endpoint there is used. Times are seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpu_dispatch.runpod.dialects.base import Dialect


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """`api` ends with the version, before the endpoint's id. `proxy` None: HTTPS_PROXY and NO_PROXY of the environment.

    `submit_s` covers a submission from its first byte to the last of its answer, `ask_s` every other call, `connect_s`
    the way there, `patience_s` what a call may wait for its turn under RunPod's limits. An answer longer than
    `answer_bytes` is not read.
    """

    api: str = "https://api.runpod.ai/v2"
    proxy: str | None = None
    ca_file: Path | None = None
    """The authorities that are trusted instead of the system's."""
    connect_s: float = 10.0
    submit_s: float = 60.0
    ask_s: float = 30.0
    patience_s: float = 30.0
    connections: int = 100
    answer_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True)
class RunPodSettings:
    """`name` is the endpoint's in the configuration, `endpoint_id` RunPod's.

    `timeout_s` is the longest a job may run there (None: as long as its task says), `ttl_s` how long after it was sent
    RunPod forgets it, `rate_per_s` how many are sent a second. A job that RunPod does not know is not "lost" before it
    is `fresh_s` old; no end that brings nothing is believed before a second look agrees, at least `confirm_s` after the
    first. `settle_s` lies between the two looks that make an endpoint without workers bad news.
    """

    name: str
    endpoint_id: str
    dialect: Dialect
    timeout_s: float | None = None
    ttl_s: float = 86_400.0
    low_priority: bool = False
    rate_per_s: float | None = None
    fresh_s: float = 60.0
    confirm_s: float = 3.0
    settle_s: float = 5.0
    insist_s: float = 20.0
    """For how long a cancel is tried again that RunPod does not take at once."""
