"""Decides by ear what became of script words that recognition does not show: said, never said, or something else said.

The model lays the script on the sound around each gap. A word that is not said there is far less likely than one that
was merely heard wrongly; leaving it out, or putting in what was heard, makes the whole text likelier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from gpu_dispatch.transcript import Word
from gpu_dispatch.worker.speech.forced_alignment import ForcedReader
from gpu_dispatch.worker.speech.script_findings import Findings, ScriptReading
from gpu_dispatch.worker.speech.script_places import ScriptGap, ScriptPlaces, Timing
from gpu_dispatch.worker.speech.script_words import ScriptWord, atoms_of, likeness

WINDOW_S = 28.0
"""Longest sound that is looked at as one; the model takes 30 s."""

CONTEXT_WORDS = 12
"""Words around a gap that agree: the model needs some to judge one."""

UNSAID = -7.5
"""Logarithm of the probability below which a word's least likely token shows that it is not said. On read speech with
words put in (tiny.en), such words have -9.4 and less, words that were only heard wrongly -6.1 and more."""

EXTRA_GAIN = 1.0
"""How much likelier, as a logarithm, words must make the whole text to count as said though they are not written: on
read speech without them (tiny.en) words that were said gave 1.3 to 21."""

DISPUTED_GAIN = 6.0
"""The same where the script has other words in their place, of which they may be a misunderstanding."""

PASSAGE_WORDS = 4
"""So many words that differ from as many others may be another passage, which is not said at all."""

PASSAGE_GAIN = 2.5
"""How much likelier, for each written word, what was heard must be. Words that were heard wrongly gave at most 1.5."""

ALIKE = 0.25
"""Likeness of letters from which a passage counts as misheard, where it is too long to listen to at once."""

FAST = 1.3
"""A gap with more letters a second than this many times the speaker's own rate holds words that are not said."""

NEAR_S = 2.0
"""Seconds around what was heard in a gap in which its script words are searched."""

UNHEARD_S = 20.0
"""Seconds after the word before a gap in which words are searched of which nothing was heard."""

ROUNDS = 24
"""Most times that words are left out of one window, one of each gap at a time."""

FASTEST = 40.0
"""Letters a second that nobody reaches: a longer script is not said in the time of its gap."""


