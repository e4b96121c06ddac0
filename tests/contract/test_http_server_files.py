"""Strangers' connections leave the program the files that its own work needs, however many servers they reach."""

from __future__ import annotations

import asyncio
import contextlib
import sys

FILES = 200
PROGRAM = f"""
import asyncio, resource
from gpu_dispatch.net.server import HttpServer, ServerLimits
from aiohttp import web

async def answer(request):
    return web.Response()

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}))
    loop = asyncio.get_running_loop()
    for _ in range(2):
        server = HttpServer(answer, ServerLimits(header_timeout_s=600), lambda _: None)
        listening = await loop.create_server(server, "127.0.0.1", 0, backlog=1024)
        print(listening.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, input)
    own, deadline = [], loop.time() + 30
    while len(own) <= {FILES} // 4 and loop.time() < deadline:
        try:
            own.append(open("/dev/null"))
        except OSError:
            await asyncio.sleep(0.05)  # all that waited are accepted at once, and those that are too many closed then
    print(len(own), flush=True)

asyncio.run(main())
"""


async def test_two_servers_share_what_is_left() -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert program.stdin and program.stdout
    held: list[asyncio.StreamWriter] = []
    try:
        async with asyncio.timeout(60):
            ports = [int(await program.stdout.readline()) for _ in range(2)]
            for port in ports:
                for _ in range(FILES):
                    with contextlib.suppress(OSError):
                        held.append((await asyncio.open_connection("127.0.0.1", port))[1])
            program.stdin.write(b"\n")
            left = int(await program.stdout.readline())
    finally:
        for writer in held:
            writer.close()
        program.stdin.close()
        await program.wait()
    assert left > FILES // 4
