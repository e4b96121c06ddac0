"""The provider as a process of its own, for benchmarks: `PYTHONPATH=tests python -m support.runpod.serve --after 2`.

Prints one line of JSON: url, api_key, endpoint. A line on stdin is answered with one line of counts: jobs, completed,
paid (executions), calls by operation, limited (answered 429). The end of stdin ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from typing import Any

from gpu_dispatch.task import GpuResult, VideoFile, Videos
from gpu_dispatch.wire import result_to_wire
from support.runpod.jobs import Auto, Job
from support.runpod.queue import DOCUMENTED_LIMITS, Provider, provider


def finished(job: Job) -> Any:
    """What our worker answers for whatever task it was: the outputs it was asked for, made of nothing."""
    task = job.input.get("task") or {}
    files = tuple(VideoFile(output["name"], 1000, 1.0, 1920, 1080, 24) for output in task.get("outputs", ()))
    result = GpuResult(str(task.get("task_id", "")), payload=Videos(files, "h264_nvenc"))
    return {"result": result_to_wire(result)}


def counts(serving: Provider) -> dict[str, Any]:
    jobs = [job for endpoint in serving.endpoints.values() for job in endpoint.jobs.values()]
    return {
        "jobs": len(jobs),
        "completed": sum(job.status == "COMPLETED" for job in jobs),
        "paid": sum(job.taken for job in jobs),
        "calls": dict(Counter(call.op for call in serving.calls)),
        "limited": serving.limited,
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", default="load", help="the id of the endpoint")
    parser.add_argument("--after", type=float, default=2.0, help="seconds a job runs")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds a job is queued")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--limits", action="store_true", help="answer 429 beyond the provider's documented limits")
    asked = parser.parse_args()
    async with provider(port=asked.port) as serving:
        serving.limits = DOCUMENTED_LIMITS if asked.limits else {}
        serving.endpoint(asked.endpoint, auto=Auto(asked.after, finished, asked.delay))
        say({"url": serving.url, "api_key": serving.api_key, "endpoint": asked.endpoint})
        while await asyncio.to_thread(sys.stdin.readline):
            say(counts(serving))


def say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
