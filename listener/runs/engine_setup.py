"""What has to be so before DBOS opens its database, and what it may say."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path


def prepare_sqlite(url: str) -> None:
    """WAL, before the engine opens the file: twice the throughput, and readers beside the writer."""
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        finally:
            connection.close()


def quieten() -> None:
    """DBOS installs a handler of its own; its warnings join our log instead, its adverts and shutdown notes do not."""
    logger = logging.getLogger("dbos")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.ERROR)


def silence() -> None:
    """What the engine says while it is closed is about its own end: workflows that a thread was about to start."""
    logging.getLogger("dbos").setLevel(logging.CRITICAL)
