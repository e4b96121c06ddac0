"""A handler of a few lines on the real SDK, for what is about the provider alone. `input.do` says what it does."""

import asyncio
import os
import signal
import subprocess
import time
from typing import Any

from gpu_dispatch.worker.sdk import load_sdk

serverless = load_sdk()


async def handler(job: dict[str, Any]) -> Any:
    asked: dict[str, Any] = job["input"]
    match asked.get("do"):
        case "sleep":
            serverless.progress_update(job, {"percent": 50, "stage": "sleep"})
            await asyncio.sleep(asked["seconds"])
        case "spawn":
            await asyncio.to_thread(subprocess.run, ["sleep", str(asked["seconds"])], check=False)
        case "block":
            time.sleep(asked["seconds"])
        case "raise":
            raise ValueError("a defect")
        case "fail":
            return {"error": "it is not so", "detail": 7}
        case "progress-last":
            serverless.progress_update(job, "too late")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case _:
            pass
    return {"echo": asked, "worker": os.environ["RUNPOD_POD_ID"]}


if __name__ == "__main__":
    at_once = int(os.environ.get("CONCURRENCY", "1"))
    serverless.start({"handler": handler, "concurrency_modifier": lambda _: at_once})
