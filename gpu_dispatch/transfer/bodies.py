"""Streams files on disk to and from the bodies of requests and answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

import aiohttp

from gpu_dispatch.net.bodies import BodyTooLong, read_whole
from gpu_dispatch.transfer.limits import TransferBudget
from manifests.errors import InputEmpty, InputTooLarge, TransferFailed

CHUNK = 2**20
"""Bytes moved between disk and network at a time."""

Moved = Callable[[float], None]
"""Called with the fraction (0-1) of a file that has been transferred."""


async def save(response: aiohttp.ClientResponse, path: Path, name: str, budget: TransferBudget, moved: Moved) -> None:
    expected = response.content_length or 0
    budget.check(expected, name)
    taken = 0
    file = await asyncio.to_thread(path.open, "wb")
    try:
        async for chunk in _gathered(response):
            budget.take(len(chunk), name)
            taken += len(chunk)
            await asyncio.to_thread(_write, file, chunk, name)
            moved(min(1.0, taken / expected) if expected else 0.0)
        if not taken:
            raise InputEmpty(f"The file at {name}'s address is empty.", hint="Upload the file again.", where=name)
    except BaseException:
        budget.give_back(taken)
        raise
    finally:
        await asyncio.to_thread(file.close)


async def _gathered(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yields the body in pieces of about CHUNK bytes: the socket's are smaller, and each write costs a thread hop."""
    held = bytearray()
    async for piece in response.content.iter_any():
        held += piece
        if len(held) >= CHUNK:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _write(file: BinaryIO, chunk: bytes, name: str) -> None:
    try:
        file.write(chunk)
    except OSError as e:
        raise TransferFailed(
            f"{name} could not be stored on the worker: {e.strerror}.",
            hint="Give the worker more disk space.",
            where=name,
        ) from e


async def file_chunks(path: Path, offset: int, size: int, sent: Moved) -> AsyncIterator[bytes]:
    """Yields the `size` bytes of `path` from `offset` on."""
    file = await asyncio.to_thread(path.open, "rb")
    done = 0
    try:
        await asyncio.to_thread(file.seek, offset)
        while chunk := await asyncio.to_thread(file.read, min(CHUNK, size - done)):
            yield chunk
            done += len(chunk)
            sent(done / size)
    finally:
        file.close()


async def read_all(response: aiohttp.ClientResponse, name: str, max_bytes: int) -> bytes:
    """Reads the body of an answer that is no file. Raises InputTooLarge."""
    try:
        return await read_whole(response.content, max_bytes)
    except BodyTooLong as e:
        raise InputTooLarge(
            f"{name} is larger than the {max_bytes:,} bytes that are read.", hint="Make it smaller.", where=name
        ) from e
