"""Templates and endpoints as RunPod's management API writes them."""

from typing import Any

import pytest

from gpu_dispatch.runpod import account
from gpu_dispatch.runpod.account import Container, EndpointSettings
from listener.deploy import wire
from manifests.errors import EndpointUnavailable

ENDPOINT: dict[str, Any] = {
    "id": "4m7x2k9q",
    "name": "gpudrop-whisper",
    "type": "QUEUE",
    "requestUrls": {"run": "https://api.runpod.ai/v2/4m7x2k9q/run"},
    "image": "me/whisper:1",
    "args": "",
    "disk": 20,
    "ports": [],
    "env": {"MODEL": "turbo"},
    "registry": None,
    "gpu": {"pools": ["ADA_24", "AMPERE_24"], "count": 1, "allowedCudaVersions": [], "minCudaVersion": None},
    "workers": {"min": 0, "max": 5, "idleTimeout": 5},
    "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
    "dataCenterIds": ["US-KS-2"],
    "networkVolumes": ["2q9m7x4c"],
    "timeout": 300000,
    "flashboot": "FLASHBOOT",
    "createdAt": "2026-06-01T12:00:00Z",
}
SETTINGS = EndpointSettings(
    name="gpudrop-whisper",
    container=Container("me/whisper:1", 20, {"MODEL": "turbo"}),
    pools=("ADA_24", "AMPERE_24"),
    excluded=frozenset(),
    workers_min=0,
    workers_max=5,
    idle_s=5,
    queue_delay_s=4.0,
    flashboot=True,
    volumes=frozenset({"2q9m7x4c"}),
    timeout_ms=300_000,
)


def test_a_documented_endpoint_is_read_whole() -> None:
    read = account.endpoint(ENDPOINT)
    assert (read.id, read.settings, read.queue, read.gpu) == ("4m7x2k9q", SETTINGS, True, True)


def test_what_is_read_is_what_would_be_written() -> None:
    body = wire.new_endpoint(SETTINGS, "tpl")
    assert body == {
        "name": "gpudrop-whisper",
        "type": "QUEUE",
        "templateId": "tpl",
        "gpu": {"pools": ["ADA_24", "AMPERE_24"], "count": 1},
        **{name: ENDPOINT[name] for name in ("workers", "scaling", "networkVolumes", "timeout", "flashboot")},
    }
    template = wire.new_template(SETTINGS.name, SETTINGS.container)
    names = ("image", "disk", "ports", "env", "registry")
    assert {name: template[name] for name in names} == {name: ENDPOINT[name] for name in names}
    assert account.template({"id": "tpl", **template}).container == SETTINGS.container


@pytest.mark.parametrize(
    ("odd", "what"),
    [
        ({"type": "LOAD_BALANCER", "scaling": {"type": "REQUEST_COUNT", "requestCount": 4}}, "balancer"),
        ({"gpu": None, "cpu": [{"id": "cpu5c", "vcpuCount": 4, "memory": 16}]}, "cpu"),
        ({"env": None, "ports": None, "networkVolumes": None, "workers": {"min": 0, "max": 1}}, "nulls"),
        ({"something": {"new": 1}}, "new"),
    ],
)
def test_endpoints_of_other_kinds_and_later_days_can_be_read(odd: dict[str, Any], what: str) -> None:
    read = account.endpoint(ENDPOINT | odd)
    assert read.queue is (what != "balancer") and read.gpu is (what != "cpu")
    assert (read.settings.queue_delay_s is None) is (what == "balancer")
    assert (read.settings.idle_s is None) is (what == "nulls")


@pytest.mark.parametrize("data", [None, [], {}, {"endpoints": {}}, {"endpoints": [{"name": "x"}]}, {"endpoints": [1]}])
def test_what_is_no_list_of_endpoints_is_refused_without_repeating_it(data: Any) -> None:
    with pytest.raises(EndpointUnavailable) as e:
        account.endpoints(data)
    assert not e.value.retryable and e.value.__cause__ is None


def test_a_value_of_the_environment_is_not_repeated_in_an_error() -> None:
    with pytest.raises(EndpointUnavailable) as e:
        account.endpoints({"endpoints": [ENDPOINT | {"env": {"A_TOKEN": ["hf_secret"]}}]})
    assert "hf_secret" not in f"{e.value} {e.value.info}" and "env" in str(e.value)


def test_a_problem_is_told_with_every_error() -> None:
    said = {"title": "Unprocessable Entity", "status": 422, "detail": "failed", "errors": ["a: wrong", "b: missing"]}
    assert str(account.problem(said)) == "failed; a: wrong; b: missing"
    assert str(account.problem({"title": "Not Found"})) == "Not Found"
    assert account.problem("<html>") is None
