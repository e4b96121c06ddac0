"""A script put on a recording: what is told, what is left out, what is taken from recognition.

The ear is a rule here: a word is likely where it is said, by the words that the recording really has.
"""

from __future__ import annotations

import random
from difflib import SequenceMatcher
from itertools import pairwise

import pytest

from gpu_dispatch.transcript import Segment, Word
from gpu_dispatch.worker.speech.forced_alignment import ForcedWord
from gpu_dispatch.worker.speech.script import Scripted, follow_script
from manifests.errors import ScriptMismatch

WORD_S = 0.4
TEXT = (
    "The harbour lies at the end of a narrow valley where two rivers meet. Every morning the fishermen carry "
    "their nets to the boats and wait until the wind turns. An old woman sells bread from a wooden cart beside "
    "the church, and the children buy what is left when school begins. In winter nobody comes here, because the "
    "road across the mountain is closed by snow for weeks. Then the people mend their roofs, tell each other "
    "stories, and count the days until the first ship appears behind the lighthouse again."
)
NEW = ["purple", "engine", "quietly", "seventeen", "umbrella", "absurd"]


class Recording:
    """Words said one after the other, WORD_S each, and a recogniser that misunderstands some of them."""

    def __init__(self, said: list[str], misheard: dict[int, str] | None = None) -> None:
        self.said = said
        self.duration = len(said) * WORD_S
        heard = [(misheard or {}).get(k, word) for k, word in enumerate(said)]
        self.words = [
            Word(" " + w, round(k * WORD_S, 3), round((k + 1) * WORD_S, 3), 0.9) for k, w in enumerate(heard) if w
        ]

    def align(self, start: float, end: float, text: str) -> tuple[ForcedWord, ...]:
        first, last = round(start / WORD_S), round(end / WORD_S)
        said = [w.lower().strip(".,") for w in self.said[first : last + 1]]
        asked = text.split()
        blocks = SequenceMatcher(None, [w.lower().strip(".,") for w in asked], said, autojunk=False)
        at = {b.a + k: b.b + k for b in blocks.get_matching_blocks() for k in range(b.size)}
        silent = len(said) - len(at)
        words: list[ForcedWord] = []
        now = 0.0
        for k, word in enumerate(asked):
            now = max(now, at[k] * WORD_S) if k in at else now
            likely = -0.1 if k in at else -12.0
            words.append(
                ForcedWord(" " + word, now, now + WORD_S * (k in at), likely - 3.0 * silent / len(asked), likely)
            )
        return tuple(words)

    def follow(self, blocks: tuple[str, ...], *, keep: bool = False) -> Scripted:
        whole = Segment(0, 0.0, self.duration, "", tuple(self.words))
        return follow_script(blocks, [whole], self.duration, self.align, keep=keep)


def text_of(scripted: Scripted) -> str:
    return "".join(segment.text for segment in scripted.segments)


def check_times(scripted: Scripted) -> None:
    words = [word for segment in scripted.segments for word in segment.words]
    assert all(a.end <= b.start for a, b in pairwise(words))
    assert all(word.start <= word.end for word in words)


@pytest.mark.parametrize("seed", range(12))
def test_two_per_cent_changed_dropped_and_added_are_told(seed: int) -> None:
    rng = random.Random(seed)
    said = (TEXT + " " + TEXT.replace("the", "this")).split()
    script: list[str] = []
    told = {"unspoken": 0, "unwritten": 0, "changed": 0}
    since = 9
    for word in said:
        since += 1
        fate = rng.random() if since > 4 else 1.0
        if fate < 0.02:
            told["unspoken"] += 1
            script += [rng.choice(NEW), word]
        elif fate < 0.04:
            told["unwritten"] += 1
        elif fate < 0.06:
            told["changed"] += 1
            script.append(rng.choice(NEW))
        else:
            script.append(word)
            continue
        since = 0
    result = Recording(said).follow((" ".join(script),))
    report = result.report
    assert {name: getattr(report, name) for name in told} == told
    assert len(report.differences) == sum(told.values())
    check_times(result)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_misheard_comes_back_as_written_and_is_not_told(seed: int) -> None:
    rng = random.Random(seed)
    said = TEXT.split()
    misheard = {k: rng.choice(["", "mumble", said[k] + "s", said[k][::-1]]) for k in rng.sample(range(len(said)), 12)}
    result = Recording(said, misheard).follow((TEXT,))
    assert text_of(result) == TEXT
    assert (result.report.unspoken, result.report.unwritten, result.report.changed) == (0, 0, 0)
    starts = [word.start for segment in result.segments for word in segment.words]
    assert all(abs(start - k * WORD_S) <= WORD_S for k, start in enumerate(starts))


