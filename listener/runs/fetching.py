"""Small documents that lie elsewhere: subtitles named by an https address, or written into the manifest itself."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

from gpu_dispatch.net.retries import TRANSFER
from gpu_dispatch.task import TaskInput
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.transfer.transfer import Transfer

LIMITS = TransferLimits(total_s=120.0, retries=replace(TRANSFER, attempts=4))


class DocumentFetcher:
    def __init__(self, private_hosts: frozenset[str]) -> None:
        """`private_hosts` may be contacted although their addresses are private."""
        self._trusted = tuple(sorted(private_hosts))

    async def read(self, url: str, *, role: str, max_bytes: int) -> bytes:
        """Raises InputMissing, InputDenied, InputEmpty, InputTooLarge, AddressNotAllowed or TransferFailed."""
        with tempfile.TemporaryDirectory(prefix="gpudrop-") as folder:
            path = Path(folder) / "document"
            async with Transfer(
                file_root=None, trusted_hosts=self._trusted, max_input_bytes=max_bytes, limits=LIMITS
            ) as transfer:
                await transfer.download(TaskInput(role, url), path, lambda _: None)
            return await asyncio.to_thread(path.read_bytes)
