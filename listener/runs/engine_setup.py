"""Prepares DBOS before it opens its database, limits what it logs, and tracks the tasks of its workflows."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import pickle
from collections.abc import Generator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NoReturn

from sqlalchemy.exc import DBAPIError

from listener.ledger.errors import as_startup_error, database_error
from listener.runs.steps import Released
from manifests.errors import GpuDropError, StateError


class WorkflowTasks:
    """Tracks the task of each workflow from its start until the engine has recorded its end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._running: set[asyncio.Task[Any]] = set()
        self._closing = False

    @contextmanager
    def track(self) -> Generator[None]:
        """Tracks the current task, which executes a workflow inside. Raises CancelledError after `cancel_all`."""
        if self._closing:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        if task is None:
            yield
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._running.add(task)
        try:
            yield
        finally:
            self._running.discard(task)

    async def cancel_all(self, timeout_s: float) -> None:
        """Cancels every executing workflow; one that has ended is recorded first. Waits at most `timeout_s`."""
        self._closing = True
        for task in self._running:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)


def start_error(error: Exception, url: str) -> GpuDropError:
    """Translates what the engine raised when it opened its database."""
    file = url.removeprefix("sqlite:///") if url.startswith("sqlite:") else ""
    name = f"The engine's database {file}".rstrip()
    known = database_error(error, name) if isinstance(error, DBAPIError) else None
    return as_startup_error(known or StateError(f"{name} cannot be used: {error}.", where="state"))


def refuse_pickle() -> None:
    """Makes DBOS unable to unpickle: a row of its database whose own label says pickle would run code.

    DBOS has no setting for it: it follows the label, whatever serializer it was given. Both of its ways to pickle are
    replaced, in the one module that has any. Raises StateError where that module is not the expected one.
    """
    module: Any = importlib.import_module("dbos._serialization")
    if module.pickle is _NO_PICKLE:
        return
    kind = module.DefaultSerializer
    if module.pickle is not pickle or type(module.DBOSDefaultSerializer) is not kind:
        raise StateError(
            "This version of DBOS reads its records in a way that is not known to be safe.",
            hint="Install the version of dbos that requirements.lock names.",
        )
    module.pickle = _NO_PICKLE
    kind.deserialize = _refused
    kind.serialize = _as_text


def _refused(*_: object) -> NoReturn:
    raise StateError(
        "A record of the engine's is labelled as pickle, which is never read: it could hold a program.",
        hint="gpudrop writes no such record: find out who else may write the state.",
        where="state",
    )


def _as_text(_: object, value: Any) -> str:
    """Writes an error or a result of a record so labelled as text: to be looked at, never read again."""
    return json.dumps(str(value))


_NO_PICKLE = SimpleNamespace(loads=_refused, dumps=_refused)


def quieten() -> None:
    """Removes DBOS's own log handler: its errors join our log, its adverts and shutdown notes do not."""
    logger = logging.getLogger("dbos")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.ERROR)
    logger.addFilter(_is_loggable)


def _is_loggable(record: logging.LogRecord) -> bool:
    """Whether a record is to be logged: a `Released` is no failure."""
    return not (record.exc_info and isinstance(record.exc_info[1], Released))


def silence() -> None:
    """Silences the engine's errors while it is closed: they are about workflows that a thread was about to start."""
    logging.getLogger("dbos").setLevel(logging.CRITICAL)
