"""LRC with the times of words inside its lines."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings

from gpu_dispatch.transcript import Transcript
from handlers.subtitles.cues import make_cues
from handlers.subtitles.lrc import write_lrc
from handlers.subtitles.model import Cue, CueLine, TimedWord
from handlers.subtitles.parser import parse_subtitles
from handlers.subtitles.text import JOINER
from handlers.subtitles.words import speech_of
from support.media import ffmpeg
from support.transcripts import SPECIAL, spoken, steady_transcripts, transcript

LINE = re.compile(r"\[(\d+):(\d\d)\.(\d\d)\](.*)")
STAMP = re.compile(r"<(\d+):(\d\d)\.(\d\d)>")


def words(text: str, each: int = 300) -> tuple[TimedWord, ...]:
    """`text` with a bar between two words."""
    return tuple(TimedWord(part, i * each, (i + 1) * each) for i, part in enumerate(text.split("|")))


def bare(document: str) -> list[str]:
    """The lines' texts without any stamp."""
    found = [LINE.fullmatch(line) for line in document.splitlines()[1:]]
    return [STAMP.sub("", line[4]).replace(JOINER, "") for line in found if line and line[4]]


def two_lines(first: tuple[TimedWord, ...], second: tuple[TimedWord, ...]) -> Cue:
    lines = (CueLine("".join(w.text for w in line).strip(), line) for line in (first, second))
    return Cue(0, 9000, tuple(lines))


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize(
    ("said", "line"),
    [
        (("今日|は|雨", "です|が|行く"), "今日は雨ですが行く"),
        ((" We| met", " a| well|-known| man"), "We met a well-known man"),
        (("https://example.com/a", "/long/path"), "https://example.com/a/long/path"),
    ],
)
def test_the_lines_of_a_cue_are_joined_as_they_are_spoken(said: tuple[str, str], line: str, timed: bool) -> None:
    cue = two_lines(words(said[0]), words(said[1]))
    assert bare(write_lrc((cue,), duration_ms=9000, timed=timed)) == [line]


def test_lines_that_an_author_broke_keep_their_words_apart() -> None:
    for text, line in (("We met\na man", "We met a man"), ("今日は\n雨です", "今日は雨です")):
        cues = parse_subtitles(f"1\n00:00:00,000 --> 00:00:02,000\n{text}\n".encode()).cues
        assert bare(write_lrc(cues, duration_ms=2000)) == [line]
        assert cues[0].text == text


def test_a_cue_without_words_keeps_its_text() -> None:
    cue = Cue(0, 900, (CueLine("Hello"), CueLine("there")))
    assert bare(write_lrc((cue,), duration_ms=900)) == ["Hello there"]


@settings(max_examples=50)
@given(steady_transcripts)
def test_every_word_begins_at_its_stamp(given_: Transcript) -> None:
    cues = make_cues(speech_of(given_))
    text = write_lrc(cues, duration_ms=60_000)
    found = [LINE.fullmatch(line) for line in text.splitlines()[1:]]
    stamps = [
        (int(m) * 60 + int(s)) * 100 + int(cs)
        for line in found
        if line and line[4]
        for m, s, cs in STAMP.findall(line[4])[:-1]
    ]
    assert stamps == [min((w.start_ms + 5) // 10, (cue.end_ms + 5) // 10) for cue in cues for w in cue.words]
    assert bare(text) == ["".join(w.text for w in cue.words).strip() for cue in cues]


@pytest.mark.parametrize("timed", [True, False])
def test_ffmpeg_reads_and_writes_the_same_lines(tmp_path: Path, timed: bool) -> None:
    texts = (*SPECIAL, "[Music]", "[", "<00:01.00>")
    said = transcript(*(spoken(f"{text} now {text}.", i * 3.0) for i, text in enumerate(texts)))
    document = write_lrc(make_cues(speech_of(said)), duration_ms=120_000, timed=timed)
    (tmp_path / "a.lrc").write_text(document, encoding="utf-8")
    command = [ffmpeg(), "-v", "error", "-nostdin", "-i", "a.lrc", "-c:s", "copy", "-f", "lrc", "-"]
    again = subprocess.run(command, check=True, capture_output=True, cwd=tmp_path).stdout.decode()
    lines = [line for line in again.splitlines() if re.match(r"\[\d", line)]
    assert lines == document.splitlines()[1:]
