"""Makes a transcript's words those of a script that the user has, at the times of the recording."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from gpu_dispatch.transcript import ScriptDifference, ScriptReport, Segment, Word
from gpu_dispatch.worker.speech.forced_alignment import ForcedReader
from gpu_dispatch.worker.speech.postprocess import monotonic
from gpu_dispatch.worker.speech.script_findings import Findings
from gpu_dispatch.worker.speech.script_judge import ScriptJudge
from gpu_dispatch.worker.speech.script_places import ScriptPlaces, Timing, find_places
from gpu_dispatch.worker.speech.script_words import ScriptWord, script_words
from manifests.errors import ScriptMismatch

LEAST_OVERLAP = 0.2
"""Share of the shorter text that must agree in runs of three words. Two texts of one language share less than 0.05; at
a word error rate of 40 % a text and its recording still share 0.3."""

MAX_DIFFERENCES = 50
"""Places listed; the rest are counted."""

DIFFERENCE_CHARACTERS = 200
"""Of each text of a place."""

UNSAID_LETTER_S = 0.06
"""Seconds a letter that a cue without sound is given, where there is room: about 16 letters a second."""


@dataclass(frozen=True, slots=True)
class Scripted:
    """A recording with the words of its script."""

    segments: tuple[Segment, ...]
    """One for each block that is said; with `keep`, one for each block."""
    report: ScriptReport


@dataclass(frozen=True, slots=True)
class _Placed:
    """A word of the result."""

    text: str
    lead: str
    block: int
    timing: Timing


def follow_script(
    blocks: tuple[str, ...], heard: Sequence[Segment], duration: float, read: ForcedReader, *, keep: bool
) -> Scripted:
    """Replaces what was recognised by the script, word by word.

    Words that are never said are left out, or with `keep` given a place; words that are said but not written are taken
    from recognition, unless `keep`. Raises ScriptMismatch when the script is another text.
    """
    script = script_words(blocks)
    spoken = [word for segment in heard for word in segment.words]
    places = find_places(script, spoken)
    if places.overlap < LEAST_OVERLAP:
        raise _mismatch(places.overlap, spoken) if spoken else nothing_said()
    found = ScriptJudge(script, spoken, places, duration, read).findings()
    timings = [t or found.said.get(k) for k, t in enumerate(places.timings)]
    if keep:
        timings = _with_unsaid(script, timings, duration)
    placed = _placed(script, timings, {} if keep else found.unwritten, spoken)
    segments = [_segment(blocks, number, list(words)) for number, words in groupby(placed, key=lambda each: each.block)]
    if keep:
        segments = _every_block(blocks, segments)
    kept = [_judged(segment, heard) for segment in monotonic(segments, duration)]
    return Scripted(
        tuple(replace(segment, id=k) for k, segment in enumerate(kept)), _report(script, timings, spoken, places, found)
    )


def _placed(
    script: Sequence[ScriptWord], timings: Sequence[Timing | None], extra: dict[int, range], heard: Sequence[Word]
) -> Iterator[_Placed]:
    block = script[0].block if script else 0
    for k in range(len(script) + 1):
        for word in heard[extra[k].start : extra[k].stop] if k in extra else ():
            lead = " " if word.text[:1].isspace() else ""
            yield _Placed(word.text.strip(), lead, block, Timing(word.start, word.end, word.probability))
        if k < len(script):
            timing = timings[k]
            block = script[k].block
            if timing:
                yield _Placed(script[k].text, script[k].lead, block, timing)


def _segment(blocks: tuple[str, ...], number: int, words: Sequence[_Placed]) -> Segment:
    """Makes a segment of a block's words; its text keeps the block's line ends, its words have spaces instead."""
    blank = "\n" if blocks[number].startswith("\n") else ""
    first = f"\n{blank}" if number else blank
    text = first + "".join((each.lead if n else "") + each.text for n, each in enumerate(words))
    timed = tuple(
        Word((" " if e.lead else "") + " ".join(e.text.split()), e.timing.start, e.timing.end, e.timing.probability)
        for e in words
    )
    return Segment(number, timed[0].start, timed[-1].end, text, timed)


def _every_block(blocks: tuple[str, ...], segments: Sequence[Segment]) -> list[Segment]:
    """Adds blocks of which nothing can be said, such as a note sign, where the block before them ends."""
    known = {segment.id: segment for segment in segments}
    result: list[Segment] = []
    now = 0.0
    for number, block in enumerate(blocks):
        unsaid = Word(" " + " ".join(block.split()), now, now, 0.0)
        segment = known.get(number) or Segment(number, now, now, "\n" * bool(number) + block, (unsaid,))
        now = segment.end
        result.append(segment)
    return result


def _judged(segment: Segment, heard: Sequence[Segment]) -> Segment:
    """Gives a segment the recogniser's measures of the one that it begins in."""
    near = heard[max(0, bisect_right(heard, segment.start, key=lambda each: each.start) - 1)]
    return replace(
        near, id=segment.id, start=segment.start, end=segment.end, text=segment.text, words=segment.words, tokens=()
    )


