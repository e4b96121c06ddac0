"""`gpudrop deploy` and `gpudrop endpoints` as a user runs them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.deadlines import HANG_S
from support.deployments import Room, whisper
from support.runpod.management import API_KEY, account


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async with account() as managed:
        yield Room(managed)


async def command(room: Room, folder: Path, *arguments: str, key: str = API_KEY, **more: str) -> tuple[int, str]:
    """A command as a user runs it: its exit code, and everything it printed."""
    file = folder / "config.yaml"
    file.write_text(json.dumps({"runpod": {"management": room.account.url}, "endpoints": [whisper()]}))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "listener", *arguments, "--config", str(file)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "GPUDROP_RUNPOD_API_KEY": key} | more,
    )
    out, _ = await asyncio.wait_for(process.communicate(), HANG_S)
    assert key not in out.decode()
    return process.returncode or 0, out.decode()


async def test_the_command_plans_applies_and_has_nothing_left_to_do(room: Room, tmp_path: Path) -> None:
    code, told = await command(room, tmp_path, "deploy")
    assert code == 0 and "Nothing was changed" in told and not room.account.endpoints
    code, told = await command(room, tmp_path, "deploy", "--apply", "--endpoint", "whisper")
    assert code == 0 and "done: make the endpoint" in told and len(room.account.endpoints) == 1
    code, told = await command(room, tmp_path, "deploy", "--apply")
    assert code == 0 and "nothing to do" in told and "done:" not in told


async def test_the_command_fails_in_words(room: Room, tmp_path: Path) -> None:
    code, told = await command(room, tmp_path, "deploy", "--apply", key="rpa_WRONGKEY")
    assert code == 1 and "endpoint_denied" in told and "Traceback" not in told
    code, told = await command(room, tmp_path, "endpoints", "purge", "whisper")
    assert code == 1 and "gpudrop deploy --apply" in told and "Traceback" not in told


async def test_a_netrc_does_not_displace_the_key(room: Room, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    code, told = await command(room, tmp_path, "deploy", NETRC=str(netrc))
    assert code == 0 and "Nothing was changed" in told


async def test_the_environments_proxy_is_used_unless_it_is_told_not_to(room: Room, tmp_path: Path) -> None:
    async with account() as proxy:
        address = proxy.url.removesuffix("/v2")
        code, _ = await command(room, tmp_path, "deploy", http_proxy=address)
        assert code == 0 and proxy.calls and not room.account.calls
        code, _ = await command(room, tmp_path, "deploy", http_proxy=address, no_proxy="127.0.0.1")
        assert code == 0 and room.account.calls
