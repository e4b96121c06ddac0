import html
import io
import json
import re
import shutil
import subprocess

import pytest
import srt
import webvtt
from hypothesis import given

from handlers.subtitles.burn_in import write_ass
from handlers.subtitles.cues import make_cues
from handlers.subtitles.lrc import write_lrc
from handlers.subtitles.srt import write_srt
from handlers.subtitles.text import JOINER
from handlers.subtitles.txt import write_txt
from handlers.subtitles.vtt import write_vtt
from handlers.subtitles.words import speech_of
from manifests.options import CaptionStyle
from support.media import ffmpeg
from support.requirements import require
from support.transcripts import SPECIAL, segment, spoken, steady_transcripts, transcript, wild_transcripts

SPEECH = speech_of(transcript(*(spoken(f"Say {text} now, my fellow.", i * 3.0) for i, text in enumerate(SPECIAL))))
CUES = make_cues(SPEECH)


def dialogues(document):
    for line in document.splitlines():
        if line.startswith("Dialogue: "):
            layer, start, end, style, *_, text = line.removeprefix("Dialogue: ").split(",", 9)
            yield int(layer), clock(start), clock(end), style, text


def clock(text):
    hours, minutes, seconds = text.split(":")
    return round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * 100)


@given(wild_transcripts)
def test_srt_reads_back_in_a_library(given_):
    cues = make_cues(speech_of(given_))
    text = write_srt(cues)
    found = list(srt.parse(text))
    assert text.endswith("\n") and [s.index for s in found] == list(range(1, len(cues) + 1))
    assert [s.content.replace(JOINER, "") for s in found] == [c.text for c in cues]
    assert [round(s.start.total_seconds() * 1000) for s in found] == [c.start_ms for c in cues]
    assert [round(s.end.total_seconds() * 1000) for s in found] == [c.end_ms for c in cues]
    assert "-->" not in "".join(s.content for s in found)


@given(wild_transcripts)
def test_vtt_reads_back_in_a_library(given_):
    cues = make_cues(speech_of(given_))
    captions = webvtt.from_buffer(io.StringIO(write_vtt(cues))).captions
    assert len(captions) == len(cues)
    assert [caption.text.replace(JOINER, "") for caption in captions] == [
        html.escape(c.text, quote=False) for c in cues
    ]