def _with_unsaid(
    script: Sequence[ScriptWord], timings: Sequence[Timing | None], duration: float
) -> list[Timing | None]:
    """Places the words that are not said behind those before them, as far as there is room."""
    result = list(timings)
    k = 0
    while k < len(result):
        if result[k]:
            k += 1
            continue
        end = next((n for n in range(k, len(result)) if result[n]), len(result))
        before, after = (result[k - 1] if k else None), (result[end] if end < len(result) else None)
        start = before.end if before else 0.0
        limit = after.start if after else duration
        letters = sum(len(script[n].text) for n in range(k, end))
        pace = min(UNSAID_LETTER_S, max(0.0, limit - start) / letters)
        for n in range(k, end):
            result[n] = Timing(start, start + pace * len(script[n].text), 0.0)
            start += pace * len(script[n].text)
        k = end
    return result


def _report(
    script: Sequence[ScriptWord],
    timings: Sequence[Timing | None],
    heard: Sequence[Word],
    places: ScriptPlaces,
    found: Findings,
) -> ScriptReport:
    told = sorted(_differences(script, timings, heard, places, found), key=lambda each: each.start)
    return ScriptReport(
        words=len(script),
        unspoken=len(found.unsaid),
        unwritten=sum(map(len, found.unwritten.values())),
        changed=len(found.changed),
        differences=tuple(told[:MAX_DIFFERENCES]),
    )


def _differences(
    script: Sequence[ScriptWord],
    timings: Sequence[Timing | None],
    heard: Sequence[Word],
    places: ScriptPlaces,
    found: Findings,
) -> Iterator[ScriptDifference]:
    for gap in places.gaps:
        before = places.timings[gap.first - 1] if gap.first else None
        said = heard[gap.heard : gap.heard_end]
        start = said[0].start if said else before.end if before else 0.0
        unsaid = [k for k in gap.written if k in found.unsaid]
        changed = [k for k in gap.written if k in found.changed]
        extra = next((found.unwritten[k] for k in range(gap.first, gap.end + 1) if k in found.unwritten), range(0))
        if unsaid:
            yield _difference(start, _written(script, unsaid), "")
        if changed:
            first = timings[changed[0]]
            yield _difference(first.start if first else start, _written(script, changed), _text(said))
        if extra and gap.heard <= extra.start:
            yield _difference(heard[extra.start].start, "", _text(heard[extra.start : extra.stop]))


def _written(script: Sequence[ScriptWord], words: Sequence[int]) -> str:
    return "".join(script[k].spaced for k in words).strip()


def _difference(start: float, script: str, heard: str) -> ScriptDifference:
    return ScriptDifference(round(start, 3), script[:DIFFERENCE_CHARACTERS], heard[:DIFFERENCE_CHARACTERS])


def _text(words: Sequence[Word]) -> str:
    return "".join(word.text for word in words).strip()


def nothing_said() -> ScriptMismatch:
    return ScriptMismatch(
        "Nothing is said in the recording, so its text cannot be placed.",
        hint="Check that the recording is the right one, or leave the text out.",
        where="script",
    )


def _mismatch(overlap: float, spoken: Sequence[Word]) -> ScriptMismatch:
    begin = _text(spoken[:12])
    return ScriptMismatch(
        f"The text is not what the recording says: {overlap:.0%} of it agrees, {LEAST_OVERLAP:.0%} are needed."
        f" The recording begins with {begin[:DIFFERENCE_CHARACTERS]!r}.",
        hint="Name the text of this recording, in the language that is spoken there.",
        where="script",
    )
