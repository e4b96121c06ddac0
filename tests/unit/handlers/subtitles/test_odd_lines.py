"""Lines that, standing alone in a cue, look like a part of the file around them."""

from __future__ import annotations

import html
import io
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import srt
import webvtt

from handlers.subtitles.burn_in import write_ass
from handlers.subtitles.model import Cue, CueLine, TimedWord
from handlers.subtitles.parser import parse_subtitles
from handlers.subtitles.srt import write_srt
from handlers.subtitles.text import JOINER
from handlers.subtitles.vtt import write_karaoke_vtt, write_vtt
from manifests.options import CaptionStyle
from support.media import ffmpeg

LINES = """\
42 | 1¶2 | 3¶00:00 | NOTE x | STYLE¶::cue | REGION | WEBVTT | 00:00:01,000 | 00:00:01 | ... | - | -- | -> | --> | --¶> x
< | > | & | &#65; | &lt; | \\ | \\N | \\h | [ | ] | X-TIMESTAMP-MAP=LOCAL:00:00:00.000 | <v Bob>hi | </c> | % | {1}{2}x
<00:00:01.000> | [Script Info] | Dialogue: 0 | [Events] | a\u00a0b | 🇧🇷 👨\u200d👩\u200d👧 | <!-- x --> | ]]> | < b>x
<font color=red>x | %s %d | { | } | {y:i}x | \u200fשלום, 3 | \u202eabc\u202c
"""


def cue(number: int, text: str) -> Cue:
    start = number * 2000
    lines = tuple(CueLine(line, (TimedWord(line, start, start + 1000),)) for line in text.split("¶"))
    return Cue(start, start + 1500, lines)


CUES = tuple(cue(number, text) for number, text in enumerate(re.split(r" \| |\n", LINES.strip())))
TEXTS = [each.text for each in CUES]
Write = Callable[[Sequence[Cue]], str]


def fill(cues: Sequence[Cue]) -> str:
    return write_ass(cues, CaptionStyle(style="fill"), 1920, 1080)


def bare(text: str) -> str:
    return text.replace(JOINER, "")


def test_a_library_reads_them_in_srt() -> None:
    assert [bare(each.content) for each in srt.parse(write_srt(CUES))] == TEXTS


@pytest.mark.parametrize("write", [write_vtt, write_karaoke_vtt])
def test_a_library_reads_them_in_vtt(write: Write) -> None:
    captions = webvtt.from_buffer(io.StringIO(write(CUES))).captions
    assert [bare(html.unescape(each.text)) for each in captions] == TEXTS


@pytest.mark.parametrize("write", [write_srt, write_vtt, write_karaoke_vtt, fill])
def test_our_reader_reads_them(write: Write) -> None:
    assert [each.text for each in parse_subtitles(write(CUES).encode()).cues] == TEXTS


@pytest.mark.parametrize(("write", "suffix"), [(write_srt, "srt"), (write_vtt, "vtt"), (write_karaoke_vtt, "vtt")])
def test_ffmpeg_reads_them(write: Write, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a.{suffix}").write_text(write(CUES), encoding="utf-8")
    command = [ffmpeg(), "-v", "error", "-nostdin", "-i", f"a.{suffix}", "-f", "srt", "-"]
    done = subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    found = [bare(each.content) for each in srt.parse(done.stdout.decode())]
    assert len(found) == len(TEXTS)
    for shown, text in zip(found, TEXTS, strict=True):
        # Some versions of ffmpeg leave the escapes of ASS around braces that they read in VTT.
        assert shown == text or (suffix == "vtt" and shown.replace("\\{", "{").replace("\\}", "}") == text)
