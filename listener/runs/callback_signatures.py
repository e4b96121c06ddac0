"""What a callback carries so that its receiver can tell that it is ours, new, and meant for this very address. Pure.

Three signatures, all HMAC-SHA256 with one secret: that of Standard Webhooks over id, time and body; one over the
address as well, so that nobody who is called can post it on to somebody else; and the oldest, over the body alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field

from manifests.errors import ConfigError

_PREFIX = "whsec_"
"""What stands before a secret that Standard Webhooks has written as base64."""


@dataclass(frozen=True, slots=True)
class CallbackSigner:
    """`secret` as it stands in the environment: any text, or "whsec_" and base64; "" signs nothing."""

    secret: str = field(default="", repr=False)

    def headers(self, identity: str, timestamp: int, url: str, body: bytes) -> dict[str, str]:
        """For one attempt at `timestamp`, epoch seconds. `identity` is the same at every attempt.

        `url` is the address that is called, without user and fragment.
        """
        headers = {"webhook-id": identity, "webhook-timestamp": str(timestamp)}
        if not self.secret:
            return headers
        key = secret_key(self.secret)
        standard = f"{identity}.{timestamp}.".encode() + body
        bound = f"POST\n{url}\n{identity}\n{timestamp}\n".encode() + body
        return headers | {
            "webhook-signature": "v1," + base64.b64encode(hmac.digest(key, standard, "sha256")).decode(),
            "X-Gpudrop-Signature-V2": "sha256=" + hmac.new(key, bound, hashlib.sha256).hexdigest(),
            "X-Gpudrop-Signature": "sha256=" + hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest(),
        }


def secret_key(secret: str) -> bytes:
    """The bytes that sign. Raises ConfigError for a "whsec_" that no base64 follows, and for what is no text."""
    if not secret.startswith(_PREFIX):
        try:
            return secret.encode()
        except UnicodeEncodeError as e:
            raise ConfigError(
                "GPUDROP_CALLBACK_SECRET is not UTF-8.",
                hint="Write text, or whsec_ and the base64 of any bytes.",
                where="GPUDROP_CALLBACK_SECRET",
            ) from e
    text = secret.removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as e:
        raise _no_secret() from e
    if not key:
        raise _no_secret()
    return key


def _no_secret() -> ConfigError:
    return ConfigError(
        "GPUDROP_CALLBACK_SECRET begins with whsec_, and no base64 follows.",
        hint="Write whsec_ and the base64 of 24 to 64 random bytes, or any text that begins otherwise.",
        where="GPUDROP_CALLBACK_SECRET",
    )
