"""Uploads a large file in parts, and runs several transfers at a time with one error for all of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

from gpu_dispatch.task import PartUrls
from gpu_dispatch.transfer.bodies import Moved
from gpu_dispatch.transfer.web import WebClient
from manifests.errors import TransferFailed
from manifests.task_groups import task_group
from manifests.text import without_secrets_in

AT_ONCE = 4
"""Files of one job, or parts of one file, that are transferred at a time."""


async def gather_transfers(works: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Runs `works`, AT_ONCE at a time. The first error ends the others; `deciding` chooses the one that is raised."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def gated(work: Callable[[], Awaitable[None]]) -> None:
        async with gate:
            await work()

    async with task_group() as group:
        for work in works:
            group.create_task(gated(work))


_MAX_ANSWER = 2**16
_CODE = re.compile(rb"<Code>(\w{1,64})</Code>")
_AGAIN = frozenset({"InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "OperationAborted", ""})


async def put_in_parts(web: WebClient, path: Path, size: int, target: PartUrls, *, name: str, moved: Moved) -> None:
    """Uploads `path` to `target`. Raises StoreDenied or TransferFailed; the listener removes the parts left behind."""
    count = -(-size // target.part_bytes)
    if count > len(target.parts):
        raise TransferFailed(
            f"{name} has {size:,} bytes, more than the {len(target.parts) * target.part_bytes:,} it was planned for.",
            hint="Split the work into smaller pieces.",
            where=name,
            retryable=False,
        )
    etags = [""] * count
    fractions = [0.0] * count

    def on_part_progress(index: int, fraction: float) -> None:
        fractions[index] = fraction
        moved(sum(fractions) / count)

    async def part(index: int) -> None:
        offset = index * target.part_bytes
        etags[index] = await web.put_piece(
            path,
            target.parts[index],
            name=name,
            offset=offset,
            size=min(target.part_bytes, size - offset),
            content_type="",
            moved=partial(on_part_progress, index),
        )

    await gather_transfers(partial(part, index) for index in range(count))
    await _complete(web, target.complete, etags, name)


async def _complete(web: WebClient, url: str, etags: list[str], name: str) -> None:
    """Completes the upload. A store may report a failure in the body of a 200, which it sends before it is done."""
    headers = {"Content-Type": "application/xml"}
    answer = await web.ask("POST", url, name=name, data=_document(etags), headers=headers, max_bytes=_MAX_ANSWER)
    if answer.status == 200 and b"<Error>" not in answer.body:
        return
    found = _CODE.search(answer.body)
    code = found[1].decode() if found else ""
    raise TransferFailed(
        f"{name} could not be put together at {without_secrets_in(url)}: the store answered {answer.status} "
        f"{code}".rstrip()
        + ".",
        hint="It is tried again." if code in _AGAIN else "Check the store, and how long addresses are valid.",
        where=name,
        retryable=code in _AGAIN or code == "NoSuchUpload",
    )


def _document(etags: list[str]) -> bytes:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in enumerate(etags, start=1)
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
