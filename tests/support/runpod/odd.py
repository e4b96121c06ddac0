"""Our worker on RunPod with the operations of `support.odd_worker`: the real one in everything but what it does."""

import asyncio
import os

from gpu_dispatch.worker.__main__ import lead_group, serve
from gpu_dispatch.worker.environment import settings_from, start_logging
from support.odd_worker import odd


async def idle() -> None:
    """Its operations leave no threads behind."""
    await asyncio.sleep(0)


if __name__ == "__main__":
    start_logging()
    lead_group()
    serve(odd, settings_from(os.environ), idle=idle)
