"""Dialects by their entry points: found by name, loaded when an endpoint speaks one, and told of when unusable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from gpu_dispatch.runpod.dialects.gpudrop import NAME as OURS
from gpu_dispatch.runpod.dialects.gpudrop import GpudropDialect
from gpu_dispatch.runpod.dialects.registry import dialect_registry, dialects
from listener.config.endpoints import RunPodEndpointConfig
from manifests.errors import ConfigError
from support.entry_points import Point

PUBLISHED = ("whisper-hub", "worker-faster_whisper")


class Other(GpudropDialect):
    name = "other"


def test_gpudrops_own_and_those_of_published_workers_are_there() -> None:
    assert dialects().names == (OURS, *PUBLISHED)
    assert [dialects().get(name).name for name in dialects().names] == list(dialects().names)


def test_a_package_adds_one() -> None:
    known = dialect_registry(lambda: [Point("other", Other)])
    assert known.names == (OURS, "other") and isinstance(known.get("other"), Other)
    assert known.get("other") is known.get("other")


def test_gpudrops_own_is_nobody_elses() -> None:
    assert type(dialect_registry(lambda: [Point(OURS, Other)]).get(OURS)) is GpudropDialect


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([Point("other", ImportError("no such module"))], "no such module"),
        ([Point("other", object)], "it lacks name"),
        ([Point("mine", Other)], "it calls itself 'other'"),
        ([Point("other", Other), Point("other", Other, "second:thing")], "second:thing"),
        ([], "There is no dialect"),
    ],
)
def test_one_that_cannot_be_used_says_why(points: list[Point], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        dialect_registry(lambda: points).get(points[0].name if points else "other")


def test_the_configuration_names_those_there_are() -> None:
    with pytest.raises(ValidationError, match="there are gpudrop, whisper-hub, worker-faster_whisper"):
        RunPodEndpointConfig(kind="runpod", name="e", id="e", capabilities=("whisper",), dialect="klingon")
    with pytest.raises(ValidationError, match=r"can only do `capabilities: \[whisper\]`"):
        RunPodEndpointConfig(kind="runpod", name="e", id="e", capabilities=("whisper", "nvenc"), dialect="whisper-hub")


def test_only_what_is_configured_is_loaded(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom listener.config.loader import load_config\n"
        "load_config(Path(sys.argv[1]))\n"
        "print([name for name in sorted(sys.modules) if 'whisper' in name])"
    )
    loaded: list[str] = []
    for dialect in (OURS, PUBLISHED[0]):
        endpoint = {"kind": "runpod", "name": "e", "id": "e", "capabilities": ["whisper"], "dialect": dialect}
        store = {"kind": "folder", "root": str(tmp_path)}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"store": store, "endpoints": [endpoint]}))
        run = [sys.executable, "-c", script, str(tmp_path / "config.yaml")]
        loaded.append(subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip())
    assert loaded == ["[]", "['gpu_dispatch.runpod.dialects.whisper_hub']"]
