"""A recording in two languages, with a small multilingual model: heard, told of, and read part by part."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_dispatch.task import TranscribeParams
from gpu_dispatch.transcript import Transcript
from gpu_dispatch.worker.context import JobContext
from gpu_dispatch.worker.speech.models import ModelStore
from gpu_dispatch.worker.speech.transcribe import Transcriber
from gpu_dispatch.worker.video.ffmpeg import FFmpeg, find_ffmpeg
from support.deadlines import HANG_S
from support.media import Media
from support.speech import Speech

pytestmark = pytest.mark.model

SPANISH = "Buenos días a todos. El tren de Madrid sale hoy a las nueve de la mañana desde el andén número cuatro."


@pytest.fixture(scope="module")
def transcriber(base_model_dir: Path) -> Iterator[Transcriber]:
    made = Transcriber(ModelStore(base_model_dir, allow_download=False), FFmpeg(find_ffmpeg()))
    yield made
    asyncio.run(made.close())


@pytest.fixture
def mixed(media: Media, speech: Speech) -> Path:
    """English, Spanish, English."""
    spanish = media.speech(SPANISH, voice="es")
    graph = "[0:a]aresample=16000,asplit[x][y];[1:a]apad=pad_dur=1[s];[x][s][y]concat=n=3:v=0:a=1"
    return media.make(".wav", "-i", str(speech.file), "-i", str(spanish), "-filter_complex", graph, "-ac", "1")


async def heard(transcriber: Transcriber, file: Path, folder: Path, **options: Any) -> Transcript:
    shutil.copy(file, folder / file.name)
    asked = {"audio": file.name, "model": "base", "beam_size": 1, "temperature": (0.0,), "word_timestamps": False}
    async with asyncio.timeout(HANG_S):
        return await transcriber(TranscribeParams(**{**asked, **options}), JobContext(folder, lambda _: None))


async def test_each_part_is_read_in_its_own_language(
    transcriber: Transcriber, mixed: Path, speech: Speech, tmp_path: Path
) -> None:
    transcript = await heard(transcriber, mixed, tmp_path, multilingual=True)
    languages = [segment.language for segment in transcript.segments]
    assert list(dict.fromkeys(languages)) == ["en", "es"]
    assert languages[-1] == "en"
    assert (transcript.language, transcript.warnings) == ("en", ())
    spoken = {code: "".join(s.text for s in transcript.segments if s.language == code) for code in ("en", "es")}
    assert "Madrid" in spoken["es"]
    assert speech.word_error_rate(spoken["en"][: len(spoken["en"]) // 2]) <= 0.3


async def test_without_it_another_language_is_told(transcriber: Transcriber, mixed: Path, tmp_path: Path) -> None:
    transcript = await heard(transcriber, mixed, tmp_path, languages=("pt", "en"))
    assert transcript.language == "en"
    assert 0.9 < transcript.language_probability <= 1.0
    assert {segment.language for segment in transcript.segments} == {""}
    (warning,) = transcript.warnings
    assert "es" in warning