def test_a_paragraph_that_nobody_reads_shifts_nothing() -> None:
    first, second = TEXT.split(". ", 1)
    unread = "\nHere follows a long remark for the reader alone, with many words that are never heard by anyone at all."
    result = Recording(TEXT.split()).follow((first + ".", unread, "\n" + second))
    assert text_of(result) == f"{first}.\n\n{second}"
    assert result.report.unspoken == len(unread.split())
    assert [d.heard for d in result.report.differences] == [""]
    last = result.segments[-1].words[-1]
    assert last.end == pytest.approx(len(TEXT.split()) * WORD_S)


def test_a_passage_that_was_rewritten_is_taken_from_recognition() -> None:
    words = TEXT.split()
    other = [
        "nothing",
        "here",
        "has",
        "anything",
        "in",
        "common",
        "with",
        "whatever",
        "somebody",
        "finally",
        "recorded",
        "yesterday",
    ]
    result = Recording(words).follow((" ".join([*words[:20], *other, *words[32:]]),))
    assert text_of(result) == TEXT
    assert (result.report.unspoken, result.report.unwritten, result.report.changed) == (12, 12, 0)
    assert [bool(d.script) for d in result.report.differences] == [True, False]


def test_a_minute_that_was_rewritten_is_too_long_to_listen_to_and_decided_by_its_letters() -> None:
    said = [
        "zwölf",
        "grüne",
        "Boxkämpfer",
        "jagten",
        "Viktor",
        "quer",
        "über",
        "den",
        "Sylter",
        "Deich",
        "und",
        "sangen",
        "dabei",
    ] * 8
    page, tail = TEXT.split()[:60], TEXT.split()[60:]
    result = Recording([*page, *said, *tail]).follow((" ".join([*page, *NEW * 12, *tail]),))
    assert text_of(result).split() == [*page, *said, *tail]
    assert (result.report.unspoken, result.report.unwritten) == (72, len(said))
    check_times(result)


def test_an_engine_that_cannot_align_leaves_it_to_the_words() -> None:
    words = TEXT.split()
    said = [*words[:10], "mumble", *words[11:20], "well", "now", *words[20:30], *words[32:]]
    recording = Recording(said)
    heard = [Segment(0, 0.0, recording.duration, "", tuple(recording.words))]
    result = follow_script((TEXT,), heard, recording.duration, lambda _start, _end, _text: (), keep=False)
    assert text_of(result).split() == [*words[:20], "well", "now", *words[20:30], *words[32:]]
    assert (result.report.unspoken, result.report.unwritten, result.report.changed) == (2, 2, 1)


def test_an_aside_is_taken_from_recognition() -> None:
    aside = ["wait", "let", "me", "open", "this", "window", "first"]
    words = TEXT.split()
    result = Recording([*words[:20], *aside, *words[20:]]).follow((TEXT,))
    assert text_of(result) == " ".join([*words[:20], *aside, *words[20:]])
    (told,) = result.report.differences
    assert (told.script, told.heard, told.start) == ("", " ".join(aside), pytest.approx(20 * WORD_S))


def test_cues_are_all_kept_and_nothing_is_added() -> None:
    words = TEXT.split()
    cues = (" ".join(words[:30]), "♪", "[Applause]", " ".join(words[30:60]), "Never said at all.", " ".join(words[60:]))
    said = [*words[:10], "hello", "everybody", *words[10:]]
    result = Recording(said).follow(cues, keep=True)
    assert [segment.text.strip() for segment in result.segments] == list(cues)
    assert [" ".join(w.text.strip() for w in s.words) for s in result.segments] == list(cues)
    assert (result.report.unspoken, result.report.unwritten) == (5, 2)
    check_times(result)


def test_another_text_is_refused() -> None:
    other = "A committee of the parliament has decided on the budget of the coming year, and it is large. " * 3
    with pytest.raises(ScriptMismatch, match="not what the recording says"):
        Recording(TEXT.split()).follow((other,))
    with pytest.raises(ScriptMismatch, match="Nothing is said"):
        follow_script((TEXT,), [], 5.0, Recording([]).align, keep=False)


def test_a_script_of_a_whole_book_finds_the_page_that_is_read() -> None:
    rng = random.Random(3)
    page = TEXT.split()
    around = [" ".join(rng.choice(page + NEW) for _ in range(400)) for _ in range(2)]
    result = Recording(page).follow((around[0], "\n" + TEXT, "\n" + around[1]))
    assert TEXT[40:-40] in text_of(result)
    assert result.segments[-1].end <= len(page) * WORD_S
