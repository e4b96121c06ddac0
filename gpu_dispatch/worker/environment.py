"""Reads the settings of a worker in a container from its environment, and sets up its log."""

from __future__ import annotations

import logging
import re
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from gpu_dispatch.task import Capability
from gpu_dispatch.worker.claim import CHECK_INTERVAL_S
from gpu_dispatch.worker.operations import OperationSettings
from manifests.errors import ConfigError

DeviceChoice = Literal["auto", "cpu", "cuda"]

ALL: frozenset[Capability] = frozenset(get_args(Capability))

_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Settings of a worker in a container."""

    operations: OperationSettings
    capabilities: frozenset[Capability]
    endpoint_id: str
    """Empty outside RunPod."""
    worker: str
    """The pod's id; outside RunPod the host's name."""
    warm_model: str | None = None
    """A model that is loaded, tried and kept before the first job."""
    require_nvenc: bool = False
    """The worker starts only where NVENC works."""
    stop_grace_s: float = 30.0
    """How long after a job's end its threads may run before the process ends itself."""
    check_interval_s: float = CHECK_INTERVAL_S
    """Interval between checks of a claim."""


def settings_from(environ: Mapping[str, str]) -> WorkerSettings:
    """Reads the settings from environment variables. Raises ConfigError.

    GPUDROP_CAPABILITIES (whisper,nvenc), _MODEL_DIR, _WORK_ROOT, _FFMPEG, _DEVICE (auto, cpu, cuda), _OFFLINE,
    _WARM_MODEL, _REQUIRE_NVENC, _STOP_GRACE_S, _CLAIM_LOOK_S; RUNPOD_ENDPOINT_ID, RUNPOD_POD_ID.
    """
    model_dir = environ.get("GPUDROP_MODEL_DIR", "").strip()
    operations = OperationSettings(
        work_root=_folder("GPUDROP_WORK_ROOT", environ),
        model_dir=Path(model_dir) if model_dir else None,
        ffmpeg=environ.get("GPUDROP_FFMPEG", "").strip() or None,
        device=_device(environ.get("GPUDROP_DEVICE", "").strip() or "auto"),
        allow_download=not _flag("GPUDROP_OFFLINE", environ),
    )
    return WorkerSettings(
        operations=operations,
        capabilities=_capabilities(environ.get("GPUDROP_CAPABILITIES", "")),
        endpoint_id=environ.get("RUNPOD_ENDPOINT_ID", ""),
        worker=environ.get("RUNPOD_POD_ID", "") or socket.gethostname(),
        warm_model=environ.get("GPUDROP_WARM_MODEL", "").strip() or None,
        require_nvenc=_flag("GPUDROP_REQUIRE_NVENC", environ),
        stop_grace_s=_seconds("GPUDROP_STOP_GRACE_S", environ, 30.0),
        check_interval_s=_seconds("GPUDROP_CLAIM_LOOK_S", environ, CHECK_INTERVAL_S),
    )


def _capabilities(text: str) -> frozenset[Capability]:
    """Returns the named capabilities; all of them when none is named."""
    named = [word for word in re.split(r"[\s,]+", text.lower()) if word]
    found: frozenset[Capability] = frozenset(each for each in ALL if each in named)
    if unknown := sorted(set(named) - ALL):
        raise _wrong("GPUDROP_CAPABILITIES", f"names {unknown[0]!r}", f"Known are {', '.join(sorted(ALL))}.")
    return found or ALL


def _device(word: str) -> DeviceChoice:
    known: tuple[DeviceChoice, ...] = get_args(DeviceChoice)
    for device in known:
        if device == word.lower():
            return device
    raise _wrong("GPUDROP_DEVICE", f"is {word!r}", f"Known are {', '.join(known)}.")


def _folder(name: str, environ: Mapping[str, str]) -> Path:
    path = Path(environ.get(name, "").strip() or tempfile.gettempdir())
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise _wrong(name, f"is {str(path)!r}, which cannot be used: {e.strerror}", "Name a writable folder.") from e
    return path


def _flag(name: str, environ: Mapping[str, str]) -> bool:
    word = environ.get(name, "").strip().lower()
    if word not in _YES | _NO:
        raise _wrong(name, f"is {word!r}", "Set it to 1, or unset it.")
    return word in _YES


def _seconds(name: str, environ: Mapping[str, str], default: float) -> float:
    text = environ.get(name, "").strip()
    try:
        seconds = float(text) if text else default
    except ValueError as e:
        raise _wrong(name, f"is {text!r}", "Give a number of seconds.") from e
    if not 0 < seconds < float("inf"):
        raise _wrong(name, f"is {text!r}", "Give a positive number of seconds.")
    return seconds


def _wrong(name: str, what: str, hint: str) -> ConfigError:
    return ConfigError(f"{name} {what}.", hint=hint, where=name)


_QUERY = re.compile(r"(https?://[^\s'\"<>?]+)\?[^\s'\"<>]+", re.IGNORECASE)


def without_signatures(text: str) -> str:
    """Removes the query of every address in `text`."""
    return _QUERY.sub(r"\1?…", text)


class RedactingFormatter(logging.Formatter):
    """Removes signatures from records and tracebacks: a library's error may quote the address it was given."""

    def format(self, record: logging.LogRecord) -> str:
        return without_signatures(super().format(record))


def start_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
