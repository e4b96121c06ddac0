"""Documents that cost a careless reader much: many tags, many tiny cues, one giant line, endless nesting."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Shape = Callable[[int], bytes]
"""A document of about so many bytes."""

_SRT = "00:00:01,000 --> 00:00:02,000\n"
_VTT = "WEBVTT\n\n00:01.000 --> 00:02.000\n"
_ASS = "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
_EVENT = "Dialogue: 0,0:00:01.00,0:00:02.00,D,,0,0,0,,"


def _filled(unit: str, head: str = "", tail: str = "") -> Shape:
    def made(size: int) -> bytes:
        return (head + unit * max(1, (size - len(head) - len(tail)) // len(unit.encode())) + tail).encode()

    return made


def _numbered(cue: Callable[[int], str], head: str = "") -> Shape:
    def made(size: int) -> bytes:
        return (head + "".join(map(cue, range(max(1, size // len(cue(0))))))).encode()

    return made


def _clock(i: int, sign: str = ",") -> str:
    return f"{i // 36000 % 100:02d}:{i // 600 % 60:02d}:{i // 10 % 60:02d}{sign}{i % 10}00"


def _cues(text: str, sign: str = ",") -> Callable[[int], str]:
    return lambda i: f"{_clock(i, sign)} --> {_clock(i + 1, sign)}\n{i % 7}{text}\n\n"


def _event(text: str) -> Callable[[int], str]:
    return lambda i: f"Dialogue: 0,{_clock(i, '.')[1:]},{_clock(i + 1, '.')[1:]},D,,0,0,0,,{i % 7}{text}\n"


_FULL_CUE = " a b c d e f g h i j k l m n o p q r s t u v w x y z" * 36

SUBTITLES: Mapping[str, Mapping[str, Shape]] = {
    "srt": {
        "cues of one letter": _numbered(_cues("a")),
        "cues full of words": _numbered(_cues(_FULL_CUE)),
        "cues of a few words": _numbered(_cues(_FULL_CUE[:170])),
        "cues of ideographs": _numbered(_cues("字" * 1900)),
        "one giant line": _filled("a ", _SRT),
        "a giant line of ideographs": _filled("字", _SRT),
        "a giant timing line": _filled(" ", "00:00:01,000 -->"),
        "digits without end": _filled("1"),
        "almost timings": _filled("1:", "1"),
        "empty lines": _filled("\n", _SRT + "a\n"),
        "carriage returns": _filled("\r", _SRT + "a\n"),
        "no line end": _filled("a"),
        "timings of one moment": _filled(_SRT + "ab\n"),
        "timings without text": _filled(_SRT),
        "tags": _filled("<i>", _SRT),
        "open tags": _filled("<font ", _SRT),
        "open braces": _filled("{\\", _SRT),
        "unseen signs": _filled("\u200b", _SRT),
        "marks on one letter": _filled("\u0301", _SRT + "a"),
        "bare numbers": _filled("1\n", _SRT),
    },
    "vtt": {
        "cues of one letter": _numbered(_cues("a", "."), "WEBVTT\n\n"),
        "cues full of words": _numbered(_cues(_FULL_CUE, "."), "WEBVTT\n\n"),
        "cues full of entities": _numbered(_cues("&a" * 950, "."), "WEBVTT\n\n"),
        "one giant line": _filled("a ", _VTT),
        "timestamps": _filled("<00:01.000>a", _VTT),
        "timestamps, many lines": _filled("<00:01.000>a\n", _VTT),
        "open tags": _filled("<a", _VTT),
        "entities": _filled("&amp;", _VTT),
        "half entities": _filled("&abcdefghijklmnopqrstuvwxyzabcdef", _VTT),
        "a giant entity": _filled("1", _VTT + "&#", ";\n"),
        "notes": _filled("NOTE a\n\n", "WEBVTT\n\n"),
        "empty lines": _filled("\n", "WEBVTT\n\n"),
    },
    "ass": {
        "events of one letter": _numbered(_event("a"), _ASS),
        "events full of words": _numbered(_event(_FULL_CUE), _ASS),
        "one syllable in pieces": _filled("a{}", _ASS + _EVENT + "{\\k1}"),
        "syllables": _filled("{\\k1}a", _ASS + _EVENT),
        "syllables and pieces": _filled("{\\k1}a{}", _ASS + _EVENT),
        "syllables of no length": _filled("{\\k0}a", _ASS + _EVENT),
        "syllables in one block": _filled("\\k1", _ASS + _EVENT + "{", "}a"),
        "line breaks": _filled("\\N", _ASS + _EVENT + "a"),
        "lines of one letter": _filled("a\\N", _ASS + _EVENT),
        "escapes": _filled("\\{", _ASS + _EVENT),
        "open braces": _filled("{", _ASS + _EVENT),
        "open braces and text": _filled("{a", _ASS + _EVENT),
        "a drawing": _filled("m 0 0 l 1 1 ", _ASS + _EVENT + "{\\p1}"),
        "events of one moment": _filled(_EVENT + "a\n", _ASS),
        "events of one moment, in turns": _filled(_EVENT + "a\n" + _EVENT + "b\n", _ASS),
        "events that repeat a full cue": _filled(_EVENT + "a\\N" * 990 + "\n", _ASS),
        "fields without end": _filled("text,", "[Events]\nFormat: ", "\n" + _EVENT + "a\n"),
        "other lines": _filled("a\n", _ASS),
    },
    "words.json": {
        "words": _filled('{"word":"a","start":1,"end":2},', '{"words":[', "{}]}"),
        "empty objects": _filled("{},", '{"words":[', "{}]}"),
        "numbers": _filled("1,", '{"words":[', "1]}"),
        "one giant word": _filled("a", '[{"word":"', '","start":0,"end":1}]'),
        "a giant word with blanks": _filled("a ", '[{"word":"', '","start":0,"end":1}]'),
        "one giant segment": _filled("a ", '{"segments":[{"start":0,"end":9,"text":"', '"}]}'),
        "a segment of words": _filled(
            '{"word":"a","start":1,"end":2},', '{"segments":[{"text":"' + "a " * 200_000 + '","words":[', "{}]}]}"
        ),
        "segments": _filled('{"start":0,"end":1,"text":"a"},', '{"segments":[', "{}]}"),
        "one moment": _filled('{"word":"a","start":0,"end":0},', '{"words":[', "{}]}"),
        "deep lists": _filled("["),
        "deep objects": _filled('{"a":', '{"words":'),
        "a giant number": _filled("1", '[{"word":"a","start":', "}]"),
        "one giant text": _filled("a", '{"a":"'),
    },
    "lrc": {
        "lines": _filled("[00:01.00]a\n"),
        "stamps": _filled("[00:01.00]"),
    },
    "txt": {"lines": _filled("a\n"), "blanks": _filled(" ")},
}

_IMAGES = '{"images":['
MANIFESTS: Mapping[str, Mapping[str, Shape]] = {
    "job.json": {
        "images": _filled('{"image":"a","duration":1},', _IMAGES, '{"image":"a","duration":1}]}'),
        "bad images": _filled('{"i":1},', _IMAGES, "1]}"),
        "numbers": _filled("1,", '{"audio":"a","metadata":{"a":[', "1]}}"),
        "names": _numbered(lambda i: f'"{i:07d}":1,', "{"),
        "one name": _filled('"a":1,', "{", '"a":1}'),
        "open texts": _filled('"', "{"),
        "escapes": _filled("\\n", '{"audio":"'),
        "deep": _filled("["),
        "a giant number": _filled("1", '{"audio":', "}"),
        "surrogates": _filled("\\ud800", '{"audio":"', '"}'),
        "a text": _filled("a", '{"audio":"', '"}'),
        "base64": _filled("A ", '{"audio_base64":"', '"}'),
        "blanks": _filled(" "),
        "a giant address": _filled("a.", '{"audio":"https://', '"}'),
        "a giant path": _filled("../", '{"audio":"', 'a"}'),
        "tokens": _filled("1,", '{"audio":"a","suppress_tokens":"', '1"}'),
    },
    "job.yaml": {
        "images": _filled("- {image: a, duration: 1}\n", "images:\n"),
        "numbers": _filled("1,", "audio: a\nmetadata: {a: [", "1]}\n"),
        "short lists": _filled("[],", "metadata: {a: [", "[]]}\n"),
        "names": _numbered(lambda i: f"a{i:07d}: 1\n"),
        "deep": _filled("["),
        "indented": _filled("- "),
        "anchors": _filled("&a ", "audio: "),
        "aliases": _filled("*a,", "audio: [", "*a]"),
        "comments": _filled("#\n"),
        "documents": _filled("---\n"),
        "open quotes": _filled("'", "a: "),
        "a block": _filled("a\n ", "audio: |\n "),
        "a folded text": _filled("a\n\n ", "audio: >\n "),
        "blanks": _filled(" ", "audio:"),
        "tabs": _filled("\t", "audio:"),
        "a plain text": _filled("a ", "audio: "),
        "questions": _filled("? "),
        "flow that does not end": _filled("a: ", "{"),
    },
    "job.csv": {
        "rows": _filled("a;1\n", "image;duration\n"),
        "cells": _filled("a;"),
        "quotes": _filled('"'),
        "an open quote": _filled("a\n", '"'),
        "empty lines": _filled("\n", "a;1"),
        "columns": _filled("image;", "image;"),
    },
}
