"""Amazon SNS: verifies its signatures, fetches its certificates and confirms subscriptions."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import aiohttp
from Crypto.Hash import SHA1, SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15
from pydantic import BaseModel, ConfigDict, ValidationError
from yarl import URL

from gpu_dispatch.net.bodies import read_beginning
from gpu_dispatch.net.failures import BROKEN
from listener.events.event import SnsConfirmation
from manifests.errors import SourceDenied, SourceUnavailable
from manifests.hosts import parse_web_address

_AMAZON = re.compile(r"sns\.[a-z0-9-]{1,40}\.amazonaws\.com(\.cn)?")
"""Not every host of amazonaws.com, because everybody's buckets are there too."""

_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


class SnsMessage(BaseModel):
    """The fields of an envelope that its signature covers. Names are Amazon's."""

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
    """Returns whether the key in `certificate` (PEM) signed `message`."""
    digest = SHA256 if message.SignatureVersion == "2" else SHA1
    try:
        key = RSA.import_key(certificate)
        signature = base64.b64decode(message.Signature, validate=True)
        pkcs1_15.new(key).verify(digest.new(_signed_text(message).encode()), signature)
    except (ValueError, IndexError, TypeError, binascii.Error):
        return False
    return True


def may_call(url: str, hosts: frozenset[str]) -> bool:
    """Returns whether `url`, which may be a stranger's, is Amazon SNS's by https or on one of `hosts` ("host:port")."""
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
    """Returns whether calling `url` confirms a subscription to `topic`, and does nothing else."""
    query = URL(url).query
    return query.getall("Action", []) == ["ConfirmSubscription"] and query.getall("TopicArn", []) == [topic]


def _signed_text(message: SnsMessage) -> str:
    names = _NOTIFICATION if message.Type == "Notification" else _CONFIRMATION
    values = {name: getattr(message, name) for name in names}
    return "".join(f"{name}\n{value}\n" for name, value in values.items() if value is not None)


_MAX_BYTES = 64 * 1024
_CERTIFICATES = 16
_FRESH_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class _CachedCertificate:
    certificate: bytes
    until: float


class SnsClient:
    """Calls Amazon SNS, `timeout_s` seconds each. Certificates are cached for a day, and fetched one at a time.

    `now` returns monotonic seconds.
    """

    def __init__(
        self, session: aiohttp.ClientSession, hosts: frozenset[str], now: Callable[[], float], timeout_s: float
    ) -> None:
        self._session = session
        self._hosts = hosts
        self._now = now
        self._timeout_s = timeout_s
        self._kept: OrderedDict[str, _CachedCertificate] = OrderedDict()
        self._fetching = asyncio.Lock()

    async def confirm(self, confirmation: SnsConfirmation) -> None:
        """Confirms a subscription.

        Raises SourceDenied when the address is not Amazon's, is for something else, or refuses; SourceUnavailable when
        it cannot be reached now.
        """
        if not may_call(confirmation.subscribe_url, self._hosts) or not confirms(
            confirmation.subscribe_url, confirmation.topic_arn
        ):
            raise SourceDenied(
                f"The subscription of {confirmation.topic_arn} is not confirmed: its address is not Amazon SNS's.",
                hint="Whoever posts this is not Amazon, or `sns_hosts` lacks your own SNS server's host:port.",
                where="sns_topics",
            )
        await self._get(confirmation.subscribe_url)

    async def signed(self, body: bytes) -> bool:
        """Returns whether Amazon SNS signed `body`. Raises SourceUnavailable when its certificate cannot be fetched."""
        message = read_sns_message(body)
        if message is None or not may_call(message.SigningCertURL, self._hosts):
            return False
        address = URL(message.SigningCertURL)
        # Amazon's have no query: with one, a stranger could have the same certificate fetched and kept many times.
        if not address.path.endswith(".pem") or address.query_string or address.fragment:
            return False
        try:
            certificate = await self._certificate(message.SigningCertURL)
        except SourceDenied:
            return False
        return is_signed(message, certificate)

    async def _certificate(self, url: str) -> bytes:
        if kept := self._fresh(url):
            return kept
        async with self._fetching:
            if kept := self._fresh(url):
                return kept
            certificate = await self._get(url)
            self._kept[url] = _CachedCertificate(certificate, self._now() + _FRESH_S)
            if len(self._kept) > _CERTIFICATES:
                self._kept.popitem(last=False)
            return certificate

    def _fresh(self, url: str) -> bytes | None:
        kept = self._kept.get(url)
        return kept.certificate if kept and kept.until > self._now() else None

    async def _get(self, url: str) -> bytes:
        # URL quotes it again: a stranger's text must stay within the request line.
        address = URL(url)
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.get(address, allow_redirects=False) as response,
            ):
                body = await read_beginning(response.content, _MAX_BYTES)
                status = response.status
        except BROKEN as e:
            raise SourceUnavailable(f"{address.host} cannot be reached: {type(e).__name__}.", where="sns") from e
        if status == 429 or status >= 500:
            raise SourceUnavailable(f"{address.host} cannot answer now ({status}).", where="sns")
        if status != 200:
            raise SourceDenied(
                f"{address.host} refuses ({status}).",
                hint="Have the subscription's confirmation sent again.",
                where="sns",
            )
        return body
