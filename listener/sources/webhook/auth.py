"""Authenticates posts, in a time that reveals nothing about the secrets."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from listener.sources.webhook.settings import PostSecrets, WebhookSettings
from manifests.errors import ConfigError


class AuthDecision(Enum):
    """What a post's headers and path prove."""

    OPEN = "open"
    DENIED = "shut"
    BODY_DECIDES = "body decides"
    """A signature over the body, or inside it, has to be verified."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials in a post's headers and path; empty where there are none."""

    authorization: str = field(default="", repr=False)
    path_secret: str = field(default="", repr=False)
    signature: str = ""
    """Over the body: "sha256=" and 64 hex digits."""
    sns_topic: str = ""


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Decides who may post.

    One proof suffices: a token, the secret in the path, a signature over the body, or Amazon SNS's signature for a
    listed topic.
    """

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
        return AuthDecision.DENIED

    def signed(self, signature: str, body: bytes) -> bool:
        """Returns whether `signature` was made over `body` with one of the HMAC secrets."""
        expected = (
            "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
            for secret in self.secrets.hmac_secrets
        )
        return _is_one_of(signature.lower(), expected)


def build_authenticator(settings: WebhookSettings, secrets: PostSecrets) -> Authenticator:
    """Builds the authenticator. Raises ConfigError when nobody could post, or when secrets are set for an open one."""
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
    # TLS has already checked a required client certificate; a secret that is set as well is also required.
    anybody = settings.open or (certified and not secrets)
    return Authenticator(secrets, settings.sns_topics, anybody)


def path_secret(path: str, request_path: str) -> str | None:
    """Returns SEGMENT where `asked` is `path`/SEGMENT, "" where it is `path` itself, else None."""
    root, request_path = path.rstrip("/"), request_path.rstrip("/")
    if request_path == root:
        return ""
    parent, _, last = request_path.rpartition("/")
    return last if parent == root else None


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _is_one_of(shown: str, secrets: Iterable[str]) -> bool:
    """Compares digests of equal length with every secret, so that the time reveals nothing."""
    digest = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).digest()
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(digest, hashlib.sha256(secret.encode()).digest())
    return found
