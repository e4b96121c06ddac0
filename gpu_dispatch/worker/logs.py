"""The worker's log: lines on standard error, with what makes an address a key to a bucket taken out."""

from __future__ import annotations

import logging
import re
import sys

_QUERY = re.compile(r"(https?://[^\s'\"<>?]+)\?[^\s'\"<>]+", re.IGNORECASE)


def without_signatures(text: str) -> str:
    """`text` with the query of every address cut away."""
    return _QUERY.sub(r"\1?…", text)


class RedactingFormatter(logging.Formatter):
    """Tracebacks included: a library's error may quote the address it was given."""

    def format(self, record: logging.LogRecord) -> str:
        return without_signatures(super().format(record))


def start_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
