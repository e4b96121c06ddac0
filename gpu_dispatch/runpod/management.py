"""RunPod's management API over HTTP: lists templates and endpoints, and translates failures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from gpu_dispatch.net.bodies import BodyTooLong, read_whole
from gpu_dispatch.net.failures import BROKEN
from gpu_dispatch.net.proxies import proxy_of_environment
from gpu_dispatch.net.sessions import http_session
from gpu_dispatch.net.tls import sole_ca_context, tls_failure
from gpu_dispatch.runpod import account
from gpu_dispatch.runpod.settings import ClientSettings
from manifests.errors import ConfigError, EndpointDenied, EndpointUnavailable, GpuDropError

_MOST_BYTES = 16 * 2**20
_NEW_KEY = "Make a key in RunPod's console under Settings, API keys, and set GPUDROP_RUNPOD_API_KEY."


class ManagementClient:
    """A client whose methods raise EndpointDenied, EndpointUnavailable or ConfigError. The key is never shown."""

    def __init__(self, session: aiohttp.ClientSession, base: str, key: str, *, proxy: str | None = None) -> None:
        self._session = session
        self._base = base.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"}
        self._proxy = proxy

    async def account(self) -> account.Account:
        return account.account(await self.ask("GET", account.TEMPLATES), await self.ask("GET", account.ENDPOINTS))

    async def endpoints(self) -> tuple[account.Endpoint, ...]:
        return account.endpoints(await self.ask("GET", account.ENDPOINTS))

    async def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, hide: Callable[[str], str] = str
    ) -> Any:
        """Sends one request, never twice, and returns the answer's JSON. RunPod may make a change and lose the answer.

        `hide` removes secrets of `body` from RunPod's words about a failure.
        """
        address = self._base + path
        try:
            async with self._session.request(
                method, address, json=body, headers=self._headers, proxy=self._proxy, allow_redirects=False
            ) as answer:
                text = await _text(answer)
        except BROKEN as e:
            failure = tls_failure(str(e), ca_setting="runpod.ca_file in config.yaml")
            hint = "Check the network, and runpod.management and runpod.proxy in config.yaml; then run this again."
            why = failure.reason if failure else _words(e)
            raise EndpointUnavailable(
                f"RunPod's management API cannot be reached at {self._base}: {why}.",
                hint=failure.hint if failure else hint,
            ) from e
        data = _json(text)
        if answer.status // 100 == 2 and data is not None:
            return data
        raise _refusal(answer.status, data, hide, f"{method} {path}", answer.headers.get("Retry-After", ""))


@asynccontextmanager
async def management_client(
    settings: ClientSettings, key: str, *, timeout_s: float = 60.0
) -> AsyncGenerator[ManagementClient]:
    """Opens a client for the block; `settings.api` is the management API's address.

    Raises EndpointDenied without a key.
    """
    if not key:
        raise EndpointDenied("There is no key for RunPod.", hint=_NEW_KEY, where="GPUDROP_RUNPOD_API_KEY")
    trusted = await asyncio.to_thread(sole_ca_context, settings.ca_file, where="runpod.ca_file")
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    proxy = settings.proxy or proxy_of_environment(settings.api)
    headers = {"Accept": "application/json"}
    async with http_session(tls=trusted, timeout=timeout, compressed=True, headers=headers) as session:
        yield ManagementClient(session, settings.api, key, proxy=proxy)


async def _text(answer: aiohttp.ClientResponse) -> str:
    try:
        return (await read_whole(answer.content, _MOST_BYTES)).decode("utf-8", "replace")
    except BodyTooLong:
        return ""


def _json(text: str) -> Any:
    """Parses JSON; None for anything else, such as a proxy's page."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _refusal(status: int, data: Any, hide: Callable[[str], str], asked: str, wait: str) -> GpuDropError:
    said = hide(str(account.problem(data) or ""))
    what = f"RunPod answered {asked} with {status}" + (f": {said[:500]}" if said else "")
    if status == 401:
        return EndpointDenied("RunPod does not accept the API key.", hint=_NEW_KEY, where="GPUDROP_RUNPOD_API_KEY")
    if status == 403:
        hint = "Give the API key permission to read and write endpoints, or use one of the account that owns them."
        return EndpointDenied(f"{what}. The key may not do this.", hint=hint, where="GPUDROP_RUNPOD_API_KEY")
    if status == 429:
        hint = f"Wait {wait} s and run this again." if wait.isdigit() else "Wait a minute and run this again."
        return EndpointUnavailable(what, hint=hint)
    if status >= 500 or data is None:
        page = " (a page, not JSON)" if data is None else ""
        hint = "Run this again later: what is there already stays."
        if status < 500:
            hint = "Check runpod.management in config.yaml; it must be RunPod's REST API v2."
        return EndpointUnavailable(what + page, hint=hint, retryable=status >= 500)
    return _wrong_request(status, what)


def _wrong_request(status: int, what: str) -> GpuDropError:
    if status == 404:
        hint = "Something config.yaml names is not in this account: `id`, `volume` or `registry_auth`."
    elif status == 409:
        hint = (
            "Somebody else changes the same endpoint or has taken its name. Look in RunPod's console; run this again."
        )
    else:
        hint = "Correct what it names in the endpoint's section `deploy` in config.yaml."
    return ConfigError(what, hint=hint, where="endpoints")


def _words(error: BaseException) -> str:
    """Names the kind of failure alone: the error's text may hold a proxy's address with its password."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or "no connection"
    return type(error).__name__
