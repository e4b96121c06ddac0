"""What has to be so before DBOS opens its database, and what it may say."""

from __future__ import annotations

import logging

from sqlalchemy.exc import DBAPIError

from listener.ledger.errors import at_the_start, database_error
from listener.runs.steps import Released
from manifests.errors import GpuDropError, StateError


def start_error(error: Exception, url: str) -> GpuDropError:
    """What the engine raised when it opened its database."""
    file = url.removeprefix("sqlite:///") if url.startswith("sqlite:") else ""
    name = f"The engine's database {file}".rstrip()
    known = database_error(error, name) if isinstance(error, DBAPIError) else None
    return at_the_start(known or StateError(f"{name} cannot be used: {error}.", where="state"))


def quieten() -> None:
    """DBOS installs a handler of its own; its warnings join our log instead, its adverts and shutdown notes do not."""
    logger = logging.getLogger("dbos")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.ERROR)
    logger.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """A telling that ends before its run is no failure."""
    return not (record.exc_info and isinstance(record.exc_info[1], Released))


def silence() -> None:
    """What the engine says while it is closed is about its own end: workflows that a thread was about to start."""
    logging.getLogger("dbos").setLevel(logging.CRITICAL)
