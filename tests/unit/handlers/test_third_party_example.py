"""The example package, loaded from its place in the tree as an entry point would load it."""

import importlib.util
import io
import json
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import webvtt

from gpu_dispatch.task import GpuResult, TranscribeParams
from handlers.base import Link
from handlers.registry import GROUP, load_registry
from manifests.errors import NoSpeech
from manifests.reader import read_manifest
from support.transcripts import spoken, transcript

HERE = Path(__file__).parents[3] / "examples" / "third_party_handler"


@pytest.fixture
def registry(monkeypatch):
    spec = importlib.util.spec_from_file_location("gpudrop_podcast", HERE / "gpudrop_podcast.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpudrop_podcast", module)
    spec.loader.exec_module(module)
    declared = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
    return load_registry(lambda: [EntryPoint(name, value, GROUP) for name, value in declared.items()])


def test_a_manifest_becomes_notes_and_chapters(registry, planning):
    data = b"operation: podcast\naudio: ep.mp3\ntitle: Episode 12\nchapter_minutes: 1\n"
    manifest = read_manifest(data, "in/ep.job.yaml", models=registry.models)
    handler = registry.get("podcast")
    planned = planning(handler, manifest, name="ep")
    plan = handler.plan(planned)
    assert plan.tasks[0].params == TranscribeParams(audio="audio")
    said = [spoken(f"Part {i} --> is about <things> & more of them.", i * 20.0 + (5 if i > 3 else 0)) for i in range(7)]
    finished = handler.finish(planned, plan, (GpuResult("t", transcript(*said, duration=140.0)),))
    files = {output.key: output.data.decode() for output in finished.outputs}
    assert list(files) == ["out/ep.md", "out/ep.chapters.vtt", "out/ep.chapters.json"]
    assert files["out/ep.md"].startswith("# Episode 12\n\n- 00:00:00 Part 0")
    chapters = webvtt.from_buffer(io.StringIO(files["out/ep.chapters.vtt"])).captions
    assert [c.start for c in chapters] == ["00:00:00.000", "00:01:25.000"]
    assert [c["startTime"] for c in json.loads(files["out/ep.chapters.json"])["chapters"]] == [0.0, 85.0]
    assert finished.response["files"]["md"] == Link("out/ep.md")
    assert finished.stats["chapters"] == 2


def test_silence_is_an_error_of_the_project(registry, planning):
    handler = registry.get("podcast")
    planned = planning(
        handler, read_manifest(b"operation: podcast\naudio: ep.mp3", "ep.job.yaml", models=registry.models)
    )
    with pytest.raises(NoSpeech):
        handler.finish(planned, handler.plan(planned), (GpuResult("t", transcript()),))
