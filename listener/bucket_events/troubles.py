"""What servers answer instead of what was asked for, told in our errors. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpu_dispatch.net.tls_failures import tls_failure
from listener.bucket_events.entries import RuleEntry, spelled_out
from listener.bucket_events.merging import RulesChange
from listener.filters import overlap
from listener.stores.s3_errors import error_from_code
from manifests.errors import ConfigError, GpuDropError, ServerMisbehaves, StoreDenied

_CODE = re.compile(rb"<Code>(\w{1,64})</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{1,500})</Message>")
_NOT_THE_RULES = frozenset({"AuthorizationHeaderMalformed", "ExpiredToken", "InvalidToken", "InvalidBucketName"})
READ, WRITE = "s3:GetBucketNotification", "s3:PutBucketNotification"


def notification_error_code(body: bytes) -> str:
    found = _CODE.search(body)
    return found[1].decode() if found else ""


def server_unreachable(error: Exception, *, bucket: str, endpoint: str) -> GpuDropError:
    told = str(error) if tls_failure(str(error)) else ""
    return error_from_code("", 0, told, doing="ask about notification rules", bucket=bucket, endpoint=endpoint)


def request_refused(status: int, body: bytes, *, action: str, bucket: str, endpoint: str) -> GpuDropError:
    """`action` is READ or WRITE, as permissions name it."""
    code = notification_error_code(body)
    doing = "read the notification rules" if action == READ else "change the notification rules"
    if code in ("AccessDenied", "AllAccessDisabled", "UnauthorizedAccess"):
        return StoreDenied(
            f"Could not {doing} of bucket {bucket!r}: the keys may not do this ({code}).",
            hint=f"Allow {action} on {bucket!r} to the store's keys, or run this once with keys that may.",
            where=bucket,
        )
    found = _MESSAGE.search(body)
    said = f": {found[1].decode(errors='replace')}" if found else ""
    if status == 400 and code not in (
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidToken",
        "InvalidBucketName",
    ):
        return ConfigError(f"The server refused the rules of bucket {bucket!r} ({code}){said}", where=bucket)
    return error_from_code(code, status, "", doing=doing, bucket=bucket, endpoint=endpoint)


def rules_refused(
    status: int, body: bytes, change: RulesChange, known: Sequence[str] | None, *, bucket: str, endpoint: str
) -> GpuDropError:
    """Of a write. `known` are the places the server has been set up to send to, None when it does not tell."""
    code = notification_error_code(body)
    if code.startswith("BucketAlready"):
        return ServerMisbehaves(
            f"The server takes rules for bucket {bucket!r} for a request to make it: it keeps no notification rules.",
            hint="Nothing was changed. Use `sources: [reconcile]`: new objects are found by listing.",
            where=bucket,
        )
    if code != "InvalidArgument":
        return request_refused(status, body, action=WRITE, bucket=bucket, endpoint=endpoint)
    if b"ARN does not exist" in body:
        return _unknown_place(change, known, bucket)
    if crossing := _crossing(change):
        names = ", ".join(sorted({each.id or each.arn for each in crossing}))
        return ConfigError(
            f"Rules of others in bucket {bucket!r} tell of the same keys and events: {names}.",
            hint="The server allows one rule for a key. Remove theirs, send both through one SNS topic or EventBridge,"
            " or give the triggers narrower prefixes and suffixes.",
            where=bucket,
        )
    error = request_refused(status, body, action=WRITE, bucket=bucket, endpoint=endpoint)
    hint = "Check that the queue or topic exists in the bucket's region and that its policy lets S3 send to it."
    return ConfigError(str(error), hint=hint, where=bucket)


def not_kept(change: RulesChange, server: str, bucket: str) -> GpuDropError:
    rules = ", ".join(each.id or each.kind for each in (*change.added, *change.removed))
    return ServerMisbehaves(
        f"{server} took the rules of bucket {bucket!r}, but does not show them as they were sent ({rules}).",
        hint="See `gpudrop events show`. A server without EventBridge forgets such an entry.",
        where=bucket,
    )


def _unknown_place(change: RulesChange, known: Sequence[str] | None, bucket: str) -> ConfigError:
    used = dict.fromkeys(each.arn for each in change.after.entries if each.arn)
    lost = [arn for arn in used if known is None or arn not in known]
    there = "It can send to: " + (", ".join(known) or "nothing") + "." if known is not None else ""
    return ConfigError(
        f"The server does not know {' or '.join(lost) or 'a target'}; the rules of bucket {bucket!r} stay.",
        hint=f"{there} Give one of those with --target, or set the target up on the server first.".strip(),
        where="--target",
    )


def _crossing(change: RulesChange) -> list[RuleEntry]:
    new = (*change.added, *(new for _, new in change.changed))
    return [
        each
        for each in change.after.foreign
        if any(overlap(each.filter, n.filter) and spelled_out(each.events) & spelled_out(n.events) for n in new)
    ]
