"""Scripts and subtitles that a transcription takes its words from: what is read of them, and what is refused."""

from __future__ import annotations

import json

import pytest
import srt

from gpu_dispatch.task import GpuResult, TranscribeParams
from gpu_dispatch.transcript import ScriptDifference, ScriptReport, Segment, Word
from handlers.markdown import markdown_text
from handlers.transcribe import TranscribeHandler
from manifests.errors import GpuDropError, ManifestError, WorkerError
from manifests.models import Transcribe
from support.transcripts import transcript

HANDLER = TranscribeHandler()
SRT = """1
00:00:00,000 --> 00:00:02,000
It all began
by the lake.

2
00:00:02,000 --> 00:00:03,000
Late, at night.
"""


def planned(planning, content: bytes | None, **fields) -> TranscribeParams:
    asked = Transcribe(audio="talk.mp3", **fields)
    (task,) = HANDLER.plan(planning(HANDLER, asked, contents={"script": content, "retime": content})).tasks
    assert isinstance(task.params, TranscribeParams)
    return task.params


@pytest.mark.parametrize(
    ("name", "content", "blocks"),
    [
        ("a.txt", b"One two.\nthree\n\n\n  Four \n", ("One two.\nthree", "\nFour")),
        ("a.txt", b"\xef\xbb\xbfOne\r\nTwo\r\n", ("One", "Two")),
        ("a", "Olá você".encode("cp1252"), ("Olá você",)),
        ("a.txt", "Olá\n\nvocê".encode("utf-16"), ("Olá", "\nvocê")),
        ("a.TXT", b"[Music]\nHello [laughs] there.\n(He sits down.)\nBye.\n", ("Hello there.", "Bye.")),
        ("a.md", b"# Title\n\nSome *fine* [words](http://x.y)\ngo on.\n", ("Title", "\nSome fine words go on.")),
        ("a.srt", SRT.encode(), ("It all began", "by the lake.", "Late, at night.")),
        ("a.vtt", b"WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>Hi &amp; bye\n", ("Hi & bye",)),
    ],
)
def test_scripts_are_read_in_blocks(planning, name: str, content: bytes, blocks: tuple[str, ...]) -> None:
    params = planned(planning, content, script=name, word_timestamps=False, timestamps="segment")
    assert params.script == blocks
    assert (params.keep_script, params.word_timestamps) == (False, True)


def test_stage_directions_may_be_said(planning) -> None:
    assert planned(planning, None, script_text="[Music] plays", stage_directions=True).script == ("[Music] plays",)
    assert planned(planning, None, script_text="[Music] plays").script == ("plays",)


def test_cues_keep_their_lines(planning) -> None:
    params = planned(planning, SRT.encode(), retime="old.srt")
    assert (params.script, params.keep_script) == (("It all began\nby the lake.", "Late, at night."), True)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"  \n\n--- ***\n", "no words"),
        (b"[Music]\n", "no words"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)), "binary"),
        (b"text \x01\x02 and so on", "binary"),
        (b"%PDF-1.7 text", "PDF"),
        (b"PK\x03\x04 text", "word processor"),
        (b"{\\rtf1 text}", "RTF"),
    ],
)
def test_what_is_no_script_is_one_clear_error(planning, content: bytes, told: str) -> None:
    with pytest.raises(GpuDropError, match=told) as caught:
        planned(planning, content, script="script.txt")
    assert (caught.value.info.code, caught.value.info.where) == ("script_unreadable", "script")
    assert caught.value.info.hint


def test_a_script_is_bounded(planning) -> None:
    """The run refuses a larger file before it is read (`Reference.max_bytes`)."""
    (_, script) = HANDLER.references(Transcribe(audio="a.mp3", script="s.txt"))
    assert script.read and script.max_bytes == 2**20
    assert len(planned(planning, b"word and " * 110_000, script="s.txt").script) == 1


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"script": "a.txt", "script_text": "b"}, "script_text"),
        ({"script": "a.txt", "retime": "b.srt"}, "retime"),
        ({"script_text": "a", "translate": True}, "translate"),
    ],
)
def test_what_cannot_go_together_is_refused(fields, where: str) -> None:
    with pytest.raises(ManifestError) as caught:
        HANDLER.references(Transcribe(audio="a.mp3", **fields))
    assert caught.value.info.where == where


