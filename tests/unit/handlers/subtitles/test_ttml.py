"""TTML, read by ttconv, an independent implementation of IMSC 1.1."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
import srt
from hypothesis import given, settings
from ttconv.imsc import reader
from ttconv.srt import writer

from gpu_dispatch.transcript import Transcript
from handlers.subtitles.cues import make_cues
from handlers.subtitles.model import Cue, CueLine
from handlers.subtitles.ttml import write_ttml
from handlers.subtitles.words import speech_of
from support.transcripts import SPECIAL, spoken, transcript, wild_transcripts

TT = "{http://www.w3.org/ns/ttml}"
TTS = "{http://www.w3.org/ns/ttml#styling}"
LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def tree(document: str) -> ET.Element:
    return ET.fromstring(document.encode())


def shown(document: str) -> list[tuple[int, int, str]]:
    """Start, end and text of what is on the screen, as ttconv computes it."""
    read = srt.parse(writer.from_model(reader.to_model(ET.ElementTree(tree(document)))))
    return [(round(s.start.total_seconds() * 1000), round(s.end.total_seconds() * 1000), s.content) for s in read]


def test_ttconv_shows_every_cue_of_any_text_and_finds_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    said = transcript(*(spoken(f"Say {text} now, my fellow.", i * 3.0) for i, text in enumerate(SPECIAL)))
    cues = make_cues(speech_of(said))
    assert shown(write_ttml(cues, "en")) == [
        (cue.start_ms, cue.end_ms, cue.text.replace("\uffff", "\ufffd")) for cue in cues
    ]
    assert caplog.records == []


@settings(max_examples=50)
@given(wild_transcripts)
def test_paragraphs_are_the_cues(given_: Transcript) -> None:
    cues = make_cues(speech_of(given_))
    paragraphs = list(tree(write_ttml(cues, "en")).iter(f"{TT}p"))
    assert len(paragraphs) == len(cues)
    for paragraph, cue in zip(paragraphs, cues, strict=True):
        (span,) = paragraph
        text = (span.text or "") + "".join(f"\n{br.tail or ''}" for br in span)
        assert text == re.sub("[\ufffe\uffff]", "\ufffd", cue.text)


def test_text_from_the_right_has_its_direction() -> None:
    said = transcript(spoken("مرحبا بكم 123"), spoken("Hello שלום", 3.0), language="ar")
    root = tree(write_ttml(make_cues(speech_of(said)), "ar"))
    assert root.get(LANG) == "ar"
    directions = [(p.get(f"{TTS}direction"), p.get(f"{TTS}unicodeBidi")) for p in root.iter(f"{TT}p")]
    assert directions == [("rtl", "embed"), (None, None)]


@pytest.mark.parametrize(("language", "tag"), [("pt-BR", "pt-BR"), ('"><x', "und"), ("", "und")])
def test_silence_in_any_language_is_a_valid_document(language: str, tag: str) -> None:
    text = write_ttml((), language)
    assert tree(text).get(LANG) == tag and shown(text) == []


def test_times_beyond_a_hundred_hours_are_read() -> None:
    cue = Cue(432_000_120, 432_001_000, (CueLine("late"),))
    assert shown(write_ttml((cue,), "en")) == [(432_000_120, 432_001_000, "late")]
