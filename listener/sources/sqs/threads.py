"""Blocking calls on threads that hold up neither the event loop nor the end of the process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def on_thread(call: Callable[[], T], *, unwanted: Callable[[T], object] | None = None) -> T:
    """What `call` returns or raises. Cancelled, it returns at once and `call` goes on by itself.

    What such a call still brings is given to `unwanted`, on a thread too; what that raises is dropped. The threads are
    daemons: asyncio's own pool would be waited for when the loop closes, for as long as a server holds a request.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(tell: Callable[[], None], drop: Callable[[], object]) -> None:
        if future.done():
            threading.Thread(target=drop, name="sqs-drop", daemon=True).start()
        else:
            tell()

    def work() -> None:
        try:
            result = call()
        except BaseException as e:  # noqa: BLE001 - handed to whoever awaits
            error = e
            _to_loop(loop, lambda: settle(lambda: future.set_exception(error), _nothing), _nothing)
        else:
            drop = _dropping(result, unwanted)
            _to_loop(loop, lambda: settle(lambda: future.set_result(result), drop), drop)

    threading.Thread(target=work, name="sqs", daemon=True).start()
    return await future


def _to_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], None], otherwise: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        otherwise()  # the loop was closed meanwhile


def _dropping(result: T, unwanted: Callable[[T], object] | None) -> Callable[[], object]:
    def drop() -> None:
        try:
            if unwanted:
                unwanted(result)
        except Exception:  # noqa: BLE001, S110 - nobody is left to tell
            pass

    return drop


def _nothing() -> None:
    return None
