"""Settings of the RunPod client and of one endpoint. Times are seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpu_dispatch.runpod.dialects.base import Dialect


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How RunPod's API is reached."""

    api: str = "https://api.runpod.ai/v2"
    """Address of the API up to and including its version."""
    proxy: str | None = None
    """None: HTTPS_PROXY and NO_PROXY of the environment."""
    ca_file: Path | None = None
    """Certificate authorities that are trusted instead of the system's."""
    connect_s: float = 10.0
    submit_s: float = 60.0
    """For a submission, from its first byte to the last byte of its response."""
    call_timeout_s: float = 30.0
    """For every other call."""
    max_wait_s: float = 30.0
    """The longest a call waits for its turn under RunPod's rate limits."""
    connections: int = 100
    answer_bytes: int = 64 * 2**20
    """A longer response is not read."""


@dataclass(frozen=True, slots=True)
class RunPodSettings:
    """How one endpoint on RunPod is used."""

    name: str
    """The endpoint's name in the configuration."""
    endpoint_id: str
    """RunPod's id of the endpoint."""
    dialect: Dialect
    timeout_s: float | None = None
    """The longest a job may run; None: as long as its task says."""
    ttl_s: float = 86_400.0
    """How long after its submission RunPod forgets a job."""
    low_priority: bool = False
    rate_per_s: float | None = None
    """Jobs sent a second, at most."""
    visibility_grace_s: float = 60.0
    """A job that RunPod does not know is not "lost" before it is this old."""
    confirm_s: float = 3.0
    """An end without a result is believed once a second poll, at least this long after the first, agrees."""
    health_recheck_s: float = 5.0
    """Wait between the two health checks that report a problem."""
    retry_for_s: float = 20.0
    """How long a cancel, or a status call before a retry, is repeated while RunPod is unavailable."""
