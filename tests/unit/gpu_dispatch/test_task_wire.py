"""Tasks as they go over the wire and are recorded: today's and those of an earlier version are read by either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from gpu_dispatch.task import AddAudioParams, CaptionParams, GpuTask, Img2VidParams, TranscribeParams
from gpu_dispatch.transfer.limits import TransferLimits
from gpu_dispatch.wire import task_from_wire, task_to_wire
from gpu_dispatch.worker.request import task_of
from handlers.base import Input, Plan, Planning
from handlers.registry import load_registry
from listener.dispatch.request import JobRequest
from manifests.errors import TaskRefused
from manifests.models import MODELS, AddAudio, Caption, Img2Vid, Transcribe
from manifests.options import (
    AudioMix,
    CaptionStyle,
    ImageMotion,
    Options,
    RawPcm,
    RecognitionOptions,
    SoundSource,
    SubtitleOptions,
    VideoEncoding,
)
from manifests.reader import read_manifest
from manifests.references import ObjectRef

EARLIER: dict[str, Any] = json.loads((Path(__file__).parents[2] / "support" / "earlier_tasks.json").read_text("utf-8"))
"""By manifest: what an earlier version planned for it, sent to a worker and recorded of its steps."""

SUBTITLES = "1\n00:00:00,500 --> 00:00:02,000\nOlá {você}\n".encode()
PLAN, REQUEST = TypeAdapter(Plan), TypeAdapter(JobRequest)
earlier = pytest.mark.parametrize("kept", EARLIER.values(), ids=EARLIER.keys())


def holds(newer: Any, older: Any) -> bool:
    """Whether all that `older` says stands in `newer`, too."""
    if isinstance(older, dict):
        return isinstance(newer, dict) and all(name in newer and holds(newer[name], older[name]) for name in older)
    if isinstance(older, list):
        return len(newer) == len(older) and all(map(holds, newer, older))
    return newer == older


def test_every_operation_was_kept() -> None:
    assert {kept["task"]["params"]["operation"] for kept in EARLIER.values()} == set(MODELS)


@earlier
def test_earlier_tasks_and_records_read_and_nothing_is_lost(kept: Any) -> None:
    task = task_from_wire(kept["task"])
    assert task.params == PLAN.validate_python(kept["plan"]).tasks[0].params
    assert task.params == REQUEST.validate_python(kept["request"]).task.params
    assert holds(json.loads(json.dumps(task_to_wire(task))), kept["task"])
    assert holds(PLAN.dump_python(PLAN.validate_python(kept["plan"]), mode="json"), kept["plan"])
    assert holds(REQUEST.dump_python(REQUEST.validate_python(kept["request"]), mode="json"), kept["request"])


@earlier
def test_todays_handlers_plan_what_earlier_workers_read(kept: Any) -> None:
    manifest: Any = read_manifest(json.dumps(kept["manifest"]).encode(), "in/talk.job.json")
    handler = load_registry(lambda: ()).get(manifest.operation)
    inputs = {
        reference.role: Input(ObjectRef("media", f"in/{reference.text}"), 1000, SUBTITLES if reference.read else None)
        for reference in handler.references(manifest)
    }
    plan = handler.plan(Planning(manifest, "talk", "media", "out/", inputs))
    planned, before = PLAN.dump_python(plan, mode="json")["tasks"], kept["plan"]["tasks"]
    for task in (*planned, *before):
        task["params"].pop("layouts", None)  # a document of ours, which may be written otherwise
    assert holds(planned, before)


@earlier
def test_what_a_newer_listener_adds_is_left_out(kept: Any) -> None:
    newer = {**kept["task"], "later": 1, "params": {**kept["task"]["params"], "also_later": {"x": 1}}}
    assert task_from_wire(newer) == task_from_wire(kept["task"])


@pytest.mark.parametrize(
    ("operation", "option", "value"),
    [("transcribe", "beam_size", 33), ("transcribe", "engine", "deaf"), ("caption", "quality", 52),
     ("img2vid", "width", 641), ("addaudio", "offset_s", -3601)],
)  # fmt: skip
async def test_a_value_beyond_its_limits_is_refused_by_name(operation: str, option: str, value: Any) -> None:
    wire = next(kept["task"] for kept in EARLIER.values() if kept["task"]["params"]["operation"] == operation)
    asked = {"task": {**wire, "params": {**wire["params"], option: value}}}
    with pytest.raises(TaskRefused) as caught:
        await task_of(asked, TransferLimits())
    assert caught.value.info.where == f"params.{operation}.{option}"


@pytest.mark.parametrize(
    ("manifest", "params", "both", "manifest_alone"),
    [
        (Transcribe, TranscribeParams, (RecognitionOptions, SoundSource), (SubtitleOptions,)),
        (Caption, CaptionParams, (VideoEncoding,), (CaptionStyle,)),
        (Img2Vid, Img2VidParams, (ImageMotion, VideoEncoding), ()),
        (AddAudio, AddAudioParams, (AudioMix, VideoEncoding), ()),
    ],
)
def test_options_stand_in_one_place(manifest: Any, params: Any, both: Any, manifest_alone: Any) -> None:
    """What a type takes is in the manifest and in the task, and neither says it again."""
    for kind in both:
        assert issubclass(manifest, kind) and issubclass(params, kind)
    assert {kind for kind in manifest.__mro__ if kind in Options.__subclasses__()} == {*both, *manifest_alone}
    assert not params.__annotations__.keys() & {name for kind in both for name in kind.model_fields}


def test_parameters_made_here_are_read_there() -> None:
    for params in (
        TranscribeParams(audio="a", beam_size=2),
        TranscribeParams(audio="a", track="pt-BR", pcm=RawPcm(rate=8000, format="alaw")),
        CaptionParams(video="v", output="o", soft_srt="", quality=1),
        Img2VidParams(clips=(), fps=12),
        AddAudioParams(video="v", audio="a", output="o", offset=-2.5),
    ):
        task = GpuTask("t", params, ())
        assert task_from_wire(json.loads(json.dumps(task_to_wire(task)))) == task
