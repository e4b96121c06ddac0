"""The files of one job on two engines: they differ in words and times, never in form."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from gpu_dispatch.task import GpuResult, TranscribeParams
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.speech.models import ModelStore
from gpu_dispatch.worker.speech.transcribe import Transcriber
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, find_ffmpeg
from handlers.base import Finished, Input, Planning
from handlers.transcribe import TranscribeHandler
from manifests.models import SubtitleFormat, Transcribe
from manifests.references import ObjectRef
from support.deadlines import HANG_S
from support.media import Media
from support.speech import Speech

pytestmark = [pytest.mark.model, pytest.mark.openai]

ENGINES = ("faster-whisper", "openai-whisper")
FORMATS = get_args(SubtitleFormat)
HANDLER = TranscribeHandler()
CLOCK = r"\d\d:\d\d:\d\d[.,]\d{3}"
CENTI = r"\d{1,2}:\d\d(?::\d\d)?\.\d\d"
TIMING = rf"{CLOCK} --> {CLOCK}\n"
LINES = r"(?:[^\s\d<>{}\[][^<>{}\n]*\n){1,2}"
WORD = r"[^\s<>{}\[\]]+"
STAMPED = rf"(?:(?:<{CLOCK}>)?\s?(?:<{CLOCK}>)?<c>{WORD}</c>)+(?:<{CLOCK}>)?\n"
SUNG = rf"(?:\\N)?(?:\{{\\k\d+\}})?\{{\\kf\d+\}} ?{WORD}"
GRAMMARS: Mapping[str, str] = {
    "segments.srt": rf"(?:\d+\n{TIMING}{LINES}\n?)+",
    "segments.vtt": rf"WEBVTT\n(?:\n{TIMING}{LINES})+",
    "karaoke.vtt": rf"WEBVTT\n(?:\n{TIMING}{STAMPED})+",
    "karaoke.lrc": rf"\[length:{CENTI}\]\n(?:\[{CENTI}\](?:<{CENTI}>{WORD} ?)*(?:<{CENTI}>)?\n)+",
    "transcript.txt": r"(?:\S[^\n]*\S\n)(?:\n\S[^\n]*\S\n)*",
}
EVENT = rf"Dialogue: 0,{CENTI},{CENTI},Fill,,0,0,0,,(?:{SUNG})+(?:\{{\\k\d+\}})?"
PARAGRAPH = (
    rf' *<p xml:id="c\d+" region="bottom" style="cue" begin="{CLOCK}" end="{CLOCK}">'
    r'<span style="text">[^<>]+(?:<br/>[^<>]+)?</span></p>'
)


def finished(engine: str, store: ModelStore, recording: Path, folder: Path, **asked: Any) -> Finished:
    """What a run of the manifest that drops `recording` ends with on `engine`."""
    manifest = Transcribe(audio="a.wav", model="tiny.en", engine=engine, beam_size=1, temperature=(0.0,), **asked)
    planning = Planning(manifest, "a", "media", "out/", {"audio": Input(ObjectRef("media", "a.wav"), 1000, None)})
    plan = HANDLER.plan(planning)
    (task,) = plan.tasks
    assert isinstance(task.params, TranscribeParams)
    shutil.copy(recording, folder / task.params.audio)
    transcriber = Transcriber(store, FFmpeg(find_ffmpeg()))

    async def work() -> GpuResult:
        async with asyncio.timeout(HANG_S):
            heard = await transcriber(task.params, JobContext(folder, lambda _: None))
            await transcriber.close()
        return GpuResult("t", heard)

    return HANDLER.finish(planning, plan, (asyncio.run(work()),))


@pytest.fixture(scope="module")
def stores(model_dir: Path, openai_model_dir: Path) -> Mapping[str, ModelStore]:
    folders = dict(zip(ENGINES, (model_dir, openai_model_dir), strict=True))
    return {engine: ModelStore(folder, allow_download=False) for engine, folder in folders.items()}


@pytest.fixture(scope="module")
def spoken(
    stores: Mapping[str, ModelStore], speech: Speech, tmp_path_factory: pytest.TempPathFactory
) -> list[Finished]:
    folder = tmp_path_factory.mktemp("files")
    return [finished(engine, store, speech.file, folder, formats=FORMATS) for engine, store in stores.items()]


def files(end: Finished) -> dict[str, str]:
    return {output.key.removeprefix("out/"): output.data.decode() for output in end.outputs}


def shape(value: Any) -> Any:
    """Keys and types of a document; of a list, those of its entries."""
    if isinstance(value, Mapping):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return {json.dumps(shape(each), sort_keys=True) for each in value}
    return type(value).__name__


def test_both_engines_give_the_same_files(spoken: list[Finished]) -> None:
    first, second = spoken
    assert [(o.key, o.content_type) for o in first.outputs] == [(o.key, o.content_type) for o in second.outputs]
    assert len(first.outputs) == len(FORMATS)


def test_the_answer_and_the_words_have_the_same_fields(spoken: list[Finished]) -> None:
    first, second = spoken
    assert first.message == second.message
    assert shape(first.response) == shape(second.response) and shape(first.stats) == shape(second.stats)
    assert shape(json.loads(files(first)["words.json"])) == shape(json.loads(files(second)["words.json"]))


@pytest.mark.parametrize("name", GRAMMARS)
def test_texts_follow_one_grammar(spoken: list[Finished], name: str) -> None:
    for end in spoken:
        assert re.fullmatch(GRAMMARS[name], files(end)[name]), files(end)[name]


@pytest.mark.parametrize(("name", "entry"), [("karaoke.ass", EVENT), ("segments.ttml", PARAGRAPH)])
def test_documents_have_one_frame_around_entries_of_one_form(spoken: list[Finished], name: str, entry: str) -> None:
    frames: list[list[str]] = []
    for end in spoken:
        lines = files(end)[name].split("\n")
        frames.append([line for line in lines if not re.fullmatch(entry, line)])
        assert len(frames[-1]) < len(lines)
    assert frames[0] == frames[1]
    assert not any("Dialogue" in line or "<p " in line for line in frames[0])


def test_silence_gives_the_same_bytes(stores: Mapping[str, ModelStore], media: Media, tmp_path: Path) -> None:
    first, second = (
        finished(engine, store, media.silence(2.0), tmp_path, formats=FORMATS) for engine, store in stores.items()
    )
    assert files(first) == files(second)


def test_without_word_times_both_leave_out_the_same(
    stores: Mapping[str, ModelStore], speech: Speech, tmp_path: Path
) -> None:
    for engine, store in stores.items():
        end = finished(
            engine, store, speech.file, tmp_path, formats=("json", "lrc", "vtt_karaoke"), word_timestamps=False
        )
        assert json.loads(files(end)["words.json"])["words"] == []
        assert "<" not in files(end)["karaoke.lrc"] and "<" not in files(end)["karaoke.vtt"]
