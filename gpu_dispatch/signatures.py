"""Signs and seals an attempt's objects in the store with a key that only the listener and the attempt's workers have.

Others who may write in the bucket can add and remove objects, but none of theirs is accepted, and they cannot read
sealed ones, which hold links.
"""

from __future__ import annotations

import hmac
import os
from hashlib import sha256
from typing import Literal

from Crypto.Cipher import AES

KEY_BYTES = 32

Kind = Literal["claim", "answer", "task", "secret"]

_MAC_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
_SIGNED = b"gpudrop-signed-1 "
_SEALED = b"gpudrop-sealed-1 "


def attempt_key(secret: bytes, task_id: str, attempt: int) -> bytes:
    """Derives the key of one attempt at a task; it reveals no other attempt's key."""
    return hmac.digest(secret, f"gpudrop attempt {attempt} of {task_id}".encode(), sha256)


def key_from_text(text: str) -> bytes | None:
    """Parses a task's key from hexadecimal digits; None for "". Raises ValueError."""
    key = bytes.fromhex(text)
    if key and len(key) != KEY_BYTES:
        raise ValueError("a key of another length")
    return key or None


def mac(data: bytes, key: bytes, kind: Kind) -> bytes:
    return hmac.digest(_derived_key(key, kind), data, sha256)


def signed(data: bytes, key: bytes | None, kind: Kind) -> bytes:
    """Returns `data` behind a line with its signature; unchanged without a key (tasks of earlier releases)."""
    return data if key is None else _SIGNED + mac(data, key, kind).hex().encode() + b"\n" + data


def verified(data: bytes, key: bytes | None, kind: Kind) -> bytes | None:
    """Returns what was signed with `key` as `kind`, None for anything else; without a key, `data` itself."""
    if key is None:
        return data
    head, line, body = data[: len(_SIGNED) + 2 * _MAC_BYTES + 1].partition(b"\n")
    if not head.startswith(_SIGNED) or not line or body:
        return None
    body = data[len(head) + 1 :]
    return body if hmac.compare_digest(head[len(_SIGNED) :], mac(body, key, kind).hex().encode()) else None


def sealed(data: bytes, key: bytes, kind: Kind) -> bytes:
    """Encrypts `data` so that nobody without the key can read or change it (AES-GCM)."""
    nonce = os.urandom(_NONCE_BYTES)
    cipher = AES.new(_derived_key(key, kind), AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
    cipher.update(_SEALED)
    text, tag = cipher.encrypt_and_digest(data)
    return b"".join((_SEALED, nonce, tag, text))


def unsealed(data: bytes, key: bytes, kind: Kind) -> bytes | None:
    """Decrypts what was sealed with `key` as `kind`; None for anything else."""
    start = len(_SEALED)
    nonce, tag = data[start : start + _NONCE_BYTES], data[start + _NONCE_BYTES : start + _NONCE_BYTES + _TAG_BYTES]
    if not data.startswith(_SEALED) or len(tag) != _TAG_BYTES:
        return None
    cipher = AES.new(_derived_key(key, kind), AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
    cipher.update(_SEALED)
    try:
        return cipher.decrypt_and_verify(data[start + _NONCE_BYTES + _TAG_BYTES :], tag)
    except ValueError:
        return None


def _derived_key(key: bytes, kind: Kind) -> bytes:
    """Derives the key of one kind, so that no kind passes for another."""
    return hmac.digest(key, f"gpudrop {kind} 1".encode(), sha256)
