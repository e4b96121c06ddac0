"""RunPod's SDK, read from the disk without the second that it takes to learn the CPU's name."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from manifests.errors import ConfigError

_CPU = "cpuinfo"


def load_sdk() -> Any:
    """The module `runpod.serverless`. Raises ConfigError when a package is missing."""
    try:
        with _nameless_cpu():
            logger: Any = import_module("runpod.serverless.modules.rp_logger")
            sdk: Any = import_module("runpod.serverless")
    except ModuleNotFoundError as e:
        raise ConfigError(f"The package {e.name} is not installed.", hint="Install gpudrop[worker].") from e
    if not (os.environ.get("RUNPOD_LOG_LEVEL") or os.environ.get("RUNPOD_DEBUG_LEVEL")):
        # Its default, DEBUG, prints whole results.
        logger.RunPodLogger().level = "INFO"
    return sdk


@contextmanager
def _nameless_cpu() -> Generator[None]:
    """The SDK asks py-cpuinfo when it is imported, for a debugger that is off, and that sleeps for a second to see how
    fast the CPU counts: at each cold start, on a GPU that is paid for. Without a name the SDK goes on."""
    if _CPU in sys.modules:
        yield
        return
    unnamed: Any = ModuleType(_CPU)
    unnamed.get_cpu_info = dict[str, str]
    sys.modules[_CPU] = unnamed
    try:
        yield
    finally:
        del sys.modules[_CPU]
