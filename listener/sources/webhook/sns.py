"""Calls to Amazon SNS: confirming a subscription, and fetching the certificates its messages are signed with."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from yarl import URL

from gpu_dispatch.net.bodies import read_beginning
from gpu_dispatch.net.failures import BROKEN
from listener.decoding.outcome import SnsConfirmation
from listener.sources.webhook.sns_messages import confirms, is_signed, may_call, read_sns_message
from manifests.errors import SourceDenied, SourceUnavailable

_MAX_BYTES = 64 * 1024
_CERTIFICATES = 16
_FRESH_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class _CachedCertificate:
    certificate: bytes
    until: float


class SnsClient:
    """`now` counts seconds; a call may take `timeout_s`. Certificates are kept for a day; one is fetched at a time."""

    def __init__(
        self, session: aiohttp.ClientSession, hosts: frozenset[str], now: Callable[[], float], timeout_s: float
    ) -> None:
        self._session = session
        self._hosts = hosts
        self._now = now
        self._timeout_s = timeout_s
        self._kept: OrderedDict[str, _CachedCertificate] = OrderedDict()
        self._fetching = asyncio.Lock()

    async def confirm(self, asked: SnsConfirmation) -> None:
        """Says yes to a subscription.

        Raises SourceDenied when the address is not one of Amazon's, is for something else, or says no;
        SourceUnavailable when it cannot be reached now.
        """
        if not may_call(asked.subscribe_url, self._hosts) or not confirms(asked.subscribe_url, asked.topic_arn):
            raise SourceDenied(
                f"The subscription of {asked.topic_arn} is not confirmed: its address is not Amazon SNS's.",
                hint="Whoever posts this is not Amazon, or `sns_hosts` lacks your own SNS server's host:port.",
                where="sns_topics",
            )
        await self._get(asked.subscribe_url)

    async def signed(self, body: bytes) -> bool:
        """Whether `body` is a message that Amazon SNS signed. Raises SourceUnavailable when that cannot be told now."""
        message = read_sns_message(body)
        if message is None or not may_call(message.SigningCertURL, self._hosts):
            return False
        if not URL(message.SigningCertURL).path.endswith(".pem"):
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
        # Quoted again: a stranger may have written it, and what he wrote must stay within the request's first line.
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
