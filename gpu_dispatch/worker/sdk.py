"""Imports RunPod's SDK without the second that it spends on the CPU's name."""

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
    """Imports `runpod.serverless`. Raises ConfigError when a package is missing."""
    try:
        with _nameless_cpu():
            logger: Any = import_module("runpod.serverless.modules.rp_logger")
            sdk: Any = import_module("runpod.serverless")
    except ModuleNotFoundError as e:
        raise ConfigError(f"The package {e.name} is not installed.", hint="Install gpudrop[worker].") from e
    if not (os.environ.get("RUNPOD_LOG_LEVEL") or os.environ.get("RUNPOD_DEBUG_LEVEL")):
        # The SDK's default, DEBUG, prints whole results.
        logger.RunPodLogger().level = "INFO"
    return sdk


@contextmanager
def _nameless_cpu() -> Generator[None]:
    """Replaces py-cpuinfo with a stub while the SDK is imported.

    The SDK queries it for a debugger that is off, and py-cpuinfo sleeps for a second to measure the CPU's frequency, at
    each cold start of a paid GPU. The SDK accepts an empty answer.
    """
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
