"""What RunPod refuses `gpudrop deploy`, told in words."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from manifests.errors import ConfigError, EndpointDenied, EndpointUnavailable, GpuDropError
from support.deployments import SECRET, Room, whisper
from support.runpod.faults import Fault, failing, html, reset, too_many
from support.runpod.management import account


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    async with account() as managed:
        yield Room(managed)


def refusal(status: int, detail: str = "no") -> Fault:
    return Fault(status, f'{{"title": "t", "status": {status}, "detail": "{detail}"}}')


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (refusal(401), EndpointDenied, "does not accept the API key"),
        (refusal(403, "access denied"), EndpointDenied, "access denied"),
        (html(403), EndpointDenied, "403"),
        (refusal(400, "pools and cpu"), ConfigError, "pools and cpu"),
        (refusal(404, "template not found"), ConfigError, "template not found"),
        (refusal(409), ConfigError, "409"),
        (refusal(422, "bad disk"), ConfigError, "bad disk"),
        (too_many("12"), EndpointUnavailable, "429"),
        (failing(503), EndpointUnavailable, "503"),
        (html(200), EndpointUnavailable, "not JSON"),
        (Fault(200, "[1]"), EndpointUnavailable, "form that is not known"),
        (reset(), EndpointUnavailable, "cannot be reached"),
    ],
    ids=lambda value: getattr(value, "__name__", "") or f"{getattr(value, 'status', value)}",
)
async def test_refusals_are_told_in_words(room: Room, fault: Fault, kind: type[GpuDropError], told: str) -> None:
    room.account.faults.on("GET /serverless", fault, times=None)
    _, error = await room.attempt()
    assert type(error) is kind and told in str(error) and error.info.hint
    assert room.account.written == []


async def test_a_wrong_key_and_no_key_are_told_apart(room: Room) -> None:
    room.key = "rpa_WRONG"
    _, error = await room.attempt()
    assert isinstance(error, EndpointDenied) and "does not accept" in str(error)
    room.key = ""
    _, error = await room.attempt()
    assert isinstance(error, EndpointDenied) and "no key" in str(error) and "GPUDROP_RUNPOD_API_KEY" in error.info.hint


async def test_what_runpod_finds_wrong_is_told_without_the_secret_it_repeats(room: Room) -> None:
    room.account.add_template("gpudrop-whisper")
    room.account.add_endpoint("gpudrop-whisper")
    _, error = await room.attempt(room.config(whisper(env={"A-TOKEN": SECRET})))
    assert isinstance(error, ConfigError) and "A-TOKEN=(hidden) is not a valid variable" in str(error)


async def test_a_volume_that_is_not_there_is_told(room: Room) -> None:
    told, error = await room.attempt(room.config(whisper(volume="gone")))
    assert isinstance(error, ConfigError) and "gone not found" in str(error) and "volume" in error.info.hint
    assert "failed: make the endpoint" in told


async def test_a_setting_that_runpod_does_not_keep_is_told(room: Room) -> None:
    await room.deploy()
    (document,) = room.account.endpoints.values()
    kept = Fault(200, json.dumps(document))
    room.account.faults.on("PATCH /serverless", kept)
    told = await room.deploy(room.config(whisper(workers={"max": 50})))
    assert "RunPod keeps workers.max 3, though it was told 50" in told


async def test_nobody_there_is_told_without_the_key(room: Room, unused_tcp_port_factory: Callable[[], int]) -> None:
    config = room.config(management=f"http://127.0.0.1:{unused_tcp_port_factory()}/v2")
    _, error = await room.attempt(config)
    assert isinstance(error, EndpointUnavailable) and "cannot be reached" in str(error)


async def test_a_proxys_password_is_not_told(room: Room, unused_tcp_port_factory: Callable[[], int]) -> None:
    proxy = f"http://me:proxyword@127.0.0.1:{unused_tcp_port_factory()}"
    told, error = await room.attempt(room.config(proxy=proxy))
    assert isinstance(error, EndpointUnavailable) and "proxyword" not in f"{told}{error}{error.info}"


async def test_certificates_that_cannot_be_read_are_told(room: Room, tmp_path: Path) -> None:
    _, error = await room.attempt(room.config(ca_file=str(tmp_path / "none.pem")))
    assert isinstance(error, ConfigError) and "none.pem" in str(error)
