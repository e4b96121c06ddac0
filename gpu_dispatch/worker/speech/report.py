"""Reports this machine's speech engines as one line of JSON: `python -m gpu_dispatch.worker.speech.report`.

{"engines": [{"name": "faster-whisper", "installed": true, "version": "1.2.1", "devices": ["cpu"],
              "models": ["tiny.en"], "problem": "", "remedy": ""}, …], "vad": true}
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gpu_dispatch.worker.speech.chunks import has_detector
from gpu_dispatch.worker.speech.engine import Device, SpeechEngine
from gpu_dispatch.worker.speech.models import DISTILLED, PUBLISHED, ModelStore
from gpu_dispatch.worker.speech.registry import ENGINES, is_installed
from manifests.errors import EngineUnavailable


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """An engine as it is found on this machine."""

    name: str
    installed: bool
    version: str = ""
    devices: tuple[Device, ...] = ()
    """The fastest first."""
    models: tuple[str, ...] = ()
    """Models on this machine."""
    problem: str = ""
    """Why an installed engine does not work."""
    remedy: str = ""
    """What makes the engine work."""


def available_engines(store: ModelStore, engines: Sequence[SpeechEngine] = ENGINES) -> tuple[EngineInfo, ...]:
    """Describes every engine, installed or not, in order of preference. Importing the installed ones takes seconds."""
    return tuple(_describe(engine, store) for engine in engines)


def _describe(engine: SpeechEngine, store: ModelStore) -> EngineInfo:
    if not is_installed(engine):
        return EngineInfo(engine.name, False, remedy=engine.remedy)
    version = importlib.metadata.version(engine.name)
    try:
        devices = engine.devices()
        names = sorted({*PUBLISHED, *DISTILLED, *store.names()})
        models = tuple(name for name in names if engine.find(store, name))
    except EngineUnavailable as e:
        return EngineInfo(engine.name, True, version, problem=str(e), remedy=e.info.hint)
    return EngineInfo(engine.name, True, version, devices, models)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gpu_dispatch.worker.speech.report")
    parser.add_argument("--model-dir", type=Path, default=None, help="what GPUDROP_MODEL_DIR would be")
    store = ModelStore(model_dir=parser.parse_args().model_dir)
    found = {"engines": [asdict(info) for info in available_engines(store)], "vad": has_detector()}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
