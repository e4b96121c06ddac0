"""A final sidecar's own proof: whoever may write where it lies can forge all of it but this.

A callback may have to be made from the sidecar that lies in the store, after a crash or with records that were lost. It
is signed like every other, so it must be known to be what the run wrote.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from manifests.documents import document_bytes, document_fields
from manifests.sidecars import without_callback

_FIELD = "seal"
_ABOUT = b"gpudrop: a final sidecar\n"
"""No other text that the secret signs begins so."""


@dataclass(frozen=True, slots=True)
class SidecarSignature:
    """Without a `secret` nothing is sealed, and everything holds: then nothing is signed either."""

    secret: str = field(default="", repr=False)

    def put(self, body: bytes) -> bytes:
        """`body`, a final sidecar, with its seal."""
        return document_bytes({**document_fields(body), _FIELD: self._of(body)}) if self.secret else body

    def holds(self, body: bytes) -> bool:
        """Whether `body` is what was sealed, whatever it tells of its callback since."""
        if not self.secret:
            return True
        told = document_fields(body).get(_FIELD)
        return isinstance(told, str) and hmac.compare_digest(told.encode("utf-8", "replace"), self._of(body).encode())

    def opened(self, body: bytes) -> bytes | None:
        """`body` as it was sealed, letter by letter: another spelling of it may say something else to other readers.

        None: the seal does not hold.
        """
        if not self.holds(body):
            return None
        return document_bytes(document_fields(body)) if self.secret else body

    def _of(self, body: bytes) -> str:
        fields = document_fields(without_callback(body))
        fields.pop(_FIELD, None)
        return hmac.new(self.secret.encode(), _ABOUT + document_bytes(fields), hashlib.sha256).hexdigest()


UNSEALED = SidecarSignature()
