"""What the temporary keys of one job may do, as session policies: its own objects, by name, and no copies."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from listener.stores.base import JobObjects

MAX_POLICY_BYTES = 2048
"""What AWS and MinIO take; MinIO was measured: 2,048 are taken, 2,049 refused."""

_WILD = str.maketrans({**dict.fromkeys('*?$"\\', "?"), **{chr(code): "?" for code in range(32)}})
"""No store escapes these as another does, or JSON makes them longer than a key may be. "?" stands for the one
character, whichever it is, and for no more."""

_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_LONGEST_NAME = 1500
"""In JSON. What is said beside a name fits into the rest."""


@dataclass(frozen=True, slots=True)
class PolicyKind:
    """`partition` is the ARNs' ("aws", "aws-cn").

    `tells_missing`: a store whose answer to a GET of nothing is 404 only for keys that may list the bucket; with a link
    nothing can be listed. `decrypts`: objects may be encrypted with keys of AWS KMS, which the policy has to allow too.
    `ascii_only`: a policy with other characters is refused.
    """

    partition: str = "aws"
    tells_missing: bool = False
    decrypts: bool = False
    ascii_only: bool = False


Right = tuple[Literal["GET", "PUT"], str, str]
"""A method, a bucket and a key."""


def rights_of(objects: JobObjects) -> tuple[Right, ...]:
    written: list[Right] = [("PUT", bucket, key) for bucket, key in objects.writes]
    read: list[Right] = [("GET", bucket, key) for bucket, key in objects.reads]
    return tuple(dict.fromkeys((*written, *read)))


def groups_of(rights: Sequence[Right], kind: PolicyKind, most_bytes: int = MAX_POLICY_BYTES) -> list[tuple[Right, ...]]:
    """`rights` in as few groups as have a policy of at most `most_bytes` each, or of one right."""
    groups: list[tuple[Right, ...]] = []
    for right in rights:
        larger = (*groups[-1], right) if groups else (right,)
        if groups and len(session_policy_of(larger, kind).encode()) <= most_bytes:
            groups[-1] = larger
        else:
            groups.append((right,))
    return groups


def session_policy_of(rights: Sequence[Right], kind: PolicyKind) -> str:
    """Compact JSON. A write whose request names a source to copy from is allowed to nobody, not even of itself."""
    statements: list[dict[str, object]] = []
    if read := [right for right in rights if right[0] == "GET"]:
        statements.append(_allowed("s3:GetObject", [_resource(right, kind) for right in read]))
        if kind.tells_missing:
            buckets = sorted({bucket for _, bucket, _ in read})
            statements.append(_allowed("s3:ListBucket", [f"arn:{kind.partition}:s3:::{bucket}" for bucket in buckets]))
    if written := [right for right in rights if right[0] == "PUT"]:
        allowed = _allowed("s3:PutObject", [_resource(right, kind) for right in written])
        statements.append({**allowed, "Condition": {"Null": {"s3:x-amz-copy-source": "true"}}})
    if kind.decrypts:
        through = {"StringLike": {"kms:ViaService": "s3.*"}}
        statements.append({**_allowed(["kms:Decrypt", "kms:GenerateDataKey"], "*"), "Condition": through})
    policy = {"Version": "2012-10-17", "Statement": statements}
    return json.dumps(policy, separators=(",", ":"), ensure_ascii=kind.ascii_only)


def deny_copies(buckets: Sequence[str]) -> str:
    """The policy that keeps links from copying where no temporary keys are to be had, for the listener's own user."""
    resources = [f"arn:aws:s3:::{bucket}/*" for bucket in buckets]
    condition = {"Null": {"s3:x-amz-copy-source": "false"}}
    statement = {"Effect": "Deny", "Action": "s3:PutObject", "Resource": resources, "Condition": condition}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _resource(right: Right, kind: PolicyKind) -> str:
    _, bucket, key = right
    name = key.translate(_WILD)
    if kind.ascii_only and len(json.dumps(name)) > _LONGEST_NAME:
        # A character takes up to twelve of JSON's, and how many "?" stand for it nobody says.
        name = _BEYOND_ASCII.sub("*", name)
    return f"arn:{kind.partition}:s3:::{bucket}/{name}"


def _allowed(action: str | list[str], resource: str | list[str]) -> dict[str, object]:
    return {"Effect": "Allow", "Action": action, "Resource": resource}
