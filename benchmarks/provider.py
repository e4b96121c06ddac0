"""The tests' RunPod as a process of its own: `provider.py AFTER_S` transcribes every job in AFTER_S, without a worker.

Prints one line of JSON: its url and key. Every line on stdin is answered with one: when each task was sent (seconds
since the epoch), and the calls by operation. The end of stdin ends it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from gpu_dispatch.task import GpuResult
from gpu_dispatch.transcript import Segment, Transcript
from gpu_dispatch.wire import result_to_wire
from support.runpod.jobs import Auto, Job
from support.runpod.queue import Provider, provider

_SPEECH = Transcript("en", 1.0, 1.0, (Segment(0, 0.0, 1.0, " Hello."),), "tiny", "faster-whisper", "cpu")


def transcribed(job: Job) -> Any:
    return {"result": result_to_wire(GpuResult(str(job.input["task"]["task_id"]), _SPEECH, execution_ms=1000))}


def told(serving: Provider) -> dict[str, Any]:
    sent: dict[str, float] = {}
    for call in serving.calls:
        if call.op == "run" and call.answered == 200:
            sent.setdefault(call.body["input"]["task"]["task_id"], call.at)
    return {"sent": sent, "calls": Counter(call.op for call in serving.calls)}


async def main(after_s: float) -> None:
    async with provider() as serving:
        serving.endpoint("bench", auto=Auto(after_s, transcribed))
        say({"url": serving.url, "key": serving.api_key})
        while await asyncio.to_thread(sys.stdin.readline):
            say(told(serving))


def say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
