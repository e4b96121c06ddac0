"""Translates HTTP answers to a file's transfer into errors in plain words, and into whether a retry can help."""

from __future__ import annotations

import re

import aiohttp

from gpu_dispatch.net.bodies import compression_of, read_available
from gpu_dispatch.net.tls import tls_failure
from manifests.errors import InputDenied, InputEmpty, InputMissing, StoreDenied, TransferFailed
from manifests.text import without_secrets_in

_AGAIN = frozenset({408, 425, 429, 499})
_AWAY = frozenset({500, 502, 503, 504})
_ERROR_BODY = 4096
_CODE = re.compile(rb"<Code>(\w{1,64})</Code>")
_PASSING = frozenset(
    {b"RequestTimeout", b"IncompleteBody", b"OperationAborted", b"NoSuchBucket", b"BadDigest", b"RequestTimeTooSkewed"}
)
"""Codes of passing problems that stores send with 400, 404 and 409 and that do not concern the object."""


async def check_received(response: aiohttp.ClientResponse, url: str, name: str) -> None:
    """Raises what the status means for an input, unless the answer carries a file."""
    status = response.status
    if status == 200 and response.content_length != 0:
        check_plain(response, url, name)
        return
    if status in (200, 204):
        raise InputEmpty(f"{without_secrets_in(url)} is empty.", hint="Upload the file again.", where=name)
    body = await read_available(response.content, _ERROR_BODY)
    if status in (404, 410) and _code(body) not in _PASSING:
        raise InputMissing(
            f"{without_secrets_in(url)} does not exist ({status}).", hint="Check the file's name.", where=name
        )
    if status in (401, 403):
        expired = _expired(body)
        raise InputDenied(
            f"{without_secrets_in(url)} may not be read ({status}{', its address has expired' if expired else ''}).",
            hint="The task waited too long; it is tried again with a new address."
            if expired
            else "Make the file readable, or put it into the bucket.",
            where=name,
            retryable=expired,
        )
    raise _unexpected(status, body, f"{name} could not be fetched from {without_secrets_in(url)}", name)


def check_plain(response: aiohttp.ClientResponse, url: str, name: str) -> None:
    """Raises TransferFailed for a compressed body, which may inflate to any size."""
    if coding := compression_of(response.headers):
        raise TransferFailed(
            f"{without_secrets_in(url)} comes compressed ({coding}), though it was asked for as it is.",
            hint="Store the file without Content-Encoding, or name a server that serves it as it is.",
            where=name,
            retryable=False,
        )


async def check_stored(response: aiohttp.ClientResponse, url: str, name: str) -> None:
    """Raises what the status means for an output, unless the store took the file."""
    status = response.status
    if 200 <= status < 300:
        return
    body = await read_available(response.content, _ERROR_BODY)
    if status in (401, 403):
        expired = _expired(body)
        raise StoreDenied(
            f"{without_secrets_in(url)} may not be written ({status}{', its address has expired' if expired else ''}).",
            hint="The work took longer than the address is valid; it is tried again with a new one."
            if expired
            else "Allow PutObject for the outputs' folder.",
            where=name,
            retryable=expired,
        )
    raise _unexpected(status, body, f"{name} could not be written to {without_secrets_in(url)}", name)


def check_able(status: int, body: bytes, url: str, name: str) -> None:
    """Raises TransferFailed when the server cannot answer at the moment."""
    if status in _AGAIN or status in _AWAY or (status in (400, 404, 409) and _code(body) in _PASSING):
        raise _unexpected(status, body, f"{name} could not be exchanged with {without_secrets_in(url)}", name)


def check_granted(status: int, body: bytes, name: str) -> None:
    """Raises StoreDenied for a refusal that the server may take back, not for that of an expired address."""
    if status in (401, 403) and not _expired(body):
        raise StoreDenied(f"{name} is refused ({status}).", where=name)


def is_passing(error: Exception, *, trusted: bool) -> bool:
    """Returns whether a retry may succeed. A trusted host may take a refusal back when its keys are mended."""
    if isinstance(error, InputDenied | StoreDenied):
        return trusted and not error.retryable
    return isinstance(error, TransferFailed) and error.retryable


def _expired(body: bytes) -> bool:
    """Returns whether the address expired: S3 writes "Request has expired", GCS and others ExpiredToken or alike."""
    return b"expired" in body[:_ERROR_BODY].lower()


def _code(body: bytes) -> bytes:
    found = _CODE.search(body)
    return found[1] if found else b""


def _unexpected(status: int, body: bytes, what: str, name: str) -> TransferFailed:
    failure = tls_failure(body[:_ERROR_BODY].decode("utf-8", "replace")) if status == 400 else None
    if failure and failure.problem == "https_expected":
        return TransferFailed(f"{what}: {failure.reason}.", hint=failure.hint, where=name, retryable=False)
    again = status in _AGAIN or status >= 500 or _code(body) in _PASSING
    return TransferFailed(
        f"{what}: the server answered {status}.",
        hint="The server has a problem; it is tried again." if again else "Check the address.",
        where=name,
        retryable=again,
    )