@dataclass(frozen=True, slots=True)
class _Window:
    """Neighbouring gaps with words around them, and their sound."""

    gaps: tuple[ScriptGap, ...]
    first: int
    last: int
    """Index after the last script word."""
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class ScriptJudge:
    """The gaps of one script in one recording."""

    script: Sequence[ScriptWord]
    heard: Sequence[Word]
    places: ScriptPlaces
    duration: float
    read: ForcedReader

    def findings(self) -> Findings:
        found = Findings()
        rate = self._rate()
        for window in self._windows(found):
            self._judge(window, rate, found)
        return found

    def _rate(self) -> float:
        """Returns the speaker's letters a second."""
        said = [
            len("".join(word.atoms)) / (timing.end - timing.start)
            for word, timing in zip(self.script, self.places.timings, strict=True)
            if timing and timing.end - timing.start >= 0.05
        ]
        return median(said) if said else 15.0

    def _windows(self, found: Findings) -> Iterator[_Window]:
        """Yields the gaps that are to be listened to, neighbours together; decides the others at once."""
        waiting: _Window | None = None
        for gap in self.places.gaps:
            if self._is_decided(gap, found):
                both, own = None, None
            else:
                own = self._window((gap,))
                both = self._window((*waiting.gaps, gap)) if waiting else own
            if waiting and (both is None or both.end - both.start > WINDOW_S):
                yield waiting
                both = own
            waiting = both
        if waiting:
            yield waiting

    def _is_decided(self, gap: ScriptGap, found: Findings) -> bool:
        """Decides a gap that is too long to listen to, or whose script is too long to be said there."""
        room = self._high(gap) - self._low(gap)
        decided = room > WINDOW_S or self._is_too_much(gap, room)
        if decided:
            self._guess(gap, found)
        return decided

    def _window(self, gaps: tuple[ScriptGap, ...]) -> _Window:
        """Returns the gaps with up to CONTEXT_WORDS that agree on either side."""
        timings = self.places.timings
        first, last = gaps[0].first, gaps[-1].end
        start, end = self._low(gaps[0]), self._high(gaps[-1])
        before = first if start <= self._before(gaps[0]) else 0
        after = len(timings) - last if end >= self._after(gaps[-1]) else 0
        for k in range(first - 1, max(-1, first - 1 - min(before, CONTEXT_WORDS)), -1):
            timing = timings[k]
            if timing is None or end - timing.start > WINDOW_S:
                break
            first, start = k, timing.start
        for k in range(last, last + min(after, CONTEXT_WORDS)):
            timing = timings[k]
            if timing is None or timing.end - start > WINDOW_S:
                break
            last, end = k + 1, timing.end
        return _Window(gaps, first, last, max(0.0, start - 0.1), min(self.duration, end + 0.2))

    def _low(self, gap: ScriptGap) -> float:
        """Returns from when on the words of a gap may be said: near what was heard, else after the word before."""
        heard = self.heard[gap.heard : gap.heard_end]
        return max(self._before(gap), heard[0].start - NEAR_S) if heard else self._before(gap)

    def _high(self, gap: ScriptGap) -> float:
        heard = self.heard[gap.heard : gap.heard_end]
        return min(self._after(gap), heard[-1].end + NEAR_S if heard else self._before(gap) + UNHEARD_S)

    def _before(self, gap: ScriptGap) -> float:
        timing = self.places.timings[gap.first - 1] if gap.first else None
        return timing.end if timing else 0.0

    def _after(self, gap: ScriptGap) -> float:
        timing = self.places.timings[gap.end] if gap.end < len(self.script) else None
        return timing.start if timing else self.duration

    def _is_too_much(self, gap: ScriptGap, room: float) -> bool:
        return self._letters(gap.written) > FASTEST * (room + 1.0)

    def _letters(self, words: Iterable[int]) -> int:
        return sum(len(atom) for k in words for atom in self.script[k].atoms)

    def _guess(self, gap: ScriptGap, found: Findings) -> None:
        """Decides a gap without listening: by what was heard there."""
        written = "".join(atom for k in gap.written for atom in self.script[k].atoms)
        said = "".join(atom for word in self.heard[gap.heard : gap.heard_end] for atom in atoms_of(word.text))
        is_passage = min(len(gap.written), gap.heard_end - gap.heard) >= PASSAGE_WORDS
        if not written or len(said) * 2 < len(written) or (is_passage and likeness(written, said) < ALIKE):
            found.unsaid |= set(gap.written)
            if said:
                found.unwritten[gap.first] = range(gap.heard, gap.heard_end)
            return
        found.changed |= set(gap.written)
        found.said |= self._spread(gap.written, self.heard[gap.heard].start, self.heard[gap.heard_end - 1].end)

    def _spread(self, words: Sequence[int], start: float, end: float) -> dict[int, Timing]:
        whole, done = max(1, self._letters(words)), 0
        result: dict[int, Timing] = {}
        for k in words:
            begin = start + (end - start) * done / whole
            done += self._letters([k])
            result[k] = Timing(begin, start + (end - start) * done / whole, 0.5)
        return result

    def _judge(self, window: _Window, rate: float, found: Findings) -> None:
        kept = list(range(window.first, window.last))
        reading = self._reading(window, kept, {})
        if not reading.least:  # the engine cannot align, or the text is too long for it
            for gap in window.gaps:
                self._guess(gap, found)
            return
        extra: dict[int, range] = {}
        for gap in window.gaps:
            other = self._replaced(window, gap, kept, reading, extra)
            if other:
                reading = other
                if gap.heard_end > gap.heard:
                    extra[gap.end] = range(gap.heard, gap.heard_end)
                kept = [k for k in kept if k not in gap.written]
                found.unsaid |= set(gap.written)
        for _ in range(ROUNDS):
            worst = {k for gap in window.gaps if (k := self._worst(gap, reading, rate)) is not None}
            if not worst:
                break
            found.unsaid |= worst
            kept = [k for k in kept if k not in worst]
            reading = self._reading(window, kept, extra)
        for gap in window.gaps:
            if gap_extra(gap, extra):
                continue
            reading, extra = self._with_extra(window, gap, kept, reading, extra)
        found.unwritten |= extra
        stay = set(kept)
        for gap in window.gaps:
            self._settle(gap, [k for k in gap.written if k in stay], reading, gap_extra(gap, extra), found)

    def _replaced(
        self, window: _Window, gap: ScriptGap, kept: Sequence[int], reading: ScriptReading, extra: dict[int, range]
    ) -> ScriptReading | None:
        """Returns the reading with what was heard in a gap instead of what is written, where that is another passage.

        Figures that were heard as words, and the reverse, are about as likely as they are written.
        """
        heard = range(gap.heard, gap.heard_end)
        fewest = PASSAGE_WORDS if heard else 2
        if len(gap.written) < fewest or 0 < len(heard) < fewest:
            return None
        others = [k for k in kept if k not in gap.written]
        other = self._reading(window, others, {**extra, gap.end: heard} if heard else extra)
        return other if other.likely - reading.likely > PASSAGE_GAIN * len(gap.written) else None

    def _worst(self, gap: ScriptGap, reading: ScriptReading, rate: float) -> int | None:
        """Returns the least likely word of a gap that has more words than were heard there; None: all may stay."""
        own = [k for k in gap.written if k in reading.least]
        heard = self.heard[gap.heard : gap.heard_end]
        atoms = sum(len(atoms_of(word.text)) for word in heard)
        if sum(len(self.script[k].atoms) for k in own) <= atoms:
            return None
        if heard and self._letters(own) <= FAST * rate * max(0.05, heard[-1].end - heard[0].start):
            return None
        worst = min(own, key=lambda k: reading.least[k])
        return worst if reading.least[worst] < UNSAID else None

    def _with_extra(
        self, window: _Window, gap: ScriptGap, kept: Sequence[int], reading: ScriptReading, extra: dict[int, range]
    ) -> tuple[ScriptReading, dict[int, range]]:
        """Adds the heard words of a gap that are not written, where they make the text much likelier."""
        own = [k for k in gap.written if k in reading.least]
        surplus = gap.heard_end - gap.heard - len(own)
        if surplus <= 0:
            return reading, extra
        before = {own[0] if own else gap.end: range(gap.heard, gap.heard + surplus)}
        after = {gap.end: range(gap.heard_end - surplus, gap.heard_end)} if own else before
        for trial in (before, after):
            other = self._reading(window, kept, {**extra, **trial})
            if other.likely - reading.likely > (DISPUTED_GAIN if own else EXTRA_GAIN):
                return other, {**extra, **trial}
        return reading, extra

    def _settle(
        self, gap: ScriptGap, own: Sequence[int], reading: ScriptReading, extra: range | None, found: Findings
    ) -> None:
        """Times the words of a gap that are said."""
        heard = [w for k, w in enumerate(self.heard[gap.heard : gap.heard_end], gap.heard) if k not in (extra or ())]
        low, high = self._before(gap), self._after(gap)
        if not own:
            return
        if heard:
            found.changed |= {k for k in own if reading.least.get(k, 0.0) < UNSAID}
            if len(heard) == len(own):
                found.said |= {k: Timing(w.start, w.end, w.probability) for k, w in zip(own, heard, strict=True)}
                return
            low, high = max(low, heard[0].start), min(high, heard[-1].end)
        timings = {k: reading.timings[k] for k in own if k in reading.timings}
        if len(timings) < len(own) or high - low < 0.02 * self._letters(own):
            timings = self._spread(own, low, max(low, high))
        for k in own:
            start = min(max(timings[k].start, low), high)
            found.said[k] = Timing(start, min(max(timings[k].end, start), high), timings[k].probability)

    def _reading(self, window: _Window, kept: Sequence[int], extra: dict[int, range]) -> ScriptReading:
        """Lays the words `kept` on the window's sound, with the heard words `extra` among them."""
        texts: list[str] = []
        owners: list[int] = []
        for k in (*kept, window.last):
            for word in self.heard[extra[k].start : extra[k].stop] if k in extra else ():
                texts.append(word.text)
                owners.append(-1)
            if k < window.last:
                texts.append(self.script[k].spaced)
                owners.append(k)
        # An extra's own place may have been left out.
        return ScriptReading.of(self.read(window.start, window.end, "".join(texts)), texts, owners, window.start)


def gap_extra(gap: ScriptGap, extra: dict[int, range]) -> range | None:
    """Returns the heard words that were added in a gap."""
    return next((extra[k] for k in range(gap.first, gap.end + 1) if k in extra and extra[k].start >= gap.heard), None)
