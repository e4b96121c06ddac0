"""Writes that try a bucket out. What obstore raises is the caller's to translate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import S3Store as Bucket

if TYPE_CHECKING:
    from obstore import UpdateVersion

PROBE_KEY = ".gpudrop/write-check"
"""Never written: the write that is asked for must be refused."""
CLAIM_PROBE = ".gpudrop/claim-check-"


async def leaves_probe(client: Bucket) -> bool:
    """Asks for a write whose condition cannot hold. True: a server that ignores conditions has written PROBE_KEY."""
    mode: UpdateVersion = {"e_tag": '"no-such-version"'}
    try:
        await obstore.put_async(client, PROBE_KEY, b"", mode=mode)
    except PreconditionError:
        return False
    return True


async def refuses_second(client: Bucket, key: str) -> bool:
    """Writes `key` twice, each time only if nothing lies there; whether the second write was refused."""
    try:
        for _ in range(2):
            await obstore.put_async(client, key, b"", mode="create")
    except AlreadyExistsError:
        return True
    return False
