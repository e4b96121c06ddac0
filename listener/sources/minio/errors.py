"""Errors for answers to a listen request that are not a stream, with hints."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpu_dispatch.net.tls import tls_failure
from listener import clock_skew
from manifests.errors import ConfigError, GpuDropError, ServerMisbehaves, StoreDenied, StoreUnavailable
from manifests.keys import suggestion

_TAG = r"<{0}>\s*([^<]{{1,500}}?)\s*</{0}>"
_CODE = re.compile(_TAG.format("Code"))
_MESSAGE = re.compile(_TAG.format("Message"))
_REGION = re.compile(_TAG.format("Region"))

_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidTokenId", "ExpiredToken"})
_NO_STREAM = frozenset({"NotImplemented", "MethodNotAllowed", "InvalidRequest", "InvalidArgument"})
_OTHER_INTAKE = "Take 'minio' out of `sources`; listing (reconcile) finds drops meanwhile."


class StreamDenied(StoreDenied):
    """The server accepts the keys but does not permit this stream."""


class NoStream(ServerMisbehaves):
    """The server does not know this kind of request."""


def per_bucket_may_work(error: GpuDropError) -> bool:
    """Whether a server that gave this error may still stream the events of each bucket separately."""
    return isinstance(error, StreamDenied | NoStream)


@dataclass(frozen=True, slots=True)
class ListenRefusal:
    """The XML error of an S3 server; texts that the body lacks are empty."""

    status: int
    code: str
    message: str
    region: str


def read_refusal(status: int, body: bytes) -> ListenRefusal:
    text = body.decode("utf-8", "replace")

    def first(expression: re.Pattern[str]) -> str:
        found = expression.search(text)
        return found[1] if found else ""

    return ListenRefusal(status, first(_CODE), first(_MESSAGE), first(_REGION))


def listen_refused(
    status: int, body: bytes, *, bucket: str, endpoint: str, ahead_s: float | None = None
) -> GpuDropError:
    """Returns the error for a refusal. A retryable one passes by itself; another one needs a person to act.

    `bucket` is "" for a stream over all buckets. `ahead_s` is how many seconds the request's time was ahead of the
    response's.
    """
    told = read_refusal(status, body)
    said = f"{told.code or f'HTTP {status}'}: {told.message}".rstrip(": ")
    if told.code in _NO_STREAM or status == 501:
        return no_stream(bucket=bucket, endpoint=endpoint, said=said)
    if status >= 500 or status == 429:
        return StoreUnavailable(f"{endpoint} cannot stream events of {_of(bucket)} now ({said}).", where=bucket)
    if told.code == "NoSuchBucket":
        return ConfigError(
            f"There is no bucket {bucket!r} on {endpoint}.", hint="Create it, or mend `buckets`.", where=bucket
        )
    if told.code == "InvalidBucketName":
        return ConfigError(
            f"{endpoint} knows no bucket called {bucket!r} ({said}).",
            hint=f"Correct store.buckets in config.yaml: {suggestion(bucket)}.",
            where=bucket,
        )
    if told.code in clock_skew.CODES:
        told_s = clock_skew.in_refusal(body.decode("utf-8", "replace"))
        reason = clock_skew.in_words(ahead_s if told_s is None else told_s)
        return StoreDenied(
            f"{endpoint} refuses the request's time: {reason} ({told.code}).",
            hint=clock_skew.HINT,
            where=bucket,
        )
    if told.code in _KEYS:
        return StoreDenied(
            f"{endpoint} does not accept the access key or its signature ({said}).",
            hint="Check GPUDROP_S3_ACCESS_KEY, GPUDROP_S3_SECRET_KEY (or the files with them) and `region`; temporary"
            " keys need their GPUDROP_S3_SESSION_TOKEN; a proxy must pass Host unchanged.",
            where=bucket,
        )
    if told.region or 300 <= status < 400:
        return ConfigError(
            f"{endpoint} answers for another region or address ({said}).",
            hint=f"Set `region` to {told.region!r}." if told.region else "Set `endpoint` to the server's own address.",
            where=bucket,
        )
    return StreamDenied(
        f"{endpoint} refuses to stream events of {_of(bucket)} ({said}).",
        hint="Allow s3:ListenBucketNotification on the bucket to this access key."
        if bucket
        else "Allow s3:ListenNotification on arn:aws:s3:::* to this access key, or name the buckets in config.yaml.",
        where=bucket,
    )


def no_stream(*, bucket: str, endpoint: str, said: str) -> NoStream:
    return NoStream(f"{endpoint} has no event stream like MinIO's ({said}).", hint=_OTHER_INTAKE, where=bucket)


def stream_silent(*, bucket: str, endpoint: str, waited_s: float) -> ServerMisbehaves:
    """Returns the error for a request that was accepted and brought not even a keep-alive."""
    return ServerMisbehaves(
        f"{endpoint} accepted the request for events of {_of(bucket)} and sent nothing for {waited_s:.0f} s:"
        " its event stream is never flushed, or a proxy holds it back.",
        hint="MinIO built from source after 2025-10-24 does this: use release 2025-10-15 or older, or a fork with the"
        " mend. Behind a proxy, switch off response buffering. Until then drops are found by listing (reconcile).",
        where=bucket,
    )


def stream_compressed(*, bucket: str, endpoint: str, encoding: str) -> ServerMisbehaves:
    return ServerMisbehaves(
        f"{endpoint} sends the events of {_of(bucket)} compressed ({encoding}) although that was refused.",
        hint="Switch off compression of text/event-stream in the proxy before the server.",
        where=bucket,
    )


def stream_broken(*, bucket: str, how: str) -> StoreUnavailable:
    hint = "It is connected again by itself. If it breaks often, look at the server, and at proxies before it."
    return StoreUnavailable(f"The event stream of {_of(bucket)} broke: {how}.", hint=hint, where=bucket)


def stream_unreachable(*, bucket: str, endpoint: str, why: str) -> StoreUnavailable:
    hint = "Check that the server runs, and store.endpoint in config.yaml. It is tried again by itself."
    return StoreUnavailable(f"{endpoint} cannot be reached: {why}.", hint=hint, where=bucket)


def no_tls(*, bucket: str, endpoint: str, said: str) -> StoreUnavailable:
    """Returns the error for a failed handshake. Retryable, because a certificate may be renewed."""
    failure = tls_failure(said, ca_setting="store.ca_file in config.yaml")
    if failure is None:
        return stream_unreachable(bucket=bucket, endpoint=endpoint, why=said)
    return StoreUnavailable(f"{endpoint} cannot be used: {failure.reason}.", hint=failure.hint, where=bucket)


def _of(bucket: str) -> str:
    return repr(bucket) if bucket else "all buckets"
