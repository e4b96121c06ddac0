"""What `gpudrop check` says of RunPod endpoints, with a queue and a management API to ask."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from listener.cli.check_lines import CheckLine, endpoint_lines
from listener.config.config import Config
from listener.config.environment import read_environment
from listener.config.loader import parse_config
from support.runpod.faults import Fault, html
from support.runpod.management import API_KEY, ManagedAccount, account
from support.runpod.queue import Provider, provider

S3 = {"kind": "s3", "endpoint": "https://93.184.215.14", "buckets": "drop"}


@dataclass
class Room:
    account: ManagedAccount
    queue: Provider

    def config(self, *endpoints: dict[str, Any], **more: Any) -> Config:
        runpod = {"management": self.account.url, "api": self.queue.url}
        return parse_config({"store": S3, "runpod": runpod, "endpoints": endpoints} | more, origin="config.yaml")

    async def check(self, *endpoints: dict[str, Any], key: str = API_KEY, **more: Any) -> list[CheckLine]:
        environment = read_environment({"GPUDROP_RUNPOD_API_KEY": key})
        lines = [line async for line in endpoint_lines(self.config(*endpoints, **more), environment, settle_s=0.0)]
        assert all(line.detail and (line.remedy or line.ok is not False) for line in lines)
        assert not [line for line in lines if API_KEY in repr(line)]
        return lines

    def there(self, name: str = "gpudrop-e", *, health: dict[str, int] | None = None, **fields: Any) -> str:
        """An endpoint that is on RunPod, in both of its APIs."""
        id = self.account.add_endpoint(name, **fields)
        self.queue.endpoint(id).health_workers = health or {}
        return id


def runpod(**more: Any) -> dict[str, Any]:
    return {"kind": "runpod", "name": "e", "capabilities": ["whisper"], "gpu": "ADA_24"} | more


DEPLOY = {"image": "me/whisper:1", "gpus": ["ADA_24"]}


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async with account() as managed, provider(api_key=API_KEY) as queue:
        yield Room(managed, queue)


def of(lines: list[CheckLine], subject: str = "endpoint: e") -> list[tuple[bool | None, str]]:
    return [(line.ok, f"{line.detail} {line.remedy}") for line in lines if line.subject == subject]


async def test_without_runpod_endpoints_nothing_is_asked(room: Room) -> None:
    assert await room.check({"kind": "local"}, store={"kind": "folder"}) == []
    assert room.account.calls == [] and room.queue.calls == []


async def test_a_healthy_endpoint_is_found_by_name_or_id_and_told_with_its_counts(room: Room) -> None:
    id = room.there(health={"idle": 2, "ready": 2})
    for given in ({"deploy": DEPLOY}, {"id": id}):
        ((ok, told),) = of(await room.check(runpod(**given)))
        assert ok is True and id in told and "2 idle" in told


async def test_max_workers_lowered_to_nothing_is_trouble(room: Room) -> None:
    id = room.there(workers={"min": 0, "max": 0, "idleTimeout": 5})
    ((ok, told),) = of(await room.check(runpod(deploy=DEPLOY)))
    assert ok is False and "max workers is 0" in told and "7" in told and "gpudrop deploy --apply" in told
    ((ok, told),) = of(await room.check(runpod(id=id)))
    assert ok is False and "console" in told


async def test_max_workers_lowered_a_little_is_worth_knowing(room: Room) -> None:
    room.there(workers={"min": 0, "max": 2, "idleTimeout": 5})
    (first, (ok, told)) = of(await room.check(runpod(deploy=DEPLOY)))
    assert first[0] is True
    assert ok is None and "2, not 3" in told and "gpudrop deploy --apply" in told


@pytest.mark.parametrize(("health", "why"), [({"throttled": 3}, "throttled"), ({"unhealthy": 3}, "unhealthy")])
async def test_workers_in_trouble_are_told(room: Room, health: dict[str, int], why: str) -> None:
    id = room.there(health=health)
    room.queue.endpoints[id].health_body = {
        "jobs": {"inQueue": 1},
        "workers": {"idle": 0, "running": 0, "ready": 0, "initializing": 0} | health,
    }
    ((ok, told),) = of(await room.check(runpod(id=id)))
    assert ok is False and why in told


async def test_an_endpoint_that_is_not_made_yet_is_told(room: Room) -> None:
    ((ok, told),) = of(await room.check(runpod(deploy=DEPLOY)))
    assert ok is False and "not on RunPod yet" in told and "gpudrop deploy --apply" in told


async def test_an_id_that_nobody_has_is_told(room: Room) -> None:
    ((ok, told),) = of(await room.check(runpod(id="nobody")))
    assert ok is False and "no endpoint nobody" in told


async def test_a_refused_key_is_told(room: Room) -> None:
    ((ok, told),) = of(await room.check(runpod(deploy=DEPLOY), key="rpa_WRONG"))
    assert ok is False and "does not accept the API key" in told


async def test_no_key_is_told_once(room: Room) -> None:
    lines = await room.check(runpod(deploy=DEPLOY), runpod(name="f", deploy=DEPLOY), key="")
    assert [line.subject for line in lines if line.ok is False] == ["RunPod"]
    (line,) = [line for line in lines if line.ok is False]
    assert "e, f" in line.detail and "GPUDROP_RUNPOD_API_KEY" in line.remedy


@pytest.mark.parametrize("fault", [Fault(403, '{"title": "Forbidden", "status": 403, "detail": "no"}'), html(502)])
async def test_a_key_for_the_queue_alone_is_enough_where_the_id_is_given(room: Room, fault: Fault) -> None:
    id = room.there(health={"idle": 1})
    room.account.faults.on("GET /serverless", fault, times=None)
    assert of(await room.check(runpod(id=id)))[0][0] is True
    assert of(await room.check(runpod(deploy=DEPLOY)))[0][0] is False


async def test_nvenc_on_gpus_without_it_is_trouble_wherever_it_is_said(room: Room) -> None:
    blind = {"pools": ["AMPERE_80"], "count": 1}
    id = room.there(gpu=blind)
    lines = of(await room.check(runpod(id=id, capabilities=["nvenc"])))
    assert [ok for ok, _ in lines] == [False] and "AMPERE_80 (A100)" in lines[0][1] and "ADA_24" in lines[0][1]
    wanted = of(await room.check(runpod(id=id, capabilities=["nvenc"], gpu="HOPPER_141")))
    assert "HOPPER_141 (H200)" in wanted[0][1] and wanted[0][0] is False


async def test_an_unknown_price_is_worth_knowing(room: Room) -> None:
    id = room.there()
    lines = of(await room.check(runpod(id=id, gpu=None)))
    assert lines[0][0] is None and "count as 0" in lines[0][1]


async def test_a_job_that_may_outlive_its_ttl_is_worth_knowing(room: Room) -> None:
    id = room.there()
    lines = of(await room.check(runpod(id=id, timeout="2h", ttl="1h")))
    assert lines[0][0] is None and "ttl" in lines[0][1]


@pytest.mark.parametrize(
    ("store", "ok", "told"),
    [
        ({"kind": "folder"}, False, "kind s3"),
        (S3 | {"endpoint": "http://127.0.0.1:9000"}, False, "public_endpoint"),
        (S3 | {"endpoint": "http://minio:9000"}, False, "public_endpoint"),
        (S3 | {"endpoint": "http://10.1.2.3:9000"}, False, "public_endpoint"),
        (S3 | {"endpoint": "http://[::1]:9000"}, False, "public_endpoint"),
        (S3 | {"endpoint": "https://nas.local"}, False, "public_endpoint"),
        (S3 | {"endpoint": "https://93.184.215.14", "public_endpoint": "http://localhost:1"}, False, "localhost"),
        (S3 | {"endpoint": "http://10.1.2.3", "public_endpoint": "https://93.184.215.14"}, True, "public address"),
        (S3 | {"endpoint": "http://93.184.215.14"}, None, "not encrypted"),
        (S3 | {"endpoint": "https://nobody.invalid"}, None, "not found"),
    ],
)
async def test_the_store_must_be_where_workers_can_reach_it(
    room: Room, store: dict[str, Any], ok: bool | None, told: str
) -> None:
    room.there()
    ((found, said),) = of(await room.check(runpod(deploy=DEPLOY), store=store), "store for RunPod's workers")
    assert found is ok and told in said
