"""Callbacks are signed as Standard Webhooks says, and sidecars are sealed so that nobody else's is signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest

from listener.runs.adoption import SidecarSignature
from listener.runs.callbacks import CallbackSigner, secret_key
from manifests.errors import ConfigError
from manifests.sidecars import CallbackNote, DoneSidecar, done_bytes, with_callback, without_callback

URL = "https://n8n.example/webhook/1?a=b"
PUBLISHED = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""The specification's own example, with what its libraries make of it."""
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BODY = done_bytes(
    DoneSidecar(
        "run-1", "a.job.json", "caption", "ok", NOW, NOW, metadata={"n": 1.5, "s": "\ud800é", "list": [None, {"x": 1}]}
    )
)


def test_the_published_example() -> None:
    headers = CallbackSigner(PUBLISHED).headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, URL, b'{"test": 2432232314}'
    )
    assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("between you and me", b"between you and me"),
        ("whsec_" + base64.b64encode(b"\0" * 24).decode(), b"\0" * 24),
        ("whsec_" + base64.b64encode(b"\1" * 25).decode().rstrip("="), b"\1" * 25),
    ],
)
def test_a_receiver_verifies_what_was_sent_to_it_and_when(secret: str, key: bytes) -> None:
    def expected(url: str, identity: str, time: int, body: bytes) -> str:
        text = f"POST\n{url}\n{identity}\n{time}\n".encode() + body
        return "sha256=" + hmac.new(key, text, hashlib.sha256).hexdigest()

    headers = CallbackSigner(secret).headers("callback-1", 1000, URL, BODY)
    assert headers["X-Gpudrop-Signature-V2"] == expected(URL, "callback-1", 1000, BODY)
    for other in (
        (URL + "&c", "callback-1", 1000, BODY), (URL, "callback-2", 1000, BODY), (URL, "callback-1", 1001, BODY),
        (URL, "callback-1", 1000, BODY + b" "),
    ):  # fmt: skip
        assert headers["X-Gpudrop-Signature-V2"] != expected(*other)
    old = hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()
    assert headers["X-Gpudrop-Signature"] == f"sha256={old}"


def test_without_a_secret_nothing_is_signed() -> None:
    assert CallbackSigner("").headers("callback-1", 7, URL, b"") == {
        "webhook-id": "callback-1",
        "webhook-timestamp": "7",
    }


@pytest.mark.parametrize("secret", ["whsec_", "whsec_%%%", "whsec_été", "whsec_abcde", "\udcff"])
def test_a_secret_that_is_none(secret: str) -> None:
    with pytest.raises(ConfigError, match="GPUDROP_CALLBACK_SECRET"):
        secret_key(secret)


def test_a_seal_holds_whatever_the_sidecar_tells_of_its_callback() -> None:
    seal = SidecarSignature("secret")
    sealed = seal.sign(BODY)
    assert seal.is_valid(sealed)
    for state in ("waiting", "given_up", "delivered"):
        noted = with_callback(sealed, "run-1", CallbackNote(state, 2, "It answered 503.", "Again."))
        assert noted is not None
        assert seal.is_valid(noted)
        assert without_callback(noted) == sealed


@pytest.mark.parametrize("change", [{"code": 201}, {"metadata": {}}, {"extra": 1}, {"seal": "x"}, {"seal": None}])
def test_a_seal_is_broken_by_everything_else(change: dict[str, object]) -> None:
    seal = SidecarSignature("secret")
    forged = json.dumps({**json.loads(seal.sign(BODY)), **change}).encode()
    assert not seal.is_valid(forged)
    assert not seal.is_valid(BODY)
    assert not SidecarSignature("another").is_valid(seal.sign(BODY))
    assert SidecarSignature().is_valid(forged)


def test_what_is_signed_is_what_was_sealed_letter_by_letter() -> None:
    """JSON has many spellings of one document, and readers that take the first of two fields with one name."""
    seal = SidecarSignature("secret")
    sealed = seal.sign(BODY)
    for spelling in (
        json.dumps(json.loads(sealed)).encode(),
        sealed.replace(b'"code"', b'"code": 666, "code"', 1),
        sealed.replace(b'"message"', b'"message": "forged", "message"', 1) + b" ",
    ):
        assert spelling != sealed
        assert seal.verified(spelling) in (None, sealed)
    assert seal.verified(sealed) == sealed
    assert seal.verified(BODY) is None
    assert SidecarSignature().verified(BODY) == BODY
