"""`gpudrop endpoints`: the table, and taking back what waits."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from listener.cli.endpoints import purge_endpoint, show_endpoints
from listener.config.config import Config
from listener.config.environment import read_environment
from listener.config.loader import parse_config
from listener.config.state import state_of
from listener.ledger.database import Database
from listener.ledger.jobs import JobLedger
from manifests.errors import ConfigError, EndpointDenied
from support.jobs import ANYTHING, job
from support.runpod.faults import Fault
from support.runpod.management import API_KEY, ManagedAccount, account
from support.runpod.queue import Provider, provider

ENVIRONMENT = read_environment({"RUNPOD_API_KEY": API_KEY})
DEPLOY = {"image": "me/whisper:1", "gpus": ["ADA_24"]}


class Room:
    def __init__(self, managed: ManagedAccount, queue: Provider, state: Path) -> None:
        self.account, self.queue, self.state = managed, queue, state
        self.out = io.StringIO()
        self.console = Console(file=self.out, width=200, highlight=False)

    def config(self, *endpoints: dict[str, Any]) -> Config:
        runpod = {"management": self.account.url, "api": self.queue.url}
        data = {"state": str(self.state), "runpod": runpod, "endpoints": endpoints}
        return parse_config(data, origin="config.yaml")

    def there(self, name: str) -> str:
        id = self.account.add_endpoint(name)
        self.queue.endpoint(id)
        return id

    def waiting(self, id: str, count: int) -> None:
        for _ in range(count):
            self.queue.endpoints[id].submit({"input": {}})

    async def purge(self, name: str, *, sure: bool) -> int:
        config = self.config({"kind": "local"}, runpod())
        return await purge_endpoint(
            config, ENVIRONMENT, self.console, name, sure=lambda question: self.asked(question, sure)
        )

    def asked(self, question: str, answer: bool) -> bool:
        print(question, file=self.out)
        return answer


def runpod(**more: Any) -> dict[str, Any]:
    return {"kind": "runpod", "name": "e", "capabilities": ["whisper"], "deploy": DEPLOY} | more


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with account() as managed, provider(api_key=API_KEY) as queue:
        yield Room(managed, queue, tmp_path)


async def test_every_endpoint_is_shown_with_its_jobs_workers_price_and_trouble(room: Room) -> None:
    well, ill = room.there("gpudrop-well"), room.there("gpudrop-ill -fb")
    room.queue.endpoints[well].health_workers = {"idle": 1, "ready": 1}
    room.account.endpoints[ill]["workers"]["max"] = 0
    config = room.config(
        {"kind": "local"},
        runpod(name="well", order=1, concurrency=7),
        runpod(name="ill", capabilities=["whisper", "nvenc"], price=0.5),
    )
    database = Database(state_of(config).ledger_url)
    await database.open()
    ledger = JobLedger(database, lambda: 1.0)
    for entry in ("a", "b"):
        assert await ledger.reserve(job(entry, endpoint="well"), ANYTHING) is None
    await database.close()
    assert await show_endpoints(config, ENVIRONMENT, room.console) == 1
    lines = {line.split()[0]: line for line in room.out.getvalue().splitlines() if line.strip()}
    assert "slots: 1 whisper, 1 nvenc" in lines["local"]
    for told in ("2 of 7", "0-3", "0.00031", "1 idle"):
        assert told in lines["well"]
    for told in ("whisper, nvenc", "0-0", "0.5", "max workers is 0"):
        assert told in lines["ill"]


async def test_this_machine_alone_needs_no_key(room: Room) -> None:
    assert await show_endpoints(room.config({"kind": "local"}), read_environment({}), room.console) == 0
    assert room.account.calls == []


async def test_waiting_jobs_are_taken_back_once_somebody_is_sure(room: Room) -> None:
    id = room.there("gpudrop-e")
    room.waiting(id, 3)
    assert await room.purge("e", sure=False) == 1
    assert "3 waiting jobs" in room.out.getvalue() and "Nothing was taken back" in room.out.getvalue()
    assert room.queue.of("purge-queue") == []
    assert await room.purge("e", sure=True) == 0
    assert room.queue.endpoints[id].health()["jobs"]["inQueue"] == 0
    assert "3 waiting jobs of e taken back" in room.out.getvalue() and "gpudrop cancel" in room.out.getvalue()


async def test_an_empty_queue_is_left_alone(room: Room) -> None:
    room.there("gpudrop-e")
    assert await room.purge("e", sure=True) == 0
    assert "No job waits" in room.out.getvalue() and room.queue.of("purge-queue") == []


async def test_only_runpod_endpoints_have_a_queue_to_take_back(room: Room) -> None:
    for name in ("local", "nobody"):
        with pytest.raises(ConfigError, match=name) as e:
            await room.purge(name, sure=True)
        assert "e" in e.value.info.hint


async def test_a_refusal_is_told(room: Room) -> None:
    id = room.there("gpudrop-e")
    room.waiting(id, 1)
    room.queue.faults.on("purge-queue", Fault(403, "{}"))
    with pytest.raises(EndpointDenied):
        await room.purge("e", sure=True)
    assert "taken back;" not in room.out.getvalue()
