"""Who may post, decided without a server."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.net.tls import ServerTls
from listener.sources.webhook.auth import AuthDecision, Credentials, build_authenticator, path_secret
from listener.sources.webhook.settings import PostSecrets, WebhookSettings
from listener.sources.webhook.source import WebhookReceiver
from manifests.errors import ConfigError

SECRETS = PostSecrets.of(token="one, Bearer two", path_secret="in-path,other", hmac_secret="key, second")
GATE = build_authenticator(WebhookSettings(sns_topics=frozenset({"arn:topic"})), SECRETS)
BODY = b'{"Records": []}'


def signature(secret: str, body: bytes = BODY) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    "shown",
    [
        Credentials(authorization="Bearer one"),
        Credentials(authorization="bearer  two "),
        Credentials(path_secret="in-path"),
        Credentials(path_secret="other"),
        Credentials(authorization="Bearer wrong", path_secret="other"),
        Credentials(authorization="Bearer one", path_secret="wrong"),
    ],
)
def test_one_right_proof_opens(shown: Credentials) -> None:
    assert GATE.decide(shown) is AuthDecision.OPEN


@pytest.mark.parametrize(
    "shown",
    [
        Credentials(),
        Credentials(authorization="Bearer"),
        Credentials(authorization="Bearer "),
        Credentials(authorization="one"),
        Credentials(authorization="Basic one"),
        Credentials(authorization="Bearer one, two"),
        Credentials(authorization="Bearer \udcff"),
        Credentials(path_secret="one"),
        Credentials(authorization="Bearer in-path"),
        Credentials(sns_topic="arn:other"),
    ],
)
def test_nothing_or_a_wrong_proof_is_shut_out_before_the_body(shown: Credentials) -> None:
    assert GATE.decide(shown) is AuthDecision.DENIED


@given(st.text(), st.text())
def test_nothing_guessed_opens(authorization: str, in_path: str) -> None:
    authenticator = build_authenticator(WebhookSettings(), PostSecrets(tokens=("t" * 40,), path_secrets=("p" * 40,)))
    shown = Credentials(authorization=f"Bearer {authorization}", path_secret=in_path)
    assert authenticator.decide(shown) is AuthDecision.DENIED


def test_a_signature_is_judged_by_the_body() -> None:
    assert GATE.decide(Credentials(signature=signature("key"))) is AuthDecision.BODY_DECIDES
    assert GATE.signed(signature("key"), BODY)
    assert GATE.signed(signature("second").upper().replace("SHA", "sha"), BODY)
    assert not GATE.signed(signature("key"), BODY + b" ")
    assert not GATE.signed(signature("one"), BODY)
    assert not GATE.signed("sha256=", BODY)
    assert not GATE.signed("sha256=ÿ", BODY)


def test_a_signature_means_nothing_where_no_secret_makes_one() -> None:
    authenticator = build_authenticator(WebhookSettings(), PostSecrets.of(token="one"))
    assert authenticator.decide(Credentials(signature=signature(""))) is AuthDecision.DENIED
    assert not authenticator.signed(signature(""), BODY)


@pytest.mark.parametrize(
    ("path", "asked", "shown"),
    [
        ("/", "/", ""),
        ("/", "/secret", "secret"),
        ("/", "/a/secret", None),
        ("/minio", "/minio", ""),
        ("/minio", "/minio/", ""),
        ("/minio/", "/minio/secret/", "secret"),
        ("/minio", "/minio/a/b", None),
        ("/minio", "/minios", None),
        ("/minio", "/", None),
        ("/minio", "/other/secret", None),
        ("/minio", "/minio//secret", None),
    ],
)
def test_the_secret_is_the_last_segment(path: str, asked: str, shown: str | None) -> None:
    assert path_secret(path, asked) == shown


def test_a_receiver_that_lets_nobody_in_says_what_to_set() -> None:
    with pytest.raises(ConfigError) as e:
        WebhookReceiver(WebhookSettings(name="drop-box"), PostSecrets.of(token=" , "))
    for name in ("GPUDROP_DROP_BOX_TOKEN", "GPUDROP_DROP_BOX_PATH_SECRET", "GPUDROP_DROP_BOX_HMAC_SECRET", "open"):
        assert name in e.value.info.hint


@pytest.mark.parametrize(
    "settings",
    [
        {"open": True},
        {"sns_topics": frozenset({"arn:topic"})},
        {"tls": ServerTls(Path("cert"), Path("key"), Path("ca"))},
    ],
)
def test_without_secrets_there_are_other_ways_in(settings: dict[str, Any]) -> None:
    assert WebhookReceiver(WebhookSettings(**settings), PostSecrets())


def test_a_certificate_of_the_receiver_alone_lets_nobody_in() -> None:
    with pytest.raises(ConfigError):
        WebhookReceiver(WebhookSettings(tls=ServerTls(Path("cert"), Path("key"))), PostSecrets())


def test_an_open_receiver_with_a_secret_is_a_contradiction() -> None:
    with pytest.raises(ConfigError, match="open to anybody"):
        WebhookReceiver(WebhookSettings(open=True), PostSecrets.of(token="one"))


def test_a_secret_beside_client_certificates_is_asked_for_too() -> None:
    settings = WebhookSettings(tls=ServerTls(Path("cert"), Path("key"), Path("ca")))
    assert build_authenticator(settings, PostSecrets()).decide(Credentials()) is AuthDecision.OPEN
    assert build_authenticator(settings, PostSecrets.of(token="one")).decide(Credentials()) is AuthDecision.DENIED


@pytest.mark.parametrize("text", ["a/b", "ü", "a b", "a%20b", "a?b"])
def test_a_path_secret_must_survive_in_an_address(text: str) -> None:
    with pytest.raises(ConfigError) as e:
        PostSecrets.of(path_secret=text)
    assert text not in str(e.value) + e.value.info.hint


def test_secrets_are_not_printed() -> None:
    shown = Credentials(authorization="Bearer one", path_secret="in-path")
    assert repr(SECRETS) == "PostSecrets()"
    assert "in-path" not in repr(GATE) + repr(shown)
    assert "Bearer" not in repr(shown)
