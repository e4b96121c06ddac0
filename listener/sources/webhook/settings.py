"""Settings and secrets of the webhook receiver."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gpu_dispatch.net.tls import ServerTls
from manifests.errors import ConfigError

_IN_A_PATH = re.compile(r"[A-Za-z0-9._~-]+")


@dataclass(frozen=True, slots=True)
class PostSecrets:
    """The secrets that authenticate posts. Several of a kind allow rotation. None is ever printed."""

    tokens: tuple[str, ...] = field(default=(), repr=False)
    """Bearer tokens."""
    path_secrets: tuple[str, ...] = field(default=(), repr=False)
    """Last segments of the path."""
    hmac_secrets: tuple[str, ...] = field(default=(), repr=False)
    """Keys of signatures over the body."""

    @classmethod
    def of(cls, *, token: str = "", path_secret: str = "", hmac_secret: str = "") -> PostSecrets:
        """Parses values of environment variables: secrets separated by commas; "Bearer X" is the token X.

        Raises ConfigError for a path secret that a path cannot hold unchanged.
        """
        tokens = tuple(_without_scheme(each) for each in _several(token))
        in_path = _several(path_secret)
        if not all(_IN_A_PATH.fullmatch(each) for each in in_path):
            raise ConfigError(
                "A webhook's path secret holds characters that an address does not keep as they are.",
                hint="Use letters, digits and . _ ~ - only; `openssl rand -hex 24` makes a good one.",
                where="PATH_SECRET",
            )
        return cls(tokens, in_path, _several(hmac_secret))

    def __bool__(self) -> bool:
        return bool(self.tokens or self.path_secrets or self.hmac_secrets)


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Settings of WebhookReceiver. Times are seconds."""

    host: str = "127.0.0.1"
    port: int = 8710
    """0: any free port."""
    path: str = "/"
    """Posts come to this path, and to `path`/SECRET where a path secret is set."""
    name: str = "webhook"
    tls: ServerTls | None = None
    open: bool = False
    """Accepts events from anybody."""
    sns_topics: frozenset[str] = frozenset()
    """ARNs."""
    sns_hosts: frozenset[str] = frozenset()
    """As "host:port": may be called for Amazon SNS beside Amazon's own hosts."""
    sns_timeout_s: float = 8.0
    """For each call to Amazon SNS."""
    max_body_bytes: int = 2**20
    max_connections: int = 4096
    max_unproven: int = 256
    """Bodies that may be read at a time before their sender is authenticated."""
    unproven_bytes: int = 16 * 2**20
    """Their bytes in total."""
    accept_timeout_s: float = 20.0
    """Events that the inbox has not recorded by then are answered with 503."""
    header_timeout_s: float = 10.0
    body_timeout_s: float = 15.0
    idle_timeout_s: float = 120.0
    """For a connection between requests."""
    grace_s: float = 5.0
    """For posts that have begun, when the receiver stops."""
    renew_s: float = 60.0
    """Between two checks of the certificate's files."""

    @property
    def variables(self) -> str:
        """The prefix of its environment variables."""
        return f"GPUDROP_{re.sub('[^A-Z0-9]', '_', self.name.upper())}_"


def _several(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _without_scheme(token: str) -> str:
    """Removes the scheme, because MinIO takes a token with it and a person may copy it from there."""
    scheme, _, rest = token.partition(" ")
    return rest.strip() if rest and scheme.lower() == "bearer" else token
