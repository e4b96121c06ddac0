"""Events that stores post (MinIO, RustFS, Ceph RGW, VersityGW, Amazon SNS).

The HTTP server answers 200 once they are durable, and 503 when they cannot be recorded now.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import structlog

from gpu_dispatch.net.retries import WEBHOOK_ADDRESS, Failure, Retries, is_known
from gpu_dispatch.net.server import HttpServer, ServerLimits
from gpu_dispatch.net.sessions import http_session
from gpu_dispatch.net.tls import ServerCertificate
from listener.sources.base import Condition, Inbox, Opening
from listener.sources.webhook.auth import build_authenticator
from listener.sources.webhook.posts import PostHandler
from listener.sources.webhook.settings import PostSecrets, WebhookSettings
from listener.sources.webhook.sns import SnsClient
from manifests.errors import ConfigError, GpuDropError, SourceDenied, SourceUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.sources.webhook")

_HANDSHAKE_S = 10.0
_BACKLOG = 1024


class WebhookReceiver:
    """Receives posts. `port` is the one that it listens on, 0 while it does not."""

    exclusive = False

    def __init__(self, settings: WebhookSettings, secrets: PostSecrets) -> None:
        """Raises ConfigError when nobody could post, or when secrets are set for an open receiver."""
        self.name = settings.name
        self.port = 0
        self.opening = Opening()
        self._settings = settings
        self._authenticator = build_authenticator(settings, secrets)

    async def run(self, inbox: Inbox) -> None:
        """Raises ConfigError when the certificate cannot be read; every later failure is reported and retried."""
        tls = self._settings.tls
        certificate = await asyncio.to_thread(ServerCertificate, tls) if tls else None
        async with http_session(compressed=True) as session:
            now = asyncio.get_running_loop().time
            sns = SnsClient(session, self._settings.sns_hosts, now, self._settings.sns_timeout_s)
            posts = PostHandler(self._settings, self._authenticator, sns, inbox)
            serving = partial(self._serve, posts, inbox, certificate)
            await Retries(WEBHOOK_ADDRESS).call(serving, on=is_known, on_failure=partial(self._failed, inbox))

    async def _serve(self, posts: PostHandler, inbox: Inbox, certificate: ServerCertificate | None) -> None:
        async with self._listening(posts, inbox, certificate and certificate.context):
            await self._renewing(inbox, certificate)

    def _failed(self, inbox: Inbox, failure: Failure) -> None:
        error = failure.gpudrop_error
        self.opening.failed(error)
        inbox.report(self.name, Condition.problem(error))
        told = {"error": str(error), "hint": error.info.hint, "retry_s": round(failure.wait_s, 2)}
        log.warning("not_listening", source=self.name, **told)

    @asynccontextmanager
    async def _listening(self, posts: PostHandler, inbox: Inbox, tls: ssl.SSLContext | None) -> AsyncGenerator[None]:
        """Listens until it is left; posts that have begun are finished then. Raises the error of `_cannot_listen`."""
        settings = self._settings
        limits = ServerLimits(settings.header_timeout_s, settings.idle_timeout_s, settings.max_connections)
        server = HttpServer(posts.answer, limits, lambda what: inbox.count(self.name, what))
        try:
            listening = await asyncio.get_running_loop().create_server(
                server,
                settings.host,
                settings.port,
                ssl=tls,
                backlog=_BACKLOG,
                ssl_handshake_timeout=_HANDSHAKE_S if tls else None,
            )
        except OSError as e:
            raise _cannot_listen(e, settings) from e
        try:
            self.port = int(listening.sockets[0].getsockname()[1])
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            at = f"{'https' if tls else 'http'}://{host}:{self.port}{settings.path}"
            log.info("listening", source=self.name, address=at)
            inbox.report(self.name, Condition(True, f"listening at {at}"))
            inbox.gap(self.name, f"the receiver at {at} was opened")
            self.opening.succeeded()
            yield
        finally:
            self.port = 0
            listening.close()
            await server.close(settings.grace_s)

    async def _renewing(self, inbox: Inbox, certificate: ServerCertificate | None) -> None:
        """Loads replaced certificate files, for later connections. Never returns."""
        while True:
            await asyncio.sleep(self._settings.renew_s)
            if certificate is None:
                continue
            try:
                if await asyncio.to_thread(certificate.renew):
                    log.info("certificate_renewed", source=self.name)
            except ConfigError as e:
                log.warning("certificate_not_renewed", source=self.name, error=str(e), hint=e.info.hint)
                inbox.count(self.name, "certificate_not_renewed")


def _cannot_listen(e: OSError, settings: WebhookSettings) -> GpuDropError:
    """Returns SourceUnavailable, which passes by itself, or SourceDenied, which needs a person to act."""
    at = f"{settings.host}:{settings.port}"
    if e.errno == errno.EADDRINUSE:
        hint = "Another program listens there: end it, or set `listen` to another port."
        return SourceUnavailable(f"The address {at} is taken.", hint=hint, where="listen")
    if e.errno in (errno.EACCES, errno.EPERM):
        hint = "Ports below 1024 need rights: set `listen` to a higher one."
        return SourceDenied(f"This program may not listen at {at}.", hint=hint, where="listen")
    if isinstance(e, socket.gaierror) or e.errno == errno.EADDRNOTAVAIL:
        hint = "Set `listen` to an address of this machine, 127.0.0.1 or 0.0.0.0."
        return SourceDenied(f"This machine has no address {settings.host}.", hint=hint, where="listen")
    return SourceUnavailable(f"{at} cannot be listened on: {e}.", hint="See the log.", where="listen")
