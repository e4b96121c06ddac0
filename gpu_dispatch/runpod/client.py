"""The HTTP client of RunPod's queue API: one session for all endpoints, with deadlines and rate limits.

No call is retried here; the caller knows which calls may be repeated.

RunPod's own client repeats some calls, hides statuses, and cannot pass `policy` or `webhook`. `status`, `health` and
`cancel` may be repeated by who needs them; after a lost answer to `/retry` the job itself is asked for.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from urllib.parse import quote

import aiohttp
from yarl import URL

from gpu_dispatch.net.bodies import BodyTooLong, read_whole
from gpu_dispatch.net.failures import BROKEN
from gpu_dispatch.net.proxies import proxy_of_environment
from gpu_dispatch.net.sessions import http_session
from gpu_dispatch.net.tls import sole_ca_context
from gpu_dispatch.runpod.errors import (
    Reply,
    RequestBroken,
    RequestNotSent,
    not_sent,
    status_error,
    submit_error,
    submit_unknown,
    unknown_endpoint,
    why_broken,
)
from gpu_dispatch.runpod.rate_limits import Kind, RateLimiter
from gpu_dispatch.runpod.responses import EndpointResponse, JobResponse, endpoint_response_from, job_response_from
from gpu_dispatch.runpod.settings import ClientSettings
from manifests.errors import EndpointDenied, EndpointUnavailable
from manifests.text import without_secrets_in

_LONG = 2**18
"""Bytes; a longer response is parsed in a thread."""

_JOB_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.:-]{0,199}")
_PAUSE_S = 2.0
"""Pause after a 429 without Retry-After."""
_LONGEST_PAUSE_S = 120.0
"""A longer Retry-After is cut to this."""


class RunPodClient:
    """Calls RunPod's queue API. `key` returns the API key and is called before every request.

    Methods raise GpuDropError only.
    """

    def __init__(
        self, settings: ClientSettings, *, key: Callable[[], str], rate_limiter: RateLimiter | None = None
    ) -> None:
        self.rate_limiter = rate_limiter or RateLimiter()
        self._settings = settings
        self._key = key
        self._api = settings.api.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._proxy: str | None = None
        self._submitting = aiohttp.ClientTimeout(total=settings.submit_s, connect=settings.connect_s)
        self._asking = aiohttp.ClientTimeout(total=settings.call_timeout_s, connect=settings.connect_s)

    async def start(self) -> None:
        """Opens the session. Raises ConfigError when the certificates cannot be read."""
        settings = self._settings
        trusted = await asyncio.to_thread(sole_ca_context, settings.ca_file, where="runpod.ca_file")
        self._proxy = settings.proxy or proxy_of_environment(self._api)
        self._session = http_session(
            tls=trusted, connections=settings.connections, compressed=True, headers={"Accept": "application/json"}
        )

    async def close(self) -> None:
        session, self._session = self._session, None
        if session:
            await session.close()

    async def run(self, endpoint_id: str, body: bytes) -> str:
        """Submits `body` and returns the job's id.

        Raises EndpointUnavailable, EndpointDenied or TaskRefused when no job was created, and SubmitUnknown when one
        may have been.
        """
        try:
            reply = await self._call("POST", endpoint_id, "run", "run", body)
        except RequestNotSent as e:
            raise e.error from e
        except RequestBroken as e:
            raise submit_unknown(str(e)) from e
        answer = job_response_from(reply.body) if reply.ok else None
        if answer and _JOB_ID.fullmatch(answer.id):
            return answer.id
        raise submit_error(reply, endpoint_id)

    async def status(self, endpoint_id: str, job_id: str) -> JobResponse | None:
        """Returns the job's state; None when RunPod knows no such job."""
        return await self._job_call("GET", endpoint_id, "status", job_id)

    async def cancel(self, endpoint_id: str, job_id: str) -> JobResponse | None:
        """Cancels the job; returns None when RunPod knows no such job or it has ended."""
        return await self._job_call("POST", endpoint_id, "cancel", job_id, none=(400, 404, 409))

    async def retry(self, endpoint_id: str, job_id: str) -> JobResponse | None:
        """Queues a failed job again; returns None when RunPod knows no such job or it has not failed."""
        return await self._job_call("POST", endpoint_id, "retry", job_id, none=(400, 404, 409, 422))

    async def health(self, endpoint_id: str) -> EndpointResponse:
        reply = await self._call_retryable("GET", endpoint_id, "health", "health")
        if reply.status == 404:
            raise unknown_endpoint(endpoint_id)
        answer = endpoint_response_from(reply.body) if reply.ok else None
        if answer is None:
            raise status_error(reply, endpoint_id)
        return answer

    async def purge(self, endpoint_id: str) -> None:
        """Removes every job that no worker has begun."""
        reply = await self._call_retryable("POST", endpoint_id, "purge", "purge-queue")
        if reply.status == 404:
            raise unknown_endpoint(endpoint_id)
        if not reply.ok:
            raise status_error(reply, endpoint_id)

    async def _job_call(
        self, method: str, endpoint_id: str, kind: Kind, job_id: str, none: tuple[int, ...] = (404,)
    ) -> JobResponse | None:
        reply = await self._call_retryable(method, endpoint_id, kind, f"{kind}/{quote(job_id, safe='')}")
        if reply.status in none:
            return None
        answer = await _answer(reply.body) if reply.ok else None
        if answer is None or answer.state is None:
            raise status_error(reply, endpoint_id)
        return answer

    async def _call_retryable(self, method: str, endpoint_id: str, kind: Kind, path: str) -> Reply:
        try:
            return await self._call(method, endpoint_id, kind, path)
        except RequestNotSent as e:
            raise e.error from e
        except RequestBroken as e:
            raise EndpointUnavailable(
                f"RunPod said nothing about endpoint {endpoint_id}: {e}.", hint="It is tried again."
            ) from e

    async def _call(self, method: str, endpoint_id: str, kind: Kind, path: str, body: bytes | None = None) -> Reply:
        """Sends one request. Raises RequestNotSent, RequestBroken and what the rate limiter raises."""
        session, key = self._ready()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        timeout = self._asking if body is None else self._submitting
        url = URL(f"{self._api}/{quote(endpoint_id, safe='')}/{path}", encoded=True)
        async with self.rate_limiter.acquire(endpoint_id, kind, self._settings.max_wait_s):
            try:
                async with session.request(
                    method,
                    url,
                    data=body,
                    headers=headers,
                    proxy=self._proxy,
                    timeout=timeout,
                    allow_redirects=False,
                ) as response:
                    reply = Reply(response.status, await self._whole(response), _retry_after(response), key)
            except BROKEN as e:
                raise not_sent(e, without_secrets_in(self._api)) or RequestBroken(why_broken(e)) from e
        if reply.status == 429:
            self.rate_limiter.pause(endpoint_id, kind, reply.retry_after_s or _PAUSE_S)
        return reply

    def _ready(self) -> tuple[aiohttp.ClientSession, str]:
        if self._session is None:
            raise EndpointUnavailable("RunPod is not called any more: this program is ending.")
        key = self._key().strip()
        if not key.isascii() or not key.isprintable() or not key:
            raise EndpointDenied("There is no usable key for RunPod.", hint="Set GPUDROP_RUNPOD_API_KEY.")
        return self._session, key

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            return await read_whole(response.content, self._settings.answer_bytes)
        except BodyTooLong as e:
            raise RequestBroken(f"its answer is longer than {self._settings.answer_bytes:,} bytes") from e


async def _answer(body: bytes) -> JobResponse | None:
    return await asyncio.to_thread(job_response_from, body) if len(body) > _LONG else job_response_from(body)


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Returns Retry-After in seconds; None when it is missing or a date, which would need two clocks to agree."""
    try:
        return min(max(float(response.headers.get("Retry-After", "")), 0.0), _LONGEST_PAUSE_S)
    except ValueError:
        return None