@given(steady_transcripts)
def test_karaoke_lengths_add_up_to_every_line_and_words_begin_on_time(given_):
    cues = make_cues(speech_of(given_))
    lines = list(dialogues(write_ass(cues, CaptionStyle(style="fill"), 1920, 1080)))
    assert len(lines) == len(cues)
    for (_, start, end, _, text), cue in zip(lines, cues, strict=True):
        bare = text.replace("\\{", "").replace("\\}", "")
        assert sum(int(n) for n in re.findall(r"\{\\kf?(\d+)\}", bare)) == end - start
        at, begins = start, []
        for kind, length in re.findall(r"\{\\(kf?)(\d+)\}", bare):
            if kind == "kf":
                begins.append(at)
            at += int(length)
        assert begins == [min((w.start_ms + 5) // 10, end) for w in cue.words]


@given(wild_transcripts)
def test_every_style_shows_every_cue_without_overlap_at_any_size(given_):
    cues = make_cues(speech_of(given_))
    for style, size in (("plain", (1920, 1080)), ("fill", (1080, 1920)), ("pop", (1080, 1080)), ("box", (320, 240))):
        shown = list(dialogues(write_ass(cues, CaptionStyle(style=style), *size)))
        assert len(shown) >= len(cues)
        for layer in {entry[0] for entry in shown}:
            ends = 0
            for start, end in ((s, e) for lay, s, e, _, _ in shown if lay == layer):
                assert ends <= start < end
                ends = end
        for _, start, end, _, text in shown:
            lengths = re.findall(r"\{\\kf?(\d+)\}", text.replace("\\{", "").replace("\\}", ""))
            assert not lengths or sum(map(int, lengths)) == end - start


def test_a_portrait_picture_gets_three_to_five_words_at_a_time():
    cues = make_cues(speech_of(transcript(spoken("we choose to go to the moon in this decade and do other things"))))
    shown = [t for *_, t in dialogues(write_ass(cues, CaptionStyle(style="fill"), 1080, 1920))]
    assert {3, 4, 5} >= {len(re.sub(r"\{[^}]*\}", "", t).replace("\\N", " ").split()) for t in shown}


def test_right_to_left_text_sets_its_direction_and_only_then():
    hebrew = make_cues(speech_of(transcript(spoken("שלום לכולם"))))
    assert re.search(r"^Style: .*,-1$", write_ass(hebrew, CaptionStyle(style="fill"), 1920, 1080), re.MULTILINE)
    assert not re.search(r"^Style: .*,-1$", write_ass(CUES[:1], CaptionStyle(style="fill"), 1920, 1080), re.MULTILINE)


def test_lrc_rounds_before_it_divides():
    cues = make_cues(speech_of(transcript(segment([(" late", 59.996, 61), (" er", 61, 6000.5)]))))
    text = write_lrc(cues, duration_ms=59_999)
    assert text.startswith("[length:01:00.00]\n[01:00.00]<01:00.00>late<")
    assert not re.search(r":6\d\.", text)


def test_lrc_without_word_times_invents_none():
    assert "<" not in write_lrc(make_cues(speech_of(transcript(spoken("a b c")))), duration_ms=1000, timed=False)


def test_silence_makes_documents_that_are_not_empty():
    speech = speech_of(transcript())
    cues = make_cues(speech)
    assert list(srt.parse(write_srt(cues))) == [] and write_srt(cues) == "\n"
    assert webvtt.from_buffer(io.StringIO(write_vtt(cues))).captions == []
    assert "[Events]" in write_ass(cues, CaptionStyle(style="fill"), 1920, 1080) and write_txt(speech) == "\n"
    assert write_lrc(cues, duration_ms=30_000) == "[length:00:30.00]\n"


@pytest.mark.parametrize("suffix", ["srt", "vtt", "ass", "lrc"])
def test_ffprobe_reads_every_format_with_the_right_times(tmp_path, suffix):
    require(shutil.which("ffprobe"), "ffprobe is missing.", "apt install ffmpeg")
    written = {
        "srt": write_srt(CUES),
        "vtt": write_vtt(CUES),
        "ass": write_ass(CUES, CaptionStyle(style="fill"), 1920, 1080),
        "lrc": write_lrc(CUES, duration_ms=60_000),
    }
    path = tmp_path / f"a.{suffix}"
    path.write_text(written[suffix], encoding="utf-8")
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_entries", "packet=pts_time,size", str(path)]
    packets = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["packets"]
    starts = [round(float(p["pts_time"]), 2) for p in packets if int(p["size"]) > 1]
    assert starts == [round(cue.start_ms / 1000, 2) for cue in CUES]


def test_srt_becomes_a_track_of_an_mp4_without_losing_text(tmp_path):
    text = (*SPECIAL, "< b>x", "{i}", "a\\nb")
    cues = make_cues(speech_of(transcript(*(spoken(f"Say {each} now.", i * 3.0) for i, each in enumerate(text)))))
    (tmp_path / "a.srt").write_text(write_srt(cues), encoding="utf-8")
    for source, *options in (("a.srt", "-c:s", "mov_text", "a.mp4"), ("a.mp4", "-c:s", "srt", "back.srt")):
        subprocess.run([ffmpeg(), "-v", "error", "-nostdin", "-i", source, *options], check=True, cwd=tmp_path)
    back = srt.parse((tmp_path / "back.srt").read_text("utf-8"))
    assert [each.content.replace(JOINER, "") for each in back] == [cue.text for cue in cues]
