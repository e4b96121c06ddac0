"""WebVTT with the times of words, read by a library, by ffmpeg and by our own reader."""

from __future__ import annotations

import html
import io
import re
import subprocess
from pathlib import Path

import srt
import webvtt
from hypothesis import given, settings

from gpu_dispatch.transcript import Transcript
from handlers.subtitles.cues import make_cues
from handlers.subtitles.text import JOINER, tokens
from handlers.subtitles.vtt import read_vtt, write_karaoke_vtt, write_vtt
from handlers.subtitles.words import speech_of
from support.media import ffmpeg
from support.transcripts import SPECIAL, segment, spoken, steady_transcripts, transcript, wild_transcripts

STAMP = re.compile(r"<(\d+):(\d\d):(\d\d)\.(\d\d\d)>")


def milliseconds(stamp: tuple[str, ...]) -> int:
    hours, minutes, seconds, ms = map(int, stamp)
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms


@settings(max_examples=50)
@given(wild_transcripts)
def test_stamps_rise_inside_their_cue_and_hide_no_text(given_: Transcript) -> None:
    cues = make_cues(speech_of(given_))
    captions = webvtt.from_buffer(io.StringIO(write_karaoke_vtt(cues))).captions
    assert [html.unescape(caption.text).replace(JOINER, "") for caption in captions] == [cue.text for cue in cues]
    for caption, cue in zip(captions, cues, strict=True):
        stamps = [cue.start_ms, *map(milliseconds, STAMP.findall(caption.raw_text)), cue.end_ms]
        assert stamps == sorted(set(stamps))


@settings(max_examples=50)
@given(steady_transcripts)
def test_the_times_of_all_words_read_back(given_: Transcript) -> None:
    cues = make_cues(speech_of(given_))
    for cue, found in zip(cues, read_vtt(write_karaoke_vtt(cues).split("\n")), strict=True):
        words = [(w.start_ms, min(w.end_ms, cue.end_ms)) for w in cue.words if len(tokens(w.text)) == 1]
        if 1 < len(words) == len(cue.words) and all(start < end for start, end in words):
            assert [(w.start_ms, w.end_ms) for row in found.words for w in row] == words


def test_a_word_is_a_span_after_its_stamp_and_a_pause_has_a_stamp_of_its_own() -> None:
    said = transcript(segment([(" Well", 1.0, 1.4), ("-known", 1.4, 2.0), (" words", 2.5, 3.0)]))
    *_, line = write_karaoke_vtt(make_cues(speech_of(said))).splitlines()
    line = line.replace("</c><00:00:01.400><c>-", "-")
    assert line.startswith("<c>Well-known</c><00:00:02.000> <00:00:02.500><c>words</c>")


def test_without_word_times_there_are_no_stamps() -> None:
    cues = make_cues(speech_of(transcript(spoken("one two three"))))
    assert write_karaoke_vtt(cues, timed=False) == write_vtt(cues) and "<" not in write_vtt(cues).replace("-->", "")


def test_ffmpeg_reads_the_same_cues(tmp_path: Path) -> None:
    cues = make_cues(speech_of(transcript(*(spoken(f"Say {text} now.", i * 3.0) for i, text in enumerate(SPECIAL)))))
    (tmp_path / "a.vtt").write_text(write_karaoke_vtt(cues), encoding="utf-8")
    command = [ffmpeg(), "-v", "error", "-nostdin", "-i", str(tmp_path / "a.vtt"), "-f", "srt", "-"]
    found = list(srt.parse(subprocess.run(command, check=True, capture_output=True).stdout.decode()))
    assert [round(f.start.total_seconds() * 1000) for f in found] == [cue.start_ms for cue in cues]
    for shown, cue in zip(found, cues, strict=True):
        # Its writer of SRT, not its reader of VTT, makes tags of a brace's content.
        assert "{" in cue.text or shown.content.replace(JOINER, "") == cue.text
