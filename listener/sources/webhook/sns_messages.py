"""What Amazon SNS signs, and whether it did. Pure: the certificate is an argument."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Literal

from Crypto.Hash import SHA1, SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15
from pydantic import BaseModel, ConfigDict, ValidationError
from yarl import URL

from manifests.hosts import parse_web_address

_AMAZON = re.compile(r"sns\.[a-z0-9-]{1,40}\.amazonaws\.com(\.cn)?")
"""Not any host of amazonaws.com: everybody's buckets are there too."""

_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


class SnsMessage(BaseModel):
    """The envelope, as far as its signature covers it. Names are Amazon's."""

    model_config = ConfigDict(frozen=True)

    Type: Literal["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]
    MessageId: str
    TopicArn: str
    Message: str
    Timestamp: str
    SignatureVersion: Literal["1", "2"]
    Signature: str
    SigningCertURL: str
    Subject: str | None = None
    SubscribeURL: str | None = None
    Token: str | None = None


def read_sns_message(body: bytes) -> SnsMessage | None:
    try:
        return SnsMessage.model_validate_json(body)
    except ValidationError:
        return None


def is_signed(message: SnsMessage, certificate: bytes) -> bool:
    """Whether the key in `certificate` (PEM) signed `message`."""
    digest = SHA256 if message.SignatureVersion == "2" else SHA1
    try:
        key = RSA.import_key(certificate)
        signature = base64.b64decode(message.Signature, validate=True)
        pkcs1_15.new(key).verify(digest.new(_signed_text(message).encode()), signature)
    except (ValueError, IndexError, TypeError, binascii.Error):
        return False
    return True


def may_call(url: str, hosts: frozenset[str]) -> bool:
    """Whether `url`, which a stranger may have written, is Amazon SNS's own by https, or on one of `hosts`."""
    try:
        address = URL(url)
        port = address.port
    except ValueError:
        return False
    if parse_web_address(url) is None or address.user is not None or address.password is not None or not address.host:
        return False
    if address.scheme in ("http", "https") and f"{address.host}:{port}" in hosts:
        return True
    return address.scheme == "https" and port == 443 and bool(_AMAZON.fullmatch(address.host))


def confirms(url: str, topic: str) -> bool:
    """Whether calling `url` confirms a subscription to `topic`, and not to another one or something else."""
    query = URL(url).query
    return query.getall("Action", []) == ["ConfirmSubscription"] and query.getall("TopicArn", []) == [topic]


def _signed_text(message: SnsMessage) -> str:
    names = _NOTIFICATION if message.Type == "Notification" else _CONFIRMATION
    values = {name: getattr(message, name) for name in names}
    return "".join(f"{name}\n{value}\n" for name, value in values.items() if value is not None)
