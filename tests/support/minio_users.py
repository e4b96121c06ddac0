"""Users of a MinIO server beside its root, as an operator makes them."""

from __future__ import annotations

import json
import secrets
from typing import Any

from minio import MinioAdmin
from minio.credentials import StaticProvider

from listener.config.credentials import AccessKeys

Policy = dict[str, Any]


def listener_policy(*buckets: str) -> Policy:
    """What the README says that the listener needs."""
    objects = [f"arn:aws:s3:::{bucket}/*" for bucket in buckets]
    whole = [f"arn:aws:s3:::{bucket}" for bucket in buckets]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                "Resource": objects,
            },
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListenBucketNotification"],
                "Resource": whole,
            },
        ],
    }


class Users:
    def __init__(self, server: Any) -> None:
        provider = StaticProvider(server.access_key, server.secret_key)
        self._admin = MinioAdmin(endpoint=server.host, credentials=provider, region="us-east-1", secure=False)

    def user(self, policy: Policy) -> AccessKeys:
        keys = AccessKeys("usr" + secrets.token_hex(6), secrets.token_hex(16))
        self._admin.policy_add(f"policy-{keys.access_key}", policy=policy)
        self._admin.user_add(keys.access_key, keys.secret_key)
        self._admin.policy_set(f"policy-{keys.access_key}", user=keys.access_key)
        return keys

    def service_account(self) -> AccessKeys:
        """Of the server's root: it may do everything."""
        made = json.loads(self._admin.add_service_account())["credentials"]
        return AccessKeys(made["accessKey"], made["secretKey"])
