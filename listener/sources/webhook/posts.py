"""Answers posts. Responses have no body, because some stores never read one and lose the connection each time."""

from __future__ import annotations

import asyncio

import structlog
from aiohttp import web

from listener.events.envelopes import decode_message
from listener.events.event import MessageChannel, ObjectEvent, SnsConfirmation
from listener.sources.base import Inbox, hand_over
from listener.sources.webhook.auth import AuthDecision, Authenticator, Credentials, path_secret
from listener.sources.webhook.bodies import LATER, BodyRefused, UnauthenticatedBodies, read_body
from listener.sources.webhook.settings import WebhookSettings
from listener.sources.webhook.sns import SnsClient
from manifests.errors import SourceDenied, SourceUnavailable, StoreUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.webhook")

_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_QUIET_S = 60.0


class PostHandler:
    """Answers posts for one inbox.

    200: recorded, or of no interest. 202: not understood, and counted. 400: not JSON, broken body. 401: not
    authenticated. 403: SNS topic not listed or not confirmed. 404, 405: wrong path, wrong method. 408, 413, 415: body
    too slow, too long, compressed. 503, to be sent again: not recorded now, SNS unreachable, too many unauthenticated
    bodies.

    Seen on real servers or in their source: MinIO repeats everything but 2xx every 3 s for ever, in order, and only
    with a queue folder; VersityGW, SeaweedFS and MinIO without a queue never repeat. VersityGW reads no answers: with a
    body in them it opened 41 connections for 40 events, without one a single connection. MinIO (2025-09) and RustFS
    test the receiver by opening a connection, older MinIO by HEAD, taking any answer. A post whose client gives up is
    recorded all the same.
    """

    def __init__(self, settings: WebhookSettings, authenticator: Authenticator, sns: SnsClient, inbox: Inbox) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._sns = sns
        self._inbox = inbox
        self._unproven = UnauthenticatedBodies(
            max_bodies=settings.max_unproven,
            max_bytes=max(settings.unproven_bytes, settings.max_body_bytes),
            timeout_s=settings.body_timeout_s + settings.sns_timeout_s,
        )
        self._told: dict[str, float] = {}

    async def answer(self, request: web.BaseRequest) -> web.Response:
        try:
            status = await self._take(await self._admitted(request))
            return web.Response(status=status)
        except BodyRefused as e:
            self._inbox.count(self._settings.name, e.reason)
            self._log_refusal(e, request.remote or "")
            return web.Response(status=e.status, headers=e.headers)

    async def _admitted(self, request: web.BaseRequest) -> bytes:
        """Returns the body of an authenticated post. Raises BodyRefused."""
        in_path = path_secret(self._settings.path, request.rel_url.raw_path)
        if in_path is None or (in_path and not self._authenticator.secrets.path_secrets):
            raise BodyRefused(404, "wrong_path")
        if request.method != "POST":
            raise BodyRefused(405, "wrong_method", {"Allow": "POST"})
        shown = Credentials(
            authorization=request.headers.get("Authorization", ""),
            path_secret=in_path,
            signature=request.headers.get("X-Gpudrop-Signature", ""),
            sns_topic=request.headers.get("x-amz-sns-topic-arn", ""),
        )
        decision = self._authenticator.decide(shown)
        if decision is AuthDecision.DENIED:
            raise BodyRefused(401, "wrong_token", _CHALLENGE)
        self._check_topic(shown.sns_topic)
        if decision is AuthDecision.BODY_DECIDES:
            return await self._proven_body(request, shown)
        return await read_body(
            request, max_bytes=self._settings.max_body_bytes, timeout_s=self._settings.body_timeout_s
        )

    async def _proven_body(self, request: web.BaseRequest, shown: Credentials) -> bytes:
        settings = self._settings
        async with self._unproven.admit() as one:
            body = await read_body(
                request,
                max_bytes=settings.max_body_bytes,
                timeout_s=settings.body_timeout_s,
                on_growth=lambda size: self._unproven.grow(one, size),
            )
            if not await self._proven(shown, body):
                raise BodyRefused(401, "wrong_signature", _CHALLENGE)
            return body

    async def _proven(self, shown: Credentials, body: bytes) -> bool:
        if shown.signature and self._authenticator.signed(shown.signature, body):
            return True
        if shown.sns_topic not in self._authenticator.sns_topics:
            return False
        try:
            return await self._sns.signed(body)
        except SourceUnavailable as e:
            raise BodyRefused(503, "sns_unreachable", LATER) from e

    async def _take(self, body: bytes) -> int:
        """Processes everything in `body`; returns the HTTP status."""
        decoded = decode_message(body, MessageChannel.WEBHOOK, source=self._settings.name)
        self._check_topic(decoded.confirmation.topic_arn if decoded.confirmation else decoded.sns_topic)
        for item in decoded.ignored:
            self._inbox.count(self._settings.name, item.reason)
            log.debug("record_ignored", source=self._settings.name, reason=item.reason, detail=item.detail)
        if decoded.confirmation:
            await self._confirm(decoded.confirmation)
        await self._accept(decoded.events)
        if not decoded.malformed:
            return 200
        not_json = any(item.reason == "not_json" for item in decoded.ignored)
        # A retry cannot make an unknown shape known: refusing it would block a store's queue for ever.
        return 400 if not_json and not decoded.sns_topic else 202

    def _check_topic(self, topic: str) -> None:
        if topic and topic not in self._settings.sns_topics:
            raise BodyRefused(403, "sns_topic_not_listed")

    async def _confirm(self, confirmation: SnsConfirmation) -> None:
        name = self._settings.name
        if confirmation.kind == "unsubscribe":
            self._inbox.count(name, "sns_unsubscribed")
            log.warning(
                "sns_unsubscribed", source=name, topic=confirmation.topic_arn, hint="Subscribe this address again."
            )
            return
        try:
            await self._sns.confirm(confirmation)
        except SourceUnavailable as e:
            log.warning("sns_not_confirmed", source=name, topic=confirmation.topic_arn, error=str(e))
            raise BodyRefused(503, "sns_unreachable", LATER) from e
        except SourceDenied as e:
            log.error("sns_not_confirmed", source=name, topic=confirmation.topic_arn, error=str(e), hint=e.info.hint)
            raise BodyRefused(403, "sns_not_confirmed") from e
        log.info("sns_confirmed", source=name, topic=confirmation.topic_arn)

    async def _accept(self, events: tuple[ObjectEvent, ...]) -> None:
        """Returns once the inbox has recorded the events or refused them for good. Raises BodyRefused.

        Not every store repeats a post after another status than 200, so a failure is also reported as a gap.
        """
        if not events:
            return
        try:
            async with asyncio.timeout(self._settings.accept_timeout_s):
                await hand_over(self._inbox.accept, events, source=self._settings.name)
        except (StoreUnavailable, TimeoutError) as e:
            self._inbox.gap(self._settings.name, "events could not be recorded when they were posted")
            raise BodyRefused(503, "not_recorded", LATER) from e

    def _log_refusal(self, refused: BodyRefused, remote: str) -> None:
        """Logs a refusal, at most once a minute for each cause, because strangers can cause many."""
        now = asyncio.get_running_loop().time()
        if now - self._told.get(refused.reason, -_QUIET_S) >= _QUIET_S:
            self._told[refused.reason] = now
            told = {"status": refused.status, "reason": refused.reason, "remote": remote}
            log.warning("post_refused", source=self._settings.name, **told)
