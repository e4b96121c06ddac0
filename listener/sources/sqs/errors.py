"""Translates boto3's errors."""

from __future__ import annotations

from typing import Any, cast

from botocore import exceptions as aws  # pyright: ignore[reportMissingTypeStubs]

from gpu_dispatch.net.tls import tls_failure
from manifests.errors import ConfigError, GpuDropError, ServerMisbehaves, SourceDenied, SourceUnavailable

_MAX_SAID = 300
_KEYS = (
    "Set GPUDROP_<NAME>_USER and GPUDROP_<NAME>_PASSWORD (and _TOKEN for temporary keys) in the environment,"
    " or what Amazon's own tools use: AWS_* variables, a profile, the role of the container."
)
_ALLOW = (
    "Allow sqs:ReceiveMessage, sqs:DeleteMessage and sqs:ChangeMessageVisibility on the queue to these keys;"
    " for an encrypted queue also kms:Decrypt."
)
_MISSING = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NonExistentQueue"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_UNKNOWN_KEYS = frozenset(
    {
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "IncompleteSignature",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "InvalidAccessKeyId",
        "AuthFailure",
    }
)
_LATER = ("Throttl", "OverLimit", "TooManyRequests", "LimitExceeded", "ServiceUnavailable", "InternalError")
_NO_KEYS = (aws.NoCredentialsError, aws.PartialCredentialsError, aws.NoAuthTokenError)
_STALE_LOGIN = (aws.SSOError, aws.LoginError, aws.TokenRetrievalError, aws.RefreshWithMFAUnsupportedError)
_SETTINGS = (aws.ProfileNotFound, aws.ConfigParseError, aws.ParamValidationError, aws.ValidationError)


def sqs_error(error: Exception, *, doing: str, queue_url: str) -> GpuDropError:
    """Returns the error for what boto3 raised. `doing` completes "Could not …".

    SourceUnavailable passes by itself; the others need a person to act.
    """
    head = f"Could not {doing} the queue {queue_url}: "
    if isinstance(error, aws.ClientError):
        return _refused(error, head, queue_url)
    if isinstance(error, _NO_KEYS):
        return SourceDenied(f"{head}there are no keys to sign with.", hint=_KEYS, where=queue_url)
    if isinstance(error, _STALE_LOGIN):
        return SourceDenied(f"{head}the login has ended ({_said(error)}).", hint="Log in again.", where=queue_url)
    if isinstance(error, aws.SSLError):
        failure = tls_failure(str(error), ca_setting="AWS_CA_BUNDLE")
        if failure is None or not failure.lasting:
            return SourceUnavailable(f"{head}the TLS handshake failed.", hint="It is tried again.", where=queue_url)
        return SourceDenied(f"{head}{failure.reason}.", hint=failure.hint, where=queue_url)
    if isinstance(error, (*_SETTINGS, ValueError)):
        return ConfigError(f"{head}{_said(error)}", hint="Correct the source's settings.", where=queue_url)
    if isinstance(error, aws.BotoCoreError):
        return SourceUnavailable(f"{head}{_said(error)}", hint="It is tried again.", where=queue_url)
    return ServerMisbehaves(
        f"{head}the answer was not understood ({type(error).__name__}).",
        hint="Check that `endpoint` (or the host of `queue_url`) speaks the SQS protocol.",
        where=queue_url,
    )


def _refused(error: aws.ClientError, head: str, queue_url: str) -> GpuDropError:
    answer = cast("dict[str, dict[str, Any]]", error.response)
    code = str(answer.get("Error", {}).get("Code", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = f"{code}: {str(answer.get('Error', {}).get('Message', ''))[:_MAX_SAID]}".rstrip(": ")
    if code in _MISSING:
        return SourceDenied(
            f"{head}there is no such queue.",
            hint="Create it, or correct `queue_url` and `region`; a queue of another account needs its policy too.",
            where=queue_url,
        )
    if code in _EXPIRED:
        hint = "Give fresh keys and a fresh token, or a role that renews them by itself."
        return SourceDenied(f"{head}the keys have expired ({code}).", hint=hint, where=queue_url)
    if code in _UNKNOWN_KEYS:
        # The server's message may hold the request as it was signed, a session token included.
        return SourceDenied(f"{head}the keys are not accepted ({code}).", hint=_KEYS, where=queue_url)
    if status in (408, 429) or status >= 500 or any(word in code for word in _LATER):
        return SourceUnavailable(f"{head}{said or status}.", hint="It is tried again.", where=queue_url)
    if status == 403 or "AccessDenied" in code or "KMS" in code.upper():
        return SourceDenied(f"{head}{said}.", hint=_ALLOW, where=queue_url)
    return SourceDenied(
        f"{head}the server refused with {status} {said}.",
        hint="Check `queue_url`, `region` and `endpoint`.",
        where=queue_url,
    )


def _said(error: Exception) -> str:
    return str(error)[:_MAX_SAID]
