"""Reads and checks config.yaml, names every mistake, and reloads triggers when they change."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import structlog
import yaml
from pydantic import BaseModel, ValidationError
from watchfiles import awatch  # pyright: ignore[reportUnknownVariableType]

from listener.config.config import Config
from listener.config.source_kinds import SourceSettings
from listener.config.sources import settings_model
from listener.config.triggers import triggers_of
from listener.triggers.triggers import Trigger
from manifests.errors import ConfigError, GpuDropError


def load_config(path: Path) -> Config:
    """Reads `path`. Raises ConfigError naming the field, and the nearest valid name for an unknown one."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as e:
        raise ConfigError(
            f"There is no configuration at {path}.", hint="Copy config.yaml from the project, or pass --config FILE."
        ) from e
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} cannot be read: {e}.", hint="Check its permissions and that it is UTF-8.") from e
    try:
        data: Any = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise ConfigError(f"{path} is not YAML: {e}", hint="Mind indentation and quotes.", where=str(path)) from e
    except RecursionError as e:
        raise ConfigError(f"{path} nests lists and sections too deep.", hint="Flatten it.", where=str(path)) from e
    return parse_config({} if data is None else data, origin=str(path)).read_from(path)


def parse_config(data: Any, *, origin: str) -> Config:
    """Validates `data`; `origin` names the file in errors."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{origin} must hold named sections.", hint="Start with `store:`.", where=origin)
    try:
        return Config.model_validate(data)
    except ValidationError as e:
        raise _translated(e, origin) from e


def _translated(error: ValidationError, origin: str) -> ConfigError:
    lines: list[str] = []
    first = ""
    for problem in error.errors(include_url=False)[:8]:
        path, names = _place(problem["loc"])
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
        first = first or where
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(path[-1]), names, n=1, cutoff=0.5)
            lines.append(f"{where}: unknown name" + (f", did you mean {near[0]!r}?" if near else ""))
        else:
            lines.append(f"{where}: {problem['msg'].removeprefix('Value error, ')}")
    return ConfigError(f"{origin}: " + "; ".join(lines), hint="See config.yaml for every name.", where=first)


def _place(loc: Sequence[int | str]) -> tuple[list[int | str], list[str]]:
    """Returns `loc` as users write it, without the kinds of sections, and the names that are valid at its end."""
    models: list[type[BaseModel]] = [Config]
    path: list[int | str] = []
    names: list[str] = []
    for part in loc:
        names = [name for model in models for name in model.model_fields]
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        if isinstance(part, str) and not fields and (kind := _of_kind(part, models)):
            models = kind
            continue
        path.append(part)
        if isinstance(part, str):
            models = [found for field in fields for found in _sections(field.annotation)]
    return path, names


def _of_kind(kind: str, models: Sequence[type[BaseModel]]) -> list[type[BaseModel]]:
    if found := [model for model in models if kind in _kinds(model)]:
        return found
    settings = settings_model(kind) if SourceSettings in models else None
    return [settings] if settings else []


def _kinds(model: type[BaseModel]) -> tuple[str, ...]:
    field = model.model_fields.get("kind")
    return get_args(field.annotation) if field else ()


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yields the models in an annotation, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)


log: structlog.stdlib.BoundLogger = structlog.get_logger("listener.config")

STEP_MS = 500
LOOK_MS = 5000
"""Poll interval, for changes before the watch began, and for file systems without notifications."""


async def follow_config(path: Path, in_force: tuple[Trigger, ...], use: Callable[[tuple[Trigger, ...]], None]) -> None:
    """Calls `use` with changed triggers until cancelled. An invalid or refused file is logged, and triggers stay.

    The folder is watched, not the file: editors replace files, and containers swap links to them.
    """
    folder = path.absolute().parent  # noqa: ASYNC240 - reads no file
    looked_at: tuple[int, int] | None = None
    async for _ in _looks(folder):
        stamp = await asyncio.to_thread(_stamp, path)
        if stamp == looked_at:
            continue
        looked_at = stamp
        try:
            triggers = triggers_of(load_config(path))
            if triggers != in_force:
                use(triggers)
                in_force = triggers
                log.info("triggers_reloaded", triggers=[t.name for t in triggers])
        except GpuDropError as e:
            log.error("config_not_reloaded", error=str(e), hint=e.info.hint)


async def _looks(folder: Path) -> AsyncGenerator[None]:
    """Yields, for ever, when the folder has changed, and every LOOK_MS; only the latter where it cannot be watched."""
    try:
        async for _ in awatch(folder, recursive=False, step=STEP_MS, rust_timeout=LOOK_MS, yield_on_timeout=True):
            yield
    except (OSError, RuntimeError) as e:
        hint = "Raise fs.inotify.max_user_watches and fs.inotify.max_user_instances, then start again."
        log.warning("config_polled", folder=str(folder), error=str(e), hint=hint)
    while True:
        yield
        await asyncio.sleep(LOOK_MS / 1000)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Returns what changes with the file; None while there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
