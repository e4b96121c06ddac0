"""Outputs of large results are made in another process, and are those that the handler makes here."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gpu_dispatch.compression import packed, packed_bytes
from gpu_dispatch.task import GpuResult
from gpu_dispatch.transcript import Transcript
from handlers.base import Finished, Input, OutputFile, Plan, Planning
from handlers.registry import own_handlers
from handlers.transcribe import TranscribeHandler
from listener.processes.pool import WORTH_A_PROCESS, ProcessPool
from listener.runs.outputs import FinishCall, made_outputs, outputs_of
from manifests.errors import GpuDropError, NoSpeech
from manifests.models import Transcribe
from manifests.references import ObjectRef
from support.odd_worker import transcript, words
from support.scripts import ROOT

EXAMPLE = ROOT / "examples" / "third_party_handler"
LARGE = packed(GpuResult("t", transcript("said", words(30_000))))


@pytest.fixture
async def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProcessPool]:
    """Its processes find the example package, as if it were installed."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLE), *sys.path])
    pool = ProcessPool({**os.environ, "PYTHONPATH": str(EXAMPLE)}, parent=tmp_path)
    await pool.open()
    yield pool
    await pool.close()
    sys.modules.pop("gpudrop_podcast", None)


def finish_of(handler: Any, manifest: Any, result: GpuResult = LARGE) -> FinishCall:
    planning = Planning(manifest, "talk", "b", "out/", {"audio": Input(ObjectRef("b", "a.mp3"))})
    return FinishCall(handler, planning, handler.plan(planning), (result,))


async def files_of(finish: FinishCall, pool: ProcessPool) -> tuple[dict[str, bytes], bool]:
    """What is under each key, and whether it lies on the disk, as what another process made."""
    async with made_outputs(finish, pool) as outputs:
        expected = outputs_of(finish)
        assert (outputs.message, outputs.response, outputs.stats) == (
            expected.message,
            expected.response,
            expected.stats,
        )
        apart = {isinstance(file.content, Path) for file in outputs.files}
        files = {file.key: await file.read() for file in outputs.files}
        assert files == {file.key: await file.read() for file in expected.files}
    return files, apart == {True}


async def test_a_transcript_of_hours_is_written_apart(pool: ProcessPool) -> None:
    assert packed_bytes(LARGE) > WORTH_A_PROCESS
    formats = ("srt", "ass", "json", "vtt", "lrc", "txt")
    files, apart = await files_of(finish_of(TranscribeHandler(), Transcribe(audio="a.mp3", formats=formats)), pool)
    assert apart and len(files) == 6 and all(files.values())


async def test_a_short_one_is_written_here(pool: ProcessPool) -> None:
    short = packed(GpuResult("t", transcript("said", words(5000))))
    assert packed_bytes(short)
    assert not (await files_of(finish_of(TranscribeHandler(), Transcribe(audio="a.mp3"), short), pool))[1]


async def test_a_handler_of_a_package_is_found_there_too(pool: ProcessPool) -> None:
    package: Any = importlib.import_module("gpudrop_podcast")
    files, apart = await files_of(finish_of(package.PodcastHandler(), package.Podcast(audio="a.mp3")), pool)
    assert apart and list(files) == ["out/talk.md", "out/talk.chapters.vtt", "out/talk.chapters.json"]


async def test_a_handler_that_cannot_be_handed_over_finishes_here(pool: ProcessPool) -> None:
    class Local(TranscribeHandler):
        def finish(self, planning: Planning[Transcribe], plan: Plan, results: tuple[GpuResult, ...]) -> Finished:
            del planning, plan
            assert isinstance(results[0].payload, Transcript)
            return Finished("counted", (OutputFile("n", b"%d" % len(results[0].payload.words), "text/plain"),))

    with capture_logs() as logs:
        files, _ = await files_of(finish_of(Local(), Transcribe(audio="a.mp3")), pool)
    assert files == {"n": b"30000"}
    assert [entry["event"] for entry in logs] == ["runs_in_a_thread"]


async def test_what_a_handler_refuses_is_refused(pool: ProcessPool) -> None:
    silent = packed(GpuResult("t", transcript(" " * 3 * WORTH_A_PROCESS)))
    finish = finish_of(TranscribeHandler(), Transcribe(audio="a.mp3", require_speech=True), silent)
    with pytest.raises(GpuDropError) as told:
        async with made_outputs(finish, pool):
            pass
    assert told.value.info.code == NoSpeech.code and told.value.info.where == "audio"


@pytest.mark.parametrize("handler", own_handlers(), ids=lambda handler: handler.operation)
def test_every_handler_can_be_handed_over(handler: Any) -> None:
    assert pickle.loads(pickle.dumps(handler)).operation == handler.operation
