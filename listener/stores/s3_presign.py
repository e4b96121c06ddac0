"""Presigned addresses (Signature Version 4), made here: with keys of any kind, and with headers that are signed too."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from urllib.parse import quote, urlsplit

from listener.configuration.credentials import AccessKeys
from listener.stores.s3_clients import S3Settings, object_address
from manifests.hosts import ascii_host

MAX_EXPIRES_S = 7 * 86400
"""The longest that any store takes."""

_ALGORITHM = "AWS4-HMAC-SHA256"


def signing_time() -> float:
    """Epoch seconds, read as boto3 reads them for what it signs: both are right or wrong together."""
    return datetime.now(UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs for whoever holds `keys`, from now (epoch seconds) until `until` at most."""

    settings: S3Settings
    keys: AccessKeys
    until: float = inf
    now: Callable[[], float] = signing_time

    def url(
        self,
        method: str,
        bucket: str,
        key: str,
        lives_s: float,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "",
    ) -> str:
        now_s = self.now()
        return presigned(
            method,
            object_address(self.settings, bucket, key),
            self.keys,
            region=self.settings.region,
            expires_s=max(1, int(min(lives_s, self.until - now_s))),
            now_s=now_s,
            query=query,
            headers={"content-type": content_type} if content_type else None,
        )


def presigned(
    method: str,
    url: str,
    keys: AccessKeys,
    *,
    region: str,
    expires_s: int,
    now_s: float,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> str:
    """`url`, percent-encoded and without a query, signed for `method` from `now_s` (epoch seconds) on.

    Whoever uses it must send exactly `headers`; of all others only Host is signed.
    """
    parts = urlsplit(url)
    host = _host(url)
    at = datetime.fromtimestamp(now_s, UTC)
    scope = f"{at:%Y%m%d}/{region}/s3/aws4_request"
    signed = {
        "host": host,
        **{name.lower(): " ".join(value.split()) for name, value in (headers or {}).items()},
    }
    names = ";".join(sorted(signed))
    asked = {
        **(query or {}),
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{keys.access_key}/{scope}",
        "X-Amz-Date": f"{at:%Y%m%dT%H%M%SZ}",
        "X-Amz-Expires": str(min(expires_s, MAX_EXPIRES_S)),
        "X-Amz-SignedHeaders": names,
    }
    if keys.session_token:
        asked["X-Amz-Security-Token"] = keys.session_token
    canonical_query = "&".join(
        sorted(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in asked.items())
    )
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    request = "\n".join((method, parts.path or "/", canonical_query, lines, names, "UNSIGNED-PAYLOAD"))
    digest = hashlib.sha256(request.encode()).hexdigest()
    to_sign = "\n".join((_ALGORITHM, f"{at:%Y%m%dT%H%M%SZ}", scope, digest))
    key = f"AWS4{keys.secret_key}".encode()
    for step in (*scope.split("/"), to_sign):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    return f"{parts.scheme}://{host}{parts.path or '/'}?{canonical_query}&X-Amz-Signature={key.hex()}"


def _host(url: str) -> str:
    """As clients send it, which is what the server checks: small ASCII letters, no port that goes without saying."""
    parts = urlsplit(url)
    name = ascii_host(parts.hostname or "") or parts.hostname or ""
    name = f"[{name}]" if ":" in name else name
    usual = 443 if parts.scheme == "https" else 80
    return name if parts.port in (None, usual) else f"{name}:{parts.port}"