def finish(planning, segments: list[Segment], report: ScriptReport, content: bytes, **fields) -> dict[str, str]:
    asked = Transcribe(audio="talk.mp3", formats=("srt", "vtt", "ass", "lrc", "json", "txt"), **fields)
    read = planning(HANDLER, asked, contents={"script": content, "retime": content})
    answer = transcript(*segments)
    answer = type(answer)(**{**{n: getattr(answer, n) for n in answer.__slots__}, "script": report})
    unread = planning(HANDLER, asked)
    finished = HANDLER.finish(unread, HANDLER.plan(read), (GpuResult("t", answer),))
    files = {o.key.removeprefix("out/"): o.data.decode() for o in finished.outputs}
    return {**files, "stats": json.dumps(finished.stats["script"])}


def said(number: int, text: str, start: float, lead: str = "") -> Segment:
    words = tuple(Word(" " + w, start + 0.3 * k, start + 0.3 * k + 0.3) for k, w in enumerate(text.split()))
    return Segment(number, start, words[-1].end, lead + text, words)


def test_a_script_keeps_its_paragraphs_and_what_differs_is_told(planning) -> None:
    report = ScriptReport(9, 1, 0, 0, (ScriptDifference(2.5, "never", ""),))
    segments = [said(0, "One two,\nthree four.", 0.0), said(1, "Five six.", 3.0, "\n\n"), said(2, "Seven.", 5.0, "\n")]
    files = finish(planning, segments, report, b"x", script="s.txt")
    assert files["transcript.txt"] == "One two,\nthree four.\n\nFive six.\nSeven.\n"
    assert json.loads(files["stats"]) == {
        "words": 9,
        "unspoken": 1,
        "unwritten": 0,
        "changed": 0,
        "differences": [{"start": 2.5, "script": "never", "heard": ""}],
    }


def test_subtitles_keep_their_cues_and_lines_at_new_times(planning) -> None:
    segments = [said(0, "It all began\nby the lake.", 4.0), said(1, "Late, at night.", 9.0, "\n")]
    files = finish(planning, segments, ScriptReport(9, 0, 0, 0), SRT.encode(), retime="old.srt")
    first, second = srt.parse(files["segments.srt"])
    assert (first.content, second.content) == ("It all began\nby the lake.", "Late, at night.")
    assert (first.start.total_seconds(), second.start.total_seconds()) == (4.0, 9.0)
    assert 5.8 <= first.end.total_seconds() <= 6.4
    assert files["segments.vtt"].count("-->") == files["karaoke.ass"].count("Dialogue:") == 2
    assert "\\N" in files["karaoke.ass"]
    assert files["transcript.txt"] == "It all began\nby the lake.\nLate, at night.\n"
    assert len(json.loads(files["words.json"])["words"]) == 9


def test_an_earlier_worker_that_ignores_the_script_is_told(planning) -> None:
    read = planning(HANDLER, Transcribe(audio="talk.mp3", script_text="One two."))
    with pytest.raises(WorkerError, match="does not follow the script"):
        HANDLER.finish(read, HANDLER.plan(read), (GpuResult("t", transcript(said(0, "One two.", 0.0))),))


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("Title\n=====\nBody", "Title\n\nBody"),
        ("## Two ##\n\n- one\n- *two*\n  goes on\n1. three\n", "\nTwo\n\none\ntwo goes on\nthree"),
        ("> quoted\n> more\n\n---\n\nend", "quoted more\n\n\n\nend"),
        ("a **b _c_** ~~d~~ `e` \\*f\\* snake_case 2 * 3 * 4", "a b c d e *f* snake_case 2 * 3 * 4"),
        ("![logo](x.png) [site][1] <b>bold</b> AT&amp;T[^1]\n\n[1]: http://x.y", "site bold AT&T\n\n"),
        ("---\ntitle: x\n---\nHello <!-- not\nthis --> you", "Hello  you"),
        ("```\ncode\n```\nafter\n~~~~\n~~~\n~~~~\nend", "after\nend"),
        ("| a | b |\n|---|:-:|\n| c | d |", "a b\nc d"),
        ("- [x] done\n+ next", "done\nnext"),
    ],
)
def test_markdown_loses_its_marks_only(document: str, text: str) -> None:
    assert [line for line in markdown_text(document).split("\n") if line] == [line for line in text.split("\n") if line]


def test_marks_without_end_take_linear_time() -> None:
    """Each of these would take hours where a pattern tries every beginning with every end."""
    for mark in ("*a", "[", "`x", "<!--", "_a ", "![", "> ", "| -"):
        assert markdown_text(mark * (2**20 // len(mark)) + "\nend").endswith("end")


def test_a_sharp_stays_in_a_heading():
    lines = markdown_text("# Programming in C#\n\n## The end ##").split("\n")
    assert [line for line in lines if line] == ["Programming in C#", "The end"]
