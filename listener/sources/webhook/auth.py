"""Who may post: decided from what a post shows, in a time that tells nothing about the secrets."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from listener.sources.webhook.settings import PostSecrets, WebhookSettings
from manifests.errors import ConfigError


class AuthDecision(Enum):
    OPEN = "open"
    SHUT = "shut"
    BODY_DECIDES = "body decides"
    """The body has to be read: it, or what is written about it, is the proof."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a post shows before its body; empty texts where it shows nothing. `signature` is about the body."""

    authorization: str = field(default="", repr=False)
    path_secret: str = field(default="", repr=False)
    signature: str = ""
    sns_topic: str = ""


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Any one proof suffices: a token, the secret in the path, a signature over the body, or Amazon SNS's own
    signature for a topic that is listed. `anybody` needs none."""

    secrets: PostSecrets
    sns_topics: frozenset[str]
    anybody: bool

    def decide(self, shown: Credentials) -> AuthDecision:
        by_token = _is_one_of(_bearer(shown.authorization), self.secrets.tokens)
        by_path = _is_one_of(shown.path_secret, self.secrets.path_secrets)
        if self.anybody or by_token or by_path:
            return AuthDecision.OPEN
        if (shown.signature and self.secrets.hmac_secrets) or shown.sns_topic in self.sns_topics:
            return AuthDecision.BODY_DECIDES
        return AuthDecision.SHUT

    def signed(self, signature: str, body: bytes) -> bool:
        """Whether `signature` ("sha256=" and 64 hex digits) was made over `body` with one of the secrets."""
        expected = (
            "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
            for secret in self.secrets.hmac_secrets
        )
        return _is_one_of(signature.lower(), expected)


def build_authenticator(settings: WebhookSettings, secrets: PostSecrets) -> Authenticator:
    """Raises ConfigError when nobody could post, or when secrets are set that would keep nobody out."""
    names = f"{settings.variables}TOKEN, {settings.variables}PATH_SECRET or {settings.variables}HMAC_SECRET"
    if settings.open and secrets:
        raise ConfigError(
            f"The webhook receiver {settings.name!r} is open to anybody, yet a secret is set for it.",
            hint=f"Take out `open`, or unset {names}.",
            where="open",
        )
    certified = settings.tls is not None and settings.tls.client_ca_file is not None
    if not (secrets or settings.open or settings.sns_topics or certified):
        raise ConfigError(
            f"Nobody may post to the webhook receiver {settings.name!r}: no secret is set for it.",
            hint=f"Set {names}; or `tls.client_ca_file`, or `sns_topics`; or `open: true` where only stores reach it.",
            where=settings.name,
        )
    # Where a certificate is demanded TLS has checked it before; a secret that is set as well is asked for too.
    anybody = settings.open or (certified and not secrets)
    return Authenticator(secrets, settings.sns_topics, anybody)


def path_secret(path: str, asked: str) -> str | None:
    """The last segment where `asked` is `path`/SEGMENT, "" where it is `path` itself, None anywhere else."""
    root, asked = path.rstrip("/"), asked.rstrip("/")
    if asked == root:
        return ""
    parent, _, last = asked.rpartition("/")
    return last if parent == root else None


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _is_one_of(shown: str, secrets: Iterable[str]) -> bool:
    """Compares with every secret, and digests of equal length, so that the time says nothing."""
    digest = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).digest()
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(digest, hashlib.sha256(secret.encode()).digest())
    return found
