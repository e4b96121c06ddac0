"""A recording, and the text that its author has: the files carry that text at the recording's times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import srt

from support.installation import AUDIO_TRIGGERS, Installation, folder_installation
from support.speech import Speech

SCRIPT = """# The oath

And so, my fellow *Amerikans*:
Ask not what your country can do for you. [Pause]

Ask what you can do 4 your dear country!
"""
LATE = """1
00:00:07,000 --> 00:00:08,000
And so, my
fellow Americans.

2
00:00:08,000 --> 00:00:09,000
Ask not what your country
can do for you.

3
00:00:09,000 --> 00:00:09,500
Ask what you can do for your country.
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, model_dir: Path, speech: Speech) -> Iterator[Installation]:
    install = folder_installation(tmp_path_factory.mktemp("scripted"), {"GPUDROP_MODEL_DIR": str(model_dir)})
    files = {"oath.wav": speech.file.read_bytes(), "oath.md": SCRIPT.encode(), "late.srt": LATE.encode()}
    for key, data in files.items():
        install.drops.put(f"media/{key}", data)
    install.start(triggers=AUDIO_TRIGGERS, defaults={"transcribe": {"model": "tiny.en"}})
    yield install
    install.close()


def job(**fields: Any) -> bytes:
    return json.dumps({"audio": "/media/oath.wav", "formats": ["srt", "txt"], **fields}).encode()


def test_a_script_becomes_subtitles_with_its_words_and_paragraphs(told: Installation) -> None:
    told.drops.put("read.job.json", job(script="/media/oath.md", path="/read/"))
    done = told.done("read.job.json")
    text = (
        "And so, my fellow Amerikans: Ask not what your country can do for you.\n\n"
        "Ask what you can do 4 your country!\n"
    )
    assert told.drops.get("read/transcript.txt").decode() == text
    cues = list(srt.parse(told.drops.get("read/segments.srt").decode()))
    assert " ".join(" ".join(cue.content for cue in cues).split()) == " ".join(text.split())
    script = done["stats"]["script"]
    assert (script["unwritten"], [d["script"] for d in script["differences"] if not d["heard"]]) == (
        0,
        ["The oath", "dear"],
    )


def test_subtitles_get_the_times_of_the_recording(told: Installation) -> None:
    told.drops.put("late.job.json", job(retime="/media/late.srt", path="/late/"))
    told.done("late.job.json")
    before = list(srt.parse(LATE))
    after = list(srt.parse(told.drops.get("late/segments.srt").decode()))
    assert [cue.content for cue in after] == [cue.content for cue in before]
    assert after[0].start.total_seconds() == pytest.approx(0.0, abs=0.3)
    assert 2.5 < after[1].start.total_seconds() < 4.5 < after[2].start.total_seconds() < 8.5
