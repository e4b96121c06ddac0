"""RunPod's Hub: its files have the shape its documentation gives them, and ask for what our image has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, HttpUrl
from pydantic.alias_generators import to_camel

from gpu_dispatch.task import GpuTask, TranscribeParams
from gpu_dispatch.wire import task_from_wire
from gpu_dispatch.worker.environment import settings_from
from support.scripts import ROOT

WHISPER = (ROOT / "docker/whisper.Dockerfile").read_text("utf-8")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, strict=True)


class Option(Strict):
    label: str
    value: str


class Input(Strict):
    name: str
    type: str = Field(pattern="^(string|number|boolean|huggingface)$")
    description: str = ""
    default: str | int | bool | None = None
    required: bool = False
    advanced: bool = False
    options: list[Option] | None = None
    min: int | None = None
    max: int | None = None
    true_value: str | None = None
    false_value: str | None = None


class Variable(Strict):
    key: str = Field(pattern="^[A-Z][A-Z0-9_]*$")
    value: str | None = None
    input: Input | None = None


class Preset(Strict):
    name: str
    defaults: dict[str, str | int | bool]


class HubConfig(Strict):
    runs_on: str = Field(pattern="^(GPU|CPU)$")
    container_disk_in_gb: int
    gpu_count: int
    gpu_ids: str
    allowed_cuda_versions: list[str]
    env: list[Variable] = []
    presets: list[Preset] = []


class Hub(Strict):
    """RunPod's page "Publishing guide" of the Hub describes it."""

    title: str
    description: str
    type: str = Field(pattern="^serverless$")
    category: str = Field(pattern="^(audio|embedding|language|video|image)$")
    icon_url: HttpUrl | None = None
    config: HubConfig


class HubTest(Strict):
    name: str
    input: dict[str, Any]
    timeout: int


class TestMachine(Strict):
    __test__ = False
    gpu_type_id: str
    gpu_count: int
    env: list[Variable] = []
    allowed_cuda_versions: list[str]


class HubTests(Strict):
    tests: list[HubTest] = Field(min_length=1)
    config: TestMachine


def hub() -> Hub:
    return Hub.model_validate_json((ROOT / ".runpod/hub.json").read_text("utf-8"))


def test_the_hubs_listing_has_the_documented_shape() -> None:
    config = hub().config
    pools = {"AMPERE_16", "AMPERE_24", "ADA_24", "AMPERE_48", "ADA_48_PRO", "AMPERE_80", "ADA_80_PRO", "HOPPER_141"}
    assert set(config.gpu_ids.split(",")) <= pools
    keys = {variable.key for variable in config.env}
    for preset in config.presets:
        assert set(preset.defaults) <= keys


def test_the_hub_offers_only_variables_that_the_worker_reads(tmp_path: Path) -> None:
    for variable in hub().config.env:
        assert variable.input is not None
        given = variable.input.options or [Option(label="on", value=variable.input.true_value or "")]
        for option in given:
            environ = {variable.key: option.value, "GPUDROP_WORK_ROOT": str(tmp_path)}
            assert settings_from(environ) != settings_from({"GPUDROP_WORK_ROOT": str(tmp_path)}), variable.key


def test_the_hubs_tests_are_tasks_that_our_worker_takes() -> None:
    found = HubTests.model_validate_json((ROOT / ".runpod/tests.json").read_text("utf-8"))
    for test in found.tests:
        task = task_from_wire(test.input["task"])
        assert isinstance(task, GpuTask)
        assert isinstance(task.params, TranscribeParams)
        assert task.params.audio in {given.name for given in task.inputs}
        assert f"/{task.params.model}/model.bin" in WHISPER, "the model is not in the image"
        assert task.timeout_s * 1000 < test.timeout


def test_the_hub_finds_what_it_looks_for() -> None:
    folder = ROOT / ".runpod"
    assert (folder / "Dockerfile").read_text("utf-8") == WHISPER, "run: cp docker/whisper.Dockerfile .runpod/Dockerfile"
    assert "gpu_dispatch.worker.__main__ import main" in (folder / "handler.py").read_text("utf-8")
    assert (folder / "README.md").is_file()
