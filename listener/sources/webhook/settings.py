"""What the webhook receiver is told when it is built, and its certificate, read again when it is renewed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gpu_dispatch.net.tls import ServerTls
from manifests.errors import ConfigError

_IN_A_PATH = re.compile(r"[A-Za-z0-9._~-]+")


@dataclass(frozen=True, slots=True)
class PostSecrets:
    """What posts may show: a bearer token, the last segment of their path, a signature made with an HMAC secret.

    Several of a kind let stores be moved from one secret to the next. None of them is ever printed.
    """

    tokens: tuple[str, ...] = field(default=(), repr=False)
    path_secrets: tuple[str, ...] = field(default=(), repr=False)
    hmac_secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, *, token: str = "", path_secret: str = "", hmac_secret: str = "") -> PostSecrets:
        """Reads environment variables: values of one kind are separated by commas. "Bearer X" is the token X.

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
    """Posts are taken at `path` of `host`:`port` (0: any free port), and at `path`/SECRET where a path secret is set.

    Sizes in bytes, times in seconds. A connection has `header_timeout_s` for each request's header, `body_timeout_s`
    for its body, and may be idle for `idle_timeout_s` between requests. What the inbox has not taken after
    `accept_timeout_s` is refused for now; at the end, posts that have begun get `grace_s`. `sns_topics` are ARNs;
    `sns_hosts` ("host:port") may be called for Amazon SNS beside Amazon's own, each call for `sns_timeout_s`. Every
    `renew_s` the certificate's files are looked at. `open` takes events from anybody. Of bodies that are read before
    anything proves who sends them, `max_unproven` are held at a time, of `unproven_bytes` together.
    """

    host: str = "127.0.0.1"
    port: int = 8710
    path: str = "/"
    name: str = "webhook"
    tls: ServerTls | None = None
    open: bool = False
    sns_topics: frozenset[str] = frozenset()
    sns_hosts: frozenset[str] = frozenset()
    sns_timeout_s: float = 8.0
    max_body_bytes: int = 2**20
    max_connections: int = 4096
    max_unproven: int = 256
    unproven_bytes: int = 16 * 2**20
    accept_timeout_s: float = 20.0
    header_timeout_s: float = 10.0
    body_timeout_s: float = 15.0
    idle_timeout_s: float = 120.0
    grace_s: float = 5.0
    renew_s: float = 60.0

    @property
    def variables(self) -> str:
        """How the names of its environment variables begin."""
        return f"GPUDROP_{re.sub('[^A-Z0-9]', '_', self.name.upper())}_"


def _several(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _without_scheme(token: str) -> str:
    """MinIO takes a token with its scheme too; a person may have copied it from there."""
    scheme, _, rest = token.partition(" ")
    return rest.strip() if rest and scheme.lower() == "bearer" else token
