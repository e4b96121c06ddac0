"""Translates errors of S3 clients into the project's.

obstore raises one GenericError for everything but a missing or forbidden object; its text has the HTTP status and the
<Code> of the server's answer, and what failed below HTTP.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from gpu_dispatch.net.tls import tls_failure
from listener import clock_skew
from manifests.errors import GpuDropError, InputTooLarge, ObjectDenied, StoreDenied, StoreUnavailable, UnusableKey
from manifests.keys import suggestion

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")

_KEYS_HINT = "Check GPUDROP_S3_ACCESS_KEY and GPUDROP_S3_SECRET_KEY, or the files with them."
_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidTokenId", "InvalidToken"})
_HINTS: dict[str, tuple[str, str]] = {
    "InvalidAccessKeyId": ("the server does not know the access key", _KEYS_HINT),
    "SignatureDoesNotMatch": ("the secret key does not fit the access key", _KEYS_HINT),
    "ExpiredToken": ("the session token has expired", "Give fresh keys and a fresh session token."),
    "InvalidTokenId": ("the session token is not valid", "Give keys and a session token that belong together."),
    "InvalidToken": ("the session token is not valid", "Give keys and a session token that belong together."),
    "AuthorizationHeaderMalformed": ("the region is not the bucket's", "Correct store.region in config.yaml."),
    "PermanentRedirect": ("the bucket lives at another endpoint", "Correct store.endpoint and store.region."),
    "IllegalLocationConstraintException": ("the region is not the bucket's", "Correct store.region in config.yaml."),
    "XMinioStorageFull": ("the server's disk is full", "Free space on the server."),
    "QuotaExceeded": ("the bucket's quota is used up", "Delete objects or raise the quota."),
    "XMinioAdminBucketQuotaExceeded": ("the bucket's quota is used up", "Delete objects or raise the quota."),
}
_FULL = frozenset({"XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"})
_PASSING = frozenset({"RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch"})
"""Codes sent with status 400 although the transfer failed."""
_PASSING_STATUS = frozenset({408, 409, 425, 429, 499})
"""409: another write is under way. 499: MinIO's answer if the connection breaks during the request."""
_RENAME = "Use a shorter and simpler name."
_TWINS = "An object and a folder cannot have the same name here: rename one of them."
_OBJECT: dict[str, tuple[type[GpuDropError], str, str]] = {
    "KeyTooLongError": (UnusableKey, "the key is too long", _RENAME),
    "XMinioInvalidObjectName": (UnusableKey, "the server cannot hold such a key", _RENAME),
    "XMinioObjectExistsAsDirectory": (UnusableKey, "the key names a folder", _TWINS),
    "XMinioParentIsObject": (UnusableKey, "a part of the key names an object", _TWINS),
    "EntityTooLarge": (InputTooLarge, "it is larger than the server takes", "Make it smaller, or split it."),
    "InvalidObjectState": (ObjectDenied, "the object is archived", "Restore it from the archive."),
}
"""Lasting answers about one object, which no other keys and no retry change."""


def s3_error_code(error: BaseException) -> str:
    """Returns the server's error code ("NoSuchBucket"); "" if its answer had none."""
    return code_in(str(error))


def code_in(text: str) -> str:
    """Returns the <Code> in a server's answer; "" if there is none."""
    found = _CODE.search(text)
    return found[1] if found else ""


