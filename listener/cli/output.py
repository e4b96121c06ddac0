"""Output for people: the log, and a terminal for texts that may come from strangers."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from typing import IO, Any, Literal

import structlog
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from structlog.typing import EventDict, Processor, WrappedLogger

from manifests.text import printable, printable_json, without_queries


def configure(level: Literal["debug", "info", "warning", "error"], form: Literal["console", "json"]) -> None:
    """Sends the log to stderr, one line for each entry, for people or as JSON."""
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
    # aiormq logs each failed connection as an error; the source reports it better.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    for ours in ("listener", "gpu_dispatch", "handlers"):
        logging.getLogger(ours).setLevel(level.upper())


_OF_SEVERAL_LINES = ("exception", "stack")


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Shows control characters as text: a key or a worker's text may hold what acts on the terminal."""
    return {
        name: printable(value, keep="\n" if name in _OF_SEVERAL_LINES else "") if isinstance(value, str) else value
        for name, value in event.items()
    }


def _json(event: EventDict, **options: Any) -> str:
    """Renders an entry as JSON with its control characters escaped."""
    return printable_json(json.dumps(event, **options))


def _cut_queries(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Cuts the queries of addresses, also in a library's exceptions: they may hold tokens."""
    return {name: without_queries(value) if isinstance(value, str) else value for name, value in event.items()}


class Terminal(Console):
    """A console that reads no text as markup and shows control characters instead of sending them.

    Style is given with `Text` and `style`, which no text can imitate.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        super().__init__(file=file, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text, keep="\n"), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text, keep="\n"), segment.style)
