"""Checks that must pass before the listener logs that it is ready.

A supervisor of the process can wait for the line `ready`. It waits for two things: every source that others connect to
has its address, and the store has answered a listing of each named bucket with the keys in force. A failed address ends
the start, because somebody wrote it down for others to post to and has to act; one that is lost later is taken again as
soon as it is free. The store is awaited (`not_ready`, with its remedy), because it comes back by itself; sources, runs
and the receiver work meanwhile. Streams, queues and brokers are not awaited: what they miss is listed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

import structlog

from gpu_dispatch.net.retries import READINESS, Failure, Retries, is_known
from listener.sources.base import Opening
from listener.stores.base import Store
from listener.stores.folder import FolderStore
from manifests.errors import ConfigError

log: structlog.stdlib.BoundLogger = structlog.get_logger("listener")

_OPENED_S = 30.0


async def wait_until_open(openings: Sequence[Opening], tasks: Collection[asyncio.Task[None]]) -> None:
    """Returns once every source that listens has its address. Raises why one has none, or why a task ended."""
    waiting = asyncio.gather(*(opening.wait() for opening in openings))
    try:
        done, _ = await asyncio.wait({waiting, *tasks}, timeout=_OPENED_S, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if not waiting.done():
            raise ConfigError(
                f"A source has no address to listen at after {_OPENED_S:.0f} s.",
                hint="Set `listen` to an address of this machine, 127.0.0.1 or 0.0.0.0.",
                where="sources",
            )
    finally:
        waiting.cancel()


async def require_folder(root: Path) -> None:
    """Creates the store's folder. Raises ConfigError when this program cannot use it."""
    hint = "Name another one as store.root in config.yaml, or make this one a folder that this program may write."
    try:
        await asyncio.to_thread(root.mkdir, parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(f"The folder {root} cannot be used: {e.strerror or e}.", hint=hint, where="store.root") from e
    for problem in (await FolderStore(root).check()).values():
        raise ConfigError(f"The folder {root} cannot be used: {problem}", hint=hint, where="store.root")


async def log_when_ready(store: Store, **told: object) -> None:
    """Logs `ready` with the fields `told` once the store answers with the keys in force; until then, logs why not."""

    def not_ready(failure: Failure) -> None:
        error = failure.gpudrop_error
        about = {"code": error.info.code, "error": str(error), "hint": error.info.hint}
        log.warning("not_ready", **about, retry_s=round(failure.wait_s, 2))

    await Retries(READINESS).call(store.ping, on=is_known, on_failure=not_ready)
    log.info("ready", buckets=list(store.buckets), **told)
