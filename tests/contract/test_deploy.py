"""`gpudrop deploy` against a server that keeps templates and endpoints as RunPod's management API does."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from listener.app.inspection import find_endpoint_ids
from listener.config.config import Config
from manifests.errors import ConfigError, EndpointUnavailable
from support.deployments import SECRET, Room, whisper
from support.runpod.faults import Fault, failing, html, reset, reset_mid_body
from support.runpod.management import API_KEY, account


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async with account() as managed:
        yield Room(managed)


async def test_a_plan_changes_nothing(room: Room) -> None:
    told = await room.deploy(apply=False)
    assert "+ make the template gpudrop-whisper" in told and "+ make the endpoint gpudrop-whisper" in told
    assert "--apply" in told
    assert room.account.written == []


async def test_what_was_applied_is_there_and_stays_as_it_is(room: Room) -> None:
    config = room.config(
        whisper(
            gpus=["ADA_24", "AMPERE_24", "-NVIDIA L4"],
            workers={"min": 0, "max": 5, "idle_timeout": "30s"},
            container_disk_gb=40,
            env={"HF_TOKEN": "{{ RUNPOD_SECRET_hf }}", "MODEL": "turbo", "OTHER_TOKEN": SECRET},
            volume="vol1",
            registry_auth="reg1",
            queue_delay="8s",
        )
    )
    told = await room.deploy(config)
    (endpoint,) = room.account.endpoints.values()
    (template,) = room.account.templates.values()
    container = {
        "image": "me/whisper:1",
        "disk": 40,
        "env": {"HF_TOKEN": "{{ RUNPOD_SECRET_hf }}", "MODEL": "turbo", "OTHER_TOKEN": SECRET},
        "registry": "reg1",
        "ports": [],
    }
    assert template.items() >= container.items() and endpoint.items() >= container.items()
    assert (template["serverless"], template["public"], template["startSsh"]) == (True, False, False)
    assert endpoint["name"] == template["name"] == "gpudrop-whisper"
    assert endpoint["gpu"]["pools"] == ["ADA_24", "AMPERE_24"] and endpoint["gpu"]["excludedTypes"] == ["NVIDIA L4"]
    assert endpoint["workers"] == {"min": 0, "max": 5, "idleTimeout": 30}
    assert endpoint["scaling"] == {"type": "QUEUE_DELAY", "queueDelay": 8.0}
    assert (endpoint["flashboot"], endpoint["timeout"]) == ("FLASHBOOT", 3_600_000)
    assert endpoint["networkVolumes"] == ["vol1"]
    assert f"endpoint {endpoint['id']}, found by its name" in told
    written = len(room.account.written)
    again = await room.deploy(config)
    assert again.rstrip().splitlines()[-2] == "nothing to do"
    assert len(room.account.written) == written


CHANGED: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], Any], Any]] = {
    "image": ({"image": "me/whisper:2"}, lambda e: e["image"], "me/whisper:2"),
    "disk": ({"container_disk_gb": 60}, lambda e: e["disk"], 60),
    "env": ({"env": {"MODEL": "base"}}, lambda e: e["env"], {"MODEL": "base"}),
    "registry": ({"registry_auth": "reg1"}, lambda e: e["registry"], "reg1"),
    "gpus": ({"gpus": ["AMPERE_24"]}, lambda e: e["gpu"]["pools"], ["AMPERE_24"]),
    "workers": ({"workers": {"max": 9}}, lambda e: e["workers"], {"min": 0, "max": 9, "idleTimeout": 5}),
    "queue_delay": ({"queue_delay": 2}, lambda e: e["scaling"]["queueDelay"], 2.0),
    "flashboot": ({"flashboot": False}, lambda e: e["flashboot"], "OFF"),
    "volume": ({"volume": "vol1"}, lambda e: e["networkVolumes"], ["vol1"]),
}


@pytest.mark.parametrize("what", CHANGED)
async def test_one_changed_setting_is_one_change_and_can_be_taken_back(room: Room, what: str) -> None:
    deploy, read, wanted = CHANGED[what]
    await room.deploy()
    (id,) = room.account.endpoints
    before = read(room.account.endpoints[id])
    await room.deploy(room.config(whisper(**deploy)))
    assert read(room.account.endpoints[id]) == wanted
    (call,) = [each for each in room.account.written if each.op == "PATCH /serverless"]
    assert len(call.body) == 1
    assert "nothing to do" in await room.deploy(room.config(whisper(**deploy)))
    await room.deploy()
    assert read(room.account.endpoints[id]) == before
    assert list(room.account.endpoints) == [id] and len(room.account.templates) == 1


async def test_an_endpoint_reduced_after_idle_days_gets_its_workers_back(room: Room) -> None:
    await room.deploy()
    (endpoint,) = room.account.endpoints.values()
    endpoint["workers"] |= {"max": 0}
    assert "workers.max: 0 -> 3" in await room.deploy(apply=False)
    await room.deploy()
    assert next(iter(room.account.endpoints.values()))["workers"]["max"] == 3


async def test_foreign_endpoints_and_templates_stay_untouched(room: Room) -> None:
    room.account.add_endpoint("whisper", workers={"min": 0, "max": 1, "idleTimeout": 1})
    room.account.add_endpoint("gpudrop-another", type="LOAD_BALANCER", flashboot="PRIORITY_FLASHBOOT")
    room.account.add_endpoint("on a CPU", gpu=None, cpu=[{"id": "cpu5c", "vcpuCount": 4, "memory": 16}])
    room.account.add_template("pod things", serverless=False, env=None, something_new={"a": 1})
    before = repr(list(room.account.endpoints.values())[:3]), repr(list(room.account.templates.values())[:1])
    await room.deploy()
    await room.deploy(room.config(whisper(image="me/whisper:2")))
    assert (repr(list(room.account.endpoints.values())[:3]), repr(list(room.account.templates.values())[:1])) == before
    assert len(room.account.endpoints) == 4 and len(room.account.templates) == 2


async def test_an_endpoint_given_by_id_is_taken_over_with_its_name(room: Room) -> None:
    id = room.account.add_endpoint("old name -fb", flashboot="PRIORITY_FLASHBOOT")
    config = room.config(whisper() | {"id": id})
    await room.deploy(config)
    assert room.account.endpoints[id]["name"] == "old name -fb"
    assert room.account.endpoints[id]["image"] == "me/whisper:1"
    assert room.account.endpoints[id]["flashboot"] == "PRIORITY_FLASHBOOT", "that is FlashBoot, too"
    assert room.account.templates == {}
    assert "nothing to do" in await room.deploy(config)


async def test_one_endpoint_can_be_deployed_alone(room: Room) -> None:
    config = room.config(whisper("one"), whisper("two"))
    await room.deploy(config, only="two")
    assert [each["name"] for each in room.account.endpoints.values()] == ["gpudrop-two"]


async def test_an_apply_that_breaks_off_says_what_was_done_and_goes_on_from_there(room: Room) -> None:
    room.account.faults.on("POST /serverless", failing(500))
    config = room.config(whisper("one"), whisper("two"))
    told, error = await room.attempt(config)
    assert isinstance(error, EndpointUnavailable) and error.retryable
    assert "done: make the template gpudrop-one" in told and "Stopped after 1 of 4 steps" in told
    assert "failed: make the endpoint gpudrop-one" in told and "not begun: make the endpoint gpudrop-two" in told
    assert len(room.account.templates) == 1 and not room.account.endpoints
    await room.deploy(config)
    assert len(room.account.templates) == 2 and len(room.account.endpoints) == 2


@pytest.mark.parametrize("fault", [reset(taken=True), html(502, taken=True), reset_mid_body()], ids=repr)
async def test_an_endpoint_whose_answer_was_lost_is_not_made_twice(room: Room, fault: Fault) -> None:
    room.account.faults.on("POST /serverless", fault)
    _, error = await room.attempt()
    assert isinstance(error, EndpointUnavailable)
    assert "nothing to do" in await room.deploy()
    assert len(room.account.endpoints) == 1


async def test_endpoints_are_found_by_name_and_by_id(room: Room) -> None:
    config = room.config(whisper("one"), whisper("two") | {"id": "given"})
    with pytest.raises(ConfigError, match="one") as e:
        await find_endpoint_ids(config, API_KEY)
    assert "gpudrop deploy --apply" in e.value.info.hint and "two" not in str(e.value)
    id = room.account.add_endpoint("gpudrop-one -fb")
    assert await find_endpoint_ids(config, API_KEY) == {"one": id, "two": "given"}


async def test_nobody_is_asked_where_every_id_is_given(room: Room) -> None:
    config = room.config(whisper("two") | {"id": "given"})
    assert await find_endpoint_ids(config, "") == {"two": "given"}
    assert await find_endpoint_ids(Config(), "") == {}
    assert room.account.calls == []
