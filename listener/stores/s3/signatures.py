"""Signs requests of an S3 server's own kinds, which no client offers, with headers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlsplit

from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_s3

from listener.config.credentials import AccessKeys


def signed_headers(
    method: str,
    url: str,
    *,
    keys: AccessKeys,
    region: str,
    now: datetime,
    headers: Mapping[str, str],
    body: bytes = b"",
) -> dict[str, str]:
    """Returns `headers` and those that sign them with `body`. `url` must be percent-encoded, `now` in UTC.

    The signature is valid for 15 minutes.
    """
    parts = urlsplit(url)
    digest = hashlib.sha256(body).hexdigest()
    sent: dict[str, str | list[str] | tuple[str]] = {
        **headers,
        "Host": parts.netloc,
        "x-amz-content-sha256": digest,
        "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
    }
    if keys.session_token:
        sent["x-amz-security-token"] = keys.session_token
    signed = sign_v4_s3(
        method=method,
        url=parts,
        region=region,
        headers=sent,
        credentials=Credentials(keys.access_key, keys.secret_key, keys.session_token),
        content_sha256=digest,
        date=now,
    )
    return {name: str(value) for name, value in signed.items()}
