"""Transfers a job's files by the scheme of their addresses: http(s), `file:` below the store's root, `data:`."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from gpu_dispatch.task import SINGLE_PUT_BYTES, TaskInput, TaskOutput
from gpu_dispatch.transfer.bodies import Moved
from gpu_dispatch.transfer.files import OpenInputs, link_input, open_inputs, place_output, write_data
from gpu_dispatch.transfer.limits import TransferBudget, TransferLimits
from gpu_dispatch.transfer.parts import put_in_parts
from gpu_dispatch.transfer.web import WebClient
from manifests.errors import InvalidPath


class Transfer:
    """Transfers one job's files. Raises GpuDropError only. Use it as a context manager: it holds connections."""

    def __init__(
        self,
        *,
        file_root: Path | None,
        trusted_hosts: tuple[str, ...],
        max_input_bytes: int,
        limits: TransferLimits | None = None,
        rng: random.Random | None = None,
        single_put_bytes: int = SINGLE_PUT_BYTES,
    ) -> None:
        """A file of more than `single_put_bytes` is uploaded in parts, where the task has addresses for them."""
        self._single_put_bytes = single_put_bytes
        self._root = file_root
        self._budget = TransferBudget(max_input_bytes)
        self._web = WebClient(trusted_hosts, limits or TransferLimits(), rng or random.Random())  # noqa: S311 - jitter
        self._open = ExitStack()
        self._inputs = OpenInputs()

    async def __aenter__(self) -> Self:
        self._inputs = self._open.enter_context(open_inputs())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._open.close()
        await self._web.__aexit__(kind, e, tb)

    async def download(self, source: TaskInput, to: Path, moved: Moved) -> None:
        scheme = source.url.partition(":")[0].lower()
        if scheme in ("http", "https"):
            await self._web.get(source.url, to, name=source.name, budget=self._budget, moved=moved)
        elif scheme == "file":
            link = partial(link_input, root=self._root, budget=self._budget, inputs=self._inputs)
            await asyncio.to_thread(link, source.url, to, name=source.name)
        elif scheme == "data":
            await asyncio.to_thread(write_data, source.url, to, name=source.name, budget=self._budget)
        else:
            raise _unknown(scheme, source.name)
        moved(1.0)

    async def upload(self, path: Path, target: TaskOutput, moved: Moved) -> None:
        """Uploads `path`, which may be gone afterwards."""
        scheme = target.url.partition(":")[0].lower()
        if scheme in ("http", "https"):
            await self._put(path, target, moved)
        elif scheme == "file":
            await asyncio.to_thread(place_output, path, target.url, name=target.name, root=self._root)
        else:
            raise _unknown(scheme, target.name)
        moved(1.0)

    async def _put(self, path: Path, target: TaskOutput, moved: Moved) -> None:
        size = (await asyncio.to_thread(path.stat)).st_size
        if target.in_parts is not None and size > self._single_put_bytes:
            await put_in_parts(self._web, path, size, target.in_parts, name=target.name, moved=moved)
        else:
            await self._web.put(path, target.url, name=target.name, content_type=target.content_type, moved=moved)


def _unknown(scheme: str, name: str) -> InvalidPath:
    return InvalidPath(
        f"{scheme}: addresses cannot be used here.", hint="Use http(s): or, below the store's root, file:.", where=name
    )
