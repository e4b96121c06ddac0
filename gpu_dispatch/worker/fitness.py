"""Checks before the first job that this machine can do what its image is for.

    python -m gpu_dispatch.worker.fitness     # by hand: a line a check, exit code 1 when one fails

GPUDROP_REQUIRE_NVENC: encodes one frame with NVENC. GPUDROP_WARM_MODEL: loads that model and transcribes a second of
sound on the device; the model stays loaded for the first job.
"""

from __future__ import annotations

import array
import asyncio
import math
import os
import sys
import tempfile
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from gpu_dispatch.task import TranscribeParams
from gpu_dispatch.transcript import Transcript
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.environment import WorkerSettings, settings_from
from gpu_dispatch.worker.operations import Operations
from manifests.errors import EngineUnavailable, GpuDropError

CHECK_S = 300.0
"""Timeout of a check; most of it is for loading a large model from a slow disk."""

Check = Callable[[], Awaitable[None]]

_RATE = 16_000
_TONE = "tone.wav"


def checks_of(settings: WorkerSettings, operations: Operations) -> tuple[Check, ...]:
    """Returns the checks that the SDK runs before the first job, on the `operations` that the jobs use.

    A check raises GpuDropError with a one-line message that includes the remedy.
    """
    model = settings.warm_model

    async def nvenc() -> None:
        await _in_time("NVENC", check_nvenc(operations))

    async def whisper() -> None:
        await _in_time(f"the model {model}", check_whisper(operations, settings.operations.work_root, model or ""))

    found: list[Check] = []
    if settings.require_nvenc:
        found.append(nvenc)
    if model and "whisper" in settings.capabilities:
        found.append(whisper)
    return tuple(found)


async def check_nvenc(operations: Operations) -> None:
    """Encodes one frame. Raises EngineUnavailable."""
    choice = await operations.encoder()
    if choice.name != "h264_nvenc":
        raise EngineUnavailable(
            f"NVENC does not work here: {choice.reason}. Use a GPU that has it (no A100, H100, H200 or B200), with "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video."
        )


async def check_whisper(operations: Operations, work_root: Path, model: str) -> None:
    """Recognises a second of sound with `model`. Raises what transcribing raises."""
    with tempfile.TemporaryDirectory(prefix="fitness-", dir=work_root) as folder:
        await asyncio.to_thread(_write_tone, Path(folder) / _TONE)
        params = TranscribeParams(
            audio=_TONE, model=model, language="en", temperature=(0.0,), beam_size=1, vad=False, word_timestamps=False
        )
        heard = await operations(params, JobContext(Path(folder), lambda _: None))
    assert isinstance(heard, Transcript)


async def _in_time(what: str, check: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(CHECK_S):
            await check
    except TimeoutError as e:
        raise EngineUnavailable(f"Trying {what} took longer than {CHECK_S:.0f} seconds.") from e
    except GpuDropError as e:
        # The SDK prints only an error's text.
        raise type(e)(f"{e} {e.info.hint}".strip()) from e


def _write_tone(path: Path) -> None:
    """Writes one second of 440 Hz, mono."""
    samples = array.array("h", (round(8000 * math.sin(2 * math.pi * 440 * i / _RATE)) for i in range(_RATE)))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(samples.tobytes())


async def _run_checks() -> int:
    settings = settings_from(os.environ)
    checks = checks_of(settings, Operations(settings.operations))
    for check in checks:
        name = getattr(check, "__name__", "check")
        try:
            await check()
        except GpuDropError as e:
            sys.stderr.write(f"{name}: {e}\n")
            return 1
        sys.stdout.write(f"{name}: good\n")
    if not checks:
        sys.stdout.write("Nothing to check: neither GPUDROP_REQUIRE_NVENC nor GPUDROP_WARM_MODEL is set.\n")
    return 0


def main() -> NoReturn:
    try:
        code = asyncio.run(_run_checks())
    except GpuDropError as e:
        sys.stderr.write(f"{e} {e.info.hint}\n")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # A model that hangs in a thread would block an ordinary exit.
    os._exit(code)


if __name__ == "__main__":
    main()
