"""One log for everything: our events, the libraries' lines, the workers' output."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from manifests.printable import printable, printable_json
from manifests.shown import without_queries


def configure(level: Literal["debug", "info", "warning", "error"], form: Literal["console", "json"]) -> None:
    """To stderr: one line an event, for people or as JSON."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _cut_queries,
    ]
    last: list[Processor] = (
        [structlog.processors.JSONRenderer(_json, ensure_ascii=False)]
        if form == "json"
        else [_printable, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # It reports as an error each connection that fails, which its source tells better.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    for ours in ("listener", "gpu_dispatch", "handlers"):
        logging.getLogger(ours).setLevel(level.upper())


_OF_SEVERAL_LINES = ("exception", "stack")


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A key or a worker's text may hold what acts on the terminal."""
    return {
        name: printable(value, keep="\n" if name in _OF_SEVERAL_LINES else "") if isinstance(value, str) else value
        for name, value in event.items()
    }


def _json(event: EventDict, **options: Any) -> str:
    """The same in JSON, which has escapes for it."""
    return printable_json(json.dumps(event, **options))


def _cut_queries(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Whoever wrote an address into an entry, a library's exception among them: its query may hold a token."""
    return {name: without_queries(value) if isinstance(value, str) else value for name, value in event.items()}
