"""Session policies for the temporary keys of one job: its own objects by name, and no copies."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from listener.stores.base import JobObjects

MAX_POLICY_BYTES = 2048
"""The limit of AWS and MinIO; measured on MinIO: it takes 2,048 and refuses 2,049."""

_WILD = str.maketrans({**dict.fromkeys('*?$"\\', "?"), **{chr(code): "?" for code in range(32)}})
"""Characters that stores escape differently, or that JSON makes long, become "?", which matches one character."""

_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_LONGEST_NAME = 1500
"""Characters of a name in JSON; the rest of a policy fits beside it."""


@dataclass(frozen=True, slots=True)
class PolicyKind:
    """What a store's session policies need."""

    partition: str = "aws"
    """The second part of ARNs ("aws", "aws-cn")."""
    tells_missing: bool = False
    """Whether a GET of nothing gives 404 only to keys that may list the bucket; a link cannot list anything."""
    decrypts: bool = False
    """Whether objects may be encrypted with AWS KMS, whose keys the policy has to allow, too."""
    ascii_only: bool = False
    """Whether the store refuses policies with other characters."""


Right = tuple[Literal["GET", "PUT"], str, str]
"""A method, a bucket and a key."""


def rights_of(objects: JobObjects) -> tuple[Right, ...]:
    written: list[Right] = [("PUT", bucket, key) for bucket, key in objects.writes]
    read: list[Right] = [("GET", bucket, key) for bucket, key in objects.reads]
    return tuple(dict.fromkeys((*written, *read)))


def groups_of(rights: Sequence[Right], kind: PolicyKind, most_bytes: int = MAX_POLICY_BYTES) -> list[tuple[Right, ...]]:
    """Groups consecutive rights so that each group's policy has at most `most_bytes`, or is of one right.

    AWS packs policies and may take less: what it does not pack is halved.
    """
    groups: list[tuple[Right, ...]] = []
    for right in rights:
        larger = (*groups[-1], right) if groups else (right,)
        if groups and len(session_policy_of(larger, kind).encode()) <= most_bytes:
            groups[-1] = larger
        else:
            groups.append((right,))
    return groups


def session_policy_of(rights: Sequence[Right], kind: PolicyKind) -> str:
    """Returns the policy as compact JSON. It allows no write that names a source to copy from."""
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
    """Returns a policy for the listener's user that denies copies; for stores that give no temporary keys."""
    resources = [f"arn:aws:s3:::{bucket}/*" for bucket in buckets]
    condition = {"Null": {"s3:x-amz-copy-source": "false"}}
    statement = {"Effect": "Deny", "Action": "s3:PutObject", "Resource": resources, "Condition": condition}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _resource(right: Right, kind: PolicyKind) -> str:
    _, bucket, key = right
    name = key.translate(_WILD)
    if kind.ascii_only and len(json.dumps(name)) > _LONGEST_NAME:
        # JSON takes up to twelve characters for one, and how many "?" match it is not documented.
        name = _BEYOND_ASCII.sub("*", name)
    return f"arn:{kind.partition}:s3:::{bucket}/{name}"


def _allowed(action: str | list[str], resource: str | list[str]) -> dict[str, object]:
    return {"Effect": "Allow", "Action": action, "Resource": resource}