def status_in(error: BaseException) -> int:
    """Returns the HTTP status of the answer; 0: there was none."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 0


def is_interrupted(error: BaseException) -> bool:
    """Returns whether the connection broke during the request, so that its outcome is unknown."""
    return status_in(error) == 0 and "kind: Interrupted" in str(error)


def is_not_implemented(error: BaseException) -> bool:
    return s3_error_code(error) == "NotImplemented"


def is_conflict(error: BaseException) -> bool:
    return status_in(error) == HTTPStatus.CONFLICT


def has_no_reason(error: BaseException) -> bool:
    """Returns whether the server refused without a code, as to a HEAD, whose answer has no body."""
    return 400 <= status_in(error) < 500 and not s3_error_code(error)


def other_keys_may_do(error: BaseException) -> bool:
    """Returns whether other keys may help. A key whose user is being deleted is "not allowed" before it is unknown."""
    return isinstance(error, PermissionDeniedError | UnauthenticatedError) or s3_error_code(error) in _KEYS


def s3_error(error: Exception, *, doing: str, bucket: str, endpoint: str, ahead_s: float | None = None) -> GpuDropError:
    """Translates a client's error. `doing` completes "Could not …".

    `ahead_s`: seconds by which this machine's clock is ahead of the server's; None: unknown.
    """
    status = status_in(error)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        status = status or 403
    return error_from_code(
        s3_error_code(error), status, str(error), doing=doing, bucket=bucket, endpoint=endpoint, ahead_s=ahead_s
    )


def error_from_code(
    code: str, status: int, text: str, *, doing: str, bucket: str, endpoint: str, ahead_s: float | None = None
) -> GpuDropError:
    """Translates as `s3_error` does, from the answer's <Code>, HTTP status (0: no answer) and text."""
    head = f"Could not {doing} in bucket {bucket!r}: "
    if code == "NoSuchBucket":
        return no_such_bucket(bucket, endpoint)
    if code == "InvalidBucketName":
        hint = f"Correct store.buckets in config.yaml: {suggestion(bucket)}."
        return StoreDenied(f"{head}no bucket can have this name.", hint=hint, where=bucket)
    if code in _OBJECT:
        kind, reason, hint = _OBJECT[code]
        return kind(f"{head}{reason}.", hint=hint)
    if code in clock_skew.CODES:
        told_s = clock_skew.in_refusal(text)
        reason = clock_skew.in_words(ahead_s if told_s is None else told_s)
        return StoreDenied(f"{head}{reason}.", hint=clock_skew.HINT, where=bucket)
    if code in _HINTS:
        reason, hint = _HINTS[code]
        return (StoreUnavailable if code in _FULL else StoreDenied)(f"{head}{reason}.", hint=hint, where=bucket)
    if (
        not code
        and status not in (401, 403)
        and (failure := tls_failure(text, ca_setting="store.ca_file in config.yaml"))
    ):
        told = f"{head}{endpoint} cannot be used: {failure.reason}."
        return StoreUnavailable(told, hint=failure.hint, where=bucket)
    if status == 0:
        return _unreachable(head, text, endpoint, bucket)
    return _refused(head, code, status, bucket, endpoint)


def _refused(head: str, code: str, status: int, bucket: str, endpoint: str) -> GpuDropError:
    if status in (401, 403):
        return StoreDenied(
            f"{head}the keys may not do this ({code or status}).",
            hint=f"Grant s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on {bucket!r}. {_KEYS_HINT}",
            where=bucket,
        )
    if code in _PASSING or status in _PASSING_STATUS or status >= 500:
        return StoreUnavailable(
            f"{head}the server answered {status} {code}".rstrip() + ".", hint="It is tried again later.", where=bucket
        )
    return StoreDenied(
        f"{head}the server refused with {status} {code}".rstrip() + ".",
        hint=f"Check that {endpoint} is the S3 endpoint itself, not a console, and http or https as the server speaks.",
        where=bucket,
    )


def check_bucket(error: BaseException, bucket: str, endpoint: str) -> None:
    """Raises StoreDenied if an object is not found because its bucket is missing."""
    if s3_error_code(error) == "NoSuchBucket":
        raise no_such_bucket(bucket, endpoint) from error


def no_such_bucket(bucket: str, endpoint: str) -> StoreDenied:
    return StoreDenied(
        f"The bucket {bucket!r} does not exist on {endpoint}.",
        hint="Create it, or correct store.buckets in config.yaml.",
        where=bucket,
    )


def _unreachable(head: str, text: str, endpoint: str, bucket: str) -> StoreUnavailable:
    if text and "HTTP error" not in text and "Max retries exceeded" not in text:
        return StoreUnavailable(
            f"{head}the answer of {endpoint} was not understood.",
            hint=f"Check that {endpoint} is an S3 endpoint, not a console or a web page.",
            where=bucket,
        )
    return StoreUnavailable(
        f"{head}{endpoint} cannot be reached.",
        hint="Check that the server runs, and store.endpoint in config.yaml (host, port, http or https).",
        where=bucket,
    )
