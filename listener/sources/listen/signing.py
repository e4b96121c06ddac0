"""Requests to an S3-compatible server signed with Signature Version 4, the way minio signs its own."""

from __future__ import annotations

import hashlib
from datetime import datetime
from urllib.parse import urlsplit

from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_s3

from listener.configuration.credentials import AccessKeys

_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def signed_get(url: str, *, keys: AccessKeys, region: str, now: datetime) -> dict[str, str]:
    """Headers for a GET of `url`, which must already be percent-encoded. `now` is in UTC; good for 15 minutes."""
    parts = urlsplit(url)
    headers: dict[str, str | list[str] | tuple[str]] = {
        "Accept-Encoding": "identity",
        "Host": parts.netloc,
        "x-amz-content-sha256": _EMPTY_SHA256,
        "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
    }
    if keys.session_token:
        headers["x-amz-security-token"] = keys.session_token
    signed = sign_v4_s3(
        method="GET",
        url=parts,
        region=region,
        headers=headers,
        credentials=Credentials(keys.access_key, keys.secret_key, keys.session_token),
        content_sha256=_EMPTY_SHA256,
        date=now,
    )
    return {name: str(value) for name, value in signed.items()}
