"""The operations: this project's own, and those that installed packages add.

A package adds one by an entry point of the group `gpudrop.handlers` that names a handler, or a class that makes one
without arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from handlers.addaudio import AddAudioHandler
from handlers.base import Handler
from handlers.caption import CaptionHandler
from handlers.img2vid import DEFAULT_SPLIT, Img2VidHandler, SplitLimits
from handlers.transcribe import TranscribeHandler
from manifests.entry_points import EntryPoint, PartKind, installed
from manifests.errors import ConfigError, ErrorInfo, UnknownOperation
from manifests.models import Manifest

GROUP = "gpudrop.handlers"
_INSTALLED = partial(installed, GROUP)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_FUNCTIONS = ("references", "plan", "finish")

AnyHandler = Handler[Any]


@dataclass(frozen=True, slots=True)
class Registry:
    """The handlers by operation."""

    handlers: Mapping[str, AnyHandler]
    problems: tuple[ErrorInfo, ...] = ()
    """Handlers that were announced but cannot be used; the others work without them."""

    @property
    def models(self) -> Mapping[str, type[Manifest]]:
        """The operations' manifests, for `manifests.reader`."""
        return {name: handler.model for name, handler in self.handlers.items()}

    def get(self, operation: str) -> AnyHandler:
        """Returns the operation's handler. Raises UnknownOperation."""
        handler = self.handlers.get(operation)
        if handler is not None:
            return handler
        known = ", ".join(sorted(self.handlers))
        raise UnknownOperation(f"There is no operation {operation!r}.", hint=f"Use one of {known}.", where="operation")


def own_handlers(img2vid: SplitLimits = DEFAULT_SPLIT) -> tuple[AnyHandler, ...]:
    return (TranscribeHandler(), CaptionHandler(), Img2VidHandler(img2vid), AddAudioHandler())


def load_registry(
    find: Callable[[], Iterable[EntryPoint]] = _INSTALLED, *, img2vid: SplitLimits = DEFAULT_SPLIT
) -> Registry:
    """Loads this project's handlers and those that `find` returns. `img2vid` bounds how lists of images are split.

    Raises ConfigError when two handlers claim the same operation.
    """
    handlers: dict[str, AnyHandler] = {handler.operation: handler for handler in own_handlers(img2vid)}
    origins = dict.fromkeys(handlers, "gpudrop")
    problems: list[ErrorInfo] = []
    for point in sorted(find(), key=lambda point: (point.name, point.value)):
        try:
            handler = _KIND.load(point)
        except ConfigError as error:
            problems.append(error.info)
            continue
        operation = handler.operation
        if operation in handlers:
            raise ConfigError(
                f"Two handlers claim the operation {operation!r}: {origins[operation]} and {point.value}.",
                hint="Uninstall one of them, or rename its operation.",
                where=f"{GROUP}: {point.name}",
            )
        handlers[operation] = handler
        origins[operation] = point.value
    return Registry(handlers, tuple(problems))


def _problem(handler: Any) -> str:
    """Returns why `handler` is not a handler; "" when it is one."""
    operation: Any = getattr(handler, "operation", None)
    if not isinstance(operation, str) or not _NAME.fullmatch(operation):
        return f"its operation {operation!r} is no plain lower-case name"
    model: Any = getattr(handler, "model", None)
    if not (isinstance(model, type) and issubclass(model, Manifest)):
        return "its model is not derived from manifests.models.Manifest"
    field = model.model_fields.get("operation")
    if field is None or field.default != operation:
        return f"its model's operation is not {operation!r} by default"
    missing = [name for name in _FUNCTIONS if not callable(getattr(handler, name, None))]
    return f"it lacks {', '.join(missing)}" if missing else ""


_KIND: PartKind[AnyHandler] = PartKind(GROUP, "handler", _problem, is_made=True)
