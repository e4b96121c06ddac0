"""Copies of the installation's secret beside the ledger: without the secret, jobs that are paid for would be lost.

The copy in the store is sealed with a key derived from the listener's own secret key there: others who may write in
the bucket can neither read nor make one. The copy on this machine lies in the state's folder, for this user alone.
"""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Literal, Protocol

import structlog
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF

from gpu_dispatch.signatures import KEY_BYTES, sealed, unsealed
from listener.config.credentials import Keys
from listener.ledger.files import SECRET, folder_error, read_private, write_private
from listener.ledger.secrets import SECRET_BYTES, SecretSpec
from listener.stores.base import Store
from manifests.errors import ConfigError, InputTooLarge, StoreUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.secret")

KEY = ".gpudrop/secret"
"""The copy's key in the store."""

CopyState = Literal["ours", "missing", "foreign", "temporary keys"]

_LAYOUT = struct.Struct(f">{SECRET_BYTES}sd")
_MOST_BYTES = 1024
_TRIES = 4


class Copy(Protocol):
    """A place beside the ledger that keeps the secret."""

    async def read(self) -> SecretSpec | None:
        """Returns the secret; None without a valid copy. Raises StoreUnavailable, or why no copy can be kept."""
        ...

    async def ensure(self, secret: SecretSpec) -> None:
        """Writes `secret` unless the copy holds it. Raises as `read` does."""
        ...


class FileCopy:
    """The copy in `folder`, which is the state's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def read(self) -> SecretSpec | None:
        data = await asyncio.to_thread(self._read)
        return unpacked(data) if data else None

    async def ensure(self, secret: SecretSpec) -> None:
        if await self.read() != secret:
            await asyncio.to_thread(self._write, packed(secret))

    def _read(self) -> bytes | None:
        try:
            return read_private(self._folder / SECRET, _MOST_BYTES)
        except OSError as e:
            raise folder_error(e, self._folder) from e

    def _write(self, data: bytes) -> None:
        try:
            write_private(self._folder / SECRET, data)
        except OSError as e:
            raise folder_error(e, self._folder) from e


class StoreCopy:
    """The copy in the store's first bucket by name. `keys` gives the store's keys; temporary ones keep no copy."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    async def read(self) -> SecretSpec | None:
        bucket = await self._bucket()
        key = await self._sealing_key(bucket)
        try:
            data = await self._store.read(bucket, KEY, max_bytes=_MOST_BYTES) if key else None
        except InputTooLarge:
            return None
        return opened(data, key) if data and key else None

    async def ensure(self, secret: SecretSpec) -> None:
        bucket = await self._bucket()
        key = await self._sealing_key(bucket)
        if key is None:
            return
        for _ in range(_TRIES):
            there = await self._store.head(bucket, KEY)
            if there and there.size <= _MOST_BYTES:
                found = await self._store.get(bucket, KEY, max_bytes=_MOST_BYTES)
                if found and opened(found.content, key) == secret:
                    return
                there = found.meta if found else None
            if await self._put(bucket, sealed(packed(secret), key, "secret"), there.etag if there else None):
                return
        raise StoreUnavailable(f"{KEY!r} changes all the time.", hint="See who else writes there.", where=KEY)

    async def state(self) -> CopyState:
        """Returns the state of the copy. Temporary keys, as roles get them, seal nothing that the next ones open."""
        bucket = await self._bucket()
        if await self._sealing_key(bucket) is None:
            return "temporary keys"
        if await self._store.head(bucket, KEY) is None:
            return "missing"
        return "ours" if await self.read() else "foreign"

    async def _put(self, bucket: str, data: bytes, etag: str | None) -> bool:
        kind = "application/octet-stream"
        if etag is None:
            return await self._store.create(bucket, KEY, data, content_type=kind)
        hint = (
            "Expected once after the store's keys were changed. Where several listeners have keys of their own, set "
            "GPUDROP_SECRET. Otherwise see who else writes there."
        )
        log.warning("secret_copy_not_believed", bucket=bucket, key=KEY, consequence="it is written anew", hint=hint)
        return await self._store.replace(bucket, KEY, data, content_type=kind, expected=etag) is not None

    async def _bucket(self) -> str:
        buckets = await self._store.find_buckets()
        if not buckets:
            raise ConfigError("The store has no buckets.", hint="Make one.", where="store.buckets")
        return min(buckets)

    async def _sealing_key(self, bucket: str) -> bytes | None:
        keys = await asyncio.to_thread(self._keys)
        return None if keys.session_token else derived(keys.secret_key, f"gpudrop copy of the secret in {bucket}")


def derived(secret: str, purpose: str) -> bytes:
    """Returns a key for one purpose, which reveals nothing of `secret`."""
    return HKDF(secret.encode(), KEY_BYTES, b"", SHA256, context=purpose.encode())


def packed(secret: SecretSpec) -> bytes:
    return _LAYOUT.pack(secret.value, secret.created)


def unpacked(data: bytes) -> SecretSpec | None:
    return SecretSpec(*_LAYOUT.unpack(data)) if len(data) == _LAYOUT.size else None


def opened(data: bytes, key: bytes) -> SecretSpec | None:
    """Returns the secret that was sealed with `key`; None for anything else."""
    found = unsealed(data, key, "secret")
    return unpacked(found) if found else None
