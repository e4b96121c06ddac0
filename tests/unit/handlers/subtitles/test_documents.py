"""Every format of a transcript, on what is hard for all of them alike."""

from __future__ import annotations

import html
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree as ET

import pytest
import srt
import webvtt
from hypothesis import example, given, settings

from gpu_dispatch.transcript import Segment, Transcript, Word
from handlers.subtitles.cues import make_cues
from handlers.subtitles.documents import DOCUMENTS, TranscriptViews
from handlers.subtitles.model import Cue, CueLine, TimedWord
from handlers.subtitles.text import JOINER
from handlers.subtitles.words import speech_of
from manifests.models import SubtitleFormat
from support.requirements import require
from support.transcripts import SPECIAL, spoken, transcript, wild_transcripts

FORMATS = get_args(SubtitleFormat)
MARKUP = re.compile(r"<[^<>]*>|\{\\[^{}]*\}|\[[\d:.]*\]")
TIMED = ("srt", "vtt", "vtt_karaoke", "ass", "lrc")


def views(said: Transcript, language: str = "en") -> TranscriptViews:
    speech = speech_of(said)
    return TranscriptViews(said, speech, make_cues(speech), language)


def test_every_format_of_a_manifest_has_its_document() -> None:
    assert set(DOCUMENTS) == set(FORMATS)
    assert len({kind.name for kind in DOCUMENTS.values()}) == len({kind.suffix for kind in DOCUMENTS.values()})
    assert len({kind.name for kind in DOCUMENTS.values()}) == len(FORMATS)


@settings(max_examples=40)
@example(transcript(*(spoken(f"Say {text} now", i * 3.0) for i, text in enumerate(SPECIAL)), language="\ud83d\n\0"))
@given(wild_transcripts)
def test_a_document_is_clean_text_whatever_was_heard(given_: Transcript) -> None:
    found = views(given_, given_.language)
    for wanted, kind in DOCUMENTS.items():
        text = kind.write(found)
        assert text.encode().decode() == text and text.endswith("\n"), wanted
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]", text), wanted


def test_overlapping_empty_and_backward_segments_keep_every_word_in_order() -> None:
    said = transcript(
        Segment(0, 0.0, 2.0, "", ()),
        spoken("one two three", 0.0, each=1.0),
        spoken("four five", 1.0),
        Segment(3, 5.0, 4.0, "   ", (Word("  ", 4.0, 5.0),)),
        Segment(4, 9.0, 9.0, " six seven"),
        Segment(5, float("nan"), float("inf"), " eight", (Word(" eight", float("nan"), float("-inf")),)),
    )
    for wanted, kind in DOCUMENTS.items():
        text = kind.write(views(said))
        text = json.loads(text)["text"] if wanted == "json" else MARKUP.sub("", text)
        assert re.findall("one|two|three|four|five|six|seven|eight", text) == (
            ["one", "two", "three", "four", "five", "six", "seven", "eight"]
        ), wanted


def test_segments_without_text_are_no_entries() -> None:
    only_words = replace(spoken("and no", 2.0), text=" ")
    said = transcript(Segment(7, 0.0, 1.0, " \u200b"), spoken("yes", 1.0), only_words, Segment(9, 4.0, 5.0, ""))
    data = json.loads(DOCUMENTS["json"].write(views(said)))
    assert [(each["id"], each["text"]) for each in data["segments"]] == [(0, "yes"), (1, "and no")]
    assert data["text"] == "yes and no"


def test_a_translation_is_english_and_names_its_source() -> None:
    said = transcript(spoken("Good morning"), language="ja")
    data = json.loads(DOCUMENTS["json"].write(views(said, "en")))
    assert (data["language"], data["source_language"], data["language_probability"]) == ("en", "ja", 0.9)
    assert 'xml:lang="en"' in DOCUMENTS["ttml"].write(views(said, "en"))


@pytest.mark.parametrize("probability", [0.0, float("nan"), float("inf")])
def test_a_probability_that_nobody_measured_is_null(probability: float) -> None:
    said = Transcript("en", probability, 1.0, (), "base", "other", "cpu")
    assert json.loads(DOCUMENTS["json"].write(views(said)))["language_probability"] is None


@pytest.mark.parametrize("hours", [99.9999, 100.0, 1234.5])
def test_ffprobe_finds_the_times_of_a_recording_of_any_length(tmp_path: Path, hours: float) -> None:
    require(shutil.which("ffprobe"), "ffprobe is missing.", "apt install ffmpeg")
    at = hours * 3600
    found = views(transcript(spoken("Hello there", at), spoken("again", at + 30), duration=at + 60))
    for wanted in TIMED:
        path = tmp_path / DOCUMENTS[wanted].name
        path.write_text(DOCUMENTS[wanted].write(found), encoding="utf-8")
        command = ["ffprobe", "-v", "error", "-of", "json", "-show_entries", "packet=pts_time,size", str(path)]
        packets = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["packets"]
        starts = [float(packet["pts_time"]) for packet in packets if int(packet["size"]) > 1]
        assert starts == pytest.approx([at, at + 30], abs=0.011), wanted
    words = json.loads(DOCUMENTS["json"].write(found))["words"]
    assert words[0]["start"] == pytest.approx(at, abs=0.001)


def test_ten_megabytes_of_text_in_one_breath_are_written_and_read() -> None:
    words = tuple(TimedWord(f" <b>{{\\k1}}&{i:06}-->{'x' * 500}", i, i + 1) for i in range(20_000))
    line = CueLine("".join(word.text for word in words).strip(), words)
    said = transcript(Segment(0, 0.0, 20.0, line.text))
    speech = replace(speech_of(said), timed=True)
    found = TranscriptViews(said, speech, (Cue(0, 20_000, (line,)),), "en")
    written = {wanted: kind.write(found) for wanted, kind in DOCUMENTS.items()}
    assert all(len(text) > 10_000_000 for text in written.values())
    assert next(iter(srt.parse(written["srt"]))).content.replace(JOINER, "") == line.text
    (caption,) = webvtt.from_buffer(io.StringIO(written["vtt_karaoke"])).captions
    assert html.unescape(caption.text) == line.text
    (span,) = ET.fromstring(written["ttml"].encode()).iter("{http://www.w3.org/ns/ttml}span")
    assert span.text == line.text
    assert json.loads(written["json"])["text"] == line.text and written["txt"] == line.text + "\n"
    for wanted in ("ass", "lrc"):
        assert re.findall(r"&(\d{6})-->", written[wanted]) == [f"{i:06}" for i in range(len(words))]
