"""How good a line's end between two words is: by punctuation, pauses, grammar, names and numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from handlers.subtitles.language_words import (
    CLOSING,
    INNER,
    NUMBER_WORDS,
    NUMBERED,
    PARTICLES,
    TITLES,
    UNITS,
    LanguageWords,
    words_of,
)
from handlers.subtitles.model import TimedWord
from handlers.subtitles.phrases import phrase_cost, phrase_starts
from handlers.subtitles.text import ends_clause, ends_sentence, is_spaceless

SENTENCE = 0.0
CLAUSE = 6.0
OPENER = 14.0
"""Before a word that begins a phrase."""
OTHER = 25.0
ATTRIBUTE = 38.0
"""After what is probably an adjective: the word after an article, before another noun."""
WEAK = 75.0
JOINED = 90.0

_PAUSE_MS = 150
"""A pause below this says nothing."""
_TELLING_MS = 1500
"""A pause this long parts even what belongs together."""
_NEW_SENTENCE_MS = 250
_EMPHASIS = 5
"""Words in capitals, one after another, that are more than a name or a heading's."""

_AFTER_INITIALS_MS = 600
"""A pause that ends a sentence between initials and a capital: voices rest some 250 ms within "the U.S. Embassy"."""

_NUMBER = re.compile(r"[(\"“«]?(?:US|R|[A-Z])?[$€£¥#]?[+\-−]?\d[\d.,:/\u00a0\u202f]*")
_ORDINAL = re.compile(r"\d{1,2}\.")
"""In German, where nouns have capitals: "5. Mai"."""
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+(?:[^\W\d_]\.?)?")
_EDGES = "\"'“”‘’«»()[]{}¿¡「」『』（）.,;:!?…。、，！？；：—–-"
_DASH = ("—", "–")
_OPENING = re.compile(r"^[\"'“‘«(\[¿¡—–-]+")


@dataclass(frozen=True, slots=True)
class Break:
    """The place before a word."""

    cost: float
    """From SENTENCE, the best, to JOINED."""
    sentence: bool = False
    """Whether a sentence has ended."""
    bound: bool = False
    """Whether a break would be inside a name, a number with its unit, or a word."""


_BOUND = Break(JOINED, bound=True)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    core: str
    """In lower case, without punctuation around it."""
    capital: bool
    number: bool
    closed: bool
    """Whether punctuation ends it."""

    @classmethod
    def of(cls, word: TimedWord) -> _Token:
        text = word.text.strip()
        core = text.strip(_EDGES)
        return cls(
            text=text,
            core=core.casefold().replace("’", "'"),
            capital=core[:1].isupper(),
            number=_NUMBER.fullmatch(text.rstrip(_EDGES)) is not None,
            closed=ends_clause(text) or text.endswith(_DASH),
        )


def breaks_of(words: Sequence[TimedWord], language: str) -> list[Break]:
    """Returns the break before each word; that before the first one is a sentence's."""
    return _BreakFinder(words, language).all() if words else []


class _BreakFinder:
    def __init__(self, words: Sequence[TimedWord], language: str) -> None:
        self._words = words
        self._known: LanguageWords = words_of(language)
        self._functional = self._known.functional
        self._tokens = _calmed([_Token.of(word) for word in words])
        self._german = language.lower().startswith("de")
        self._particles = frozenset({"von", "van", "zu", "de"}) if self._german else PARTICLES
        cased = [t for t in self._tokens if t.core[:1].isalpha() and t.core[:1].upper() != t.core[:1]]
        capitals = sum(t.capital for t in cased)
        self._names = capitals * 2 < len(cased) or len(cased) < 6
        """False for titles and capitals throughout, which show no names."""
        self._cased = capitals > 0
        self._phrases = self._phrase_offsets(language)

    def all(self) -> list[Break]:
        return [Break(SENTENCE, sentence=True), *(self._before(i) for i in range(1, len(self._words)))]

    def _phrase_offsets(self, language: str) -> list[bool] | None:
        """Returns for each word whether a phrase begins with it; None for text without such scripts."""
        if not any(is_spaceless(token.text) for token in self._tokens):
            return None
        starts = phrase_starts("".join(word.text for word in self._words), language)
        at, found = 0, list[bool]()
        for word in self._words:
            found.append(at in starts)
            at += len(word.text)
        return found

    def _before(self, i: int) -> Break:
        left, right = self._tokens[i - 1], self._tokens[i]
        pause = self._words[i].start_ms - self._words[i - 1].end_ms
        if not self._words[i].text.startswith(" "):
            return self._unspaced(i, pause)
        if self._ends_sentence(i, pause):
            return Break(SENTENCE, sentence=True)
        if pause < _TELLING_MS and self._is_bound(i):
            return _BOUND
        if left.closed and not self._abbreviates(left, right):
            return Break(CLAUSE)
        return Break(_heard(self._grammar(i, left, right), pause))

    def _grammar(self, i: int, left: _Token, right: _Token) -> float:
        known, functional = self._known, self._functional
        elided = left.core.rpartition("'")[2]
        if left.core in known.joined or elided in known.joined or left.number:
            return JOINED
        if left.core in known.weak or elided in known.weak or not elided or left.core in NUMBER_WORDS:
            return WEAK
        if not functional:
            return WEAK if len(left.core) <= 2 and left.core.isalpha() else OTHER
        if right.core in known.openers:
            return OPENER
        determined = i > 1 and self._tokens[i - 2].core in known.joined and not self._tokens[i - 2].closed
        return ATTRIBUTE if determined and right.core not in functional else OTHER

    def _unspaced(self, i: int, pause: int) -> Break:
        """Returns the break between two words without a space between: inside a word, unless a phrase ends there."""
        left, right = self._tokens[i - 1].text, self._tokens[i].text
        if not (is_spaceless(left[-1:]) or is_spaceless(right[:1]) or ends_clause(left)):
            return _BOUND
        if ends_sentence(left) and not (left[-1:] == "." and right[:1].isdigit()):
            return Break(SENTENCE, sentence=True)
        if ends_clause(left):
            return Break(CLAUSE)
        if self._phrases is None or not self._phrases[i]:
            return _BOUND if pause < _TELLING_MS else Break(OTHER)
        before = "".join(word.text for word in self._words[max(0, i - 4) : i])
        after = "".join(word.text for word in self._words[i : i + 4])
        return Break(_heard(10 + 30 * phrase_cost(before, after), pause))

    def _ends_sentence(self, i: int, pause: int) -> bool:
        left, right = self._tokens[i - 1], self._tokens[i]
        if not ends_sentence(left.text):
            return False
        if not left.text.rstrip("\"'”’»)]").endswith("."):
            return True
        if self._abbreviates(left, right):
            return False
        begins = (
            right.capital or not right.core[:1].isalpha() or not self._cased or right.core[:1].upper() == right.core[:1]
        )
        if left.core in CLOSING or _INITIALS.fullmatch(left.text):
            least = _AFTER_INITIALS_MS if _is_land(left) and self._is_part(right) else _NEW_SENTENCE_MS
            return begins and (right.core in self._functional or pause >= least)
        return begins or pause >= _NEW_SENTENCE_MS

    def _abbreviates(self, left: _Token, right: _Token) -> bool:
        """Returns whether the period after `left` is an abbreviation's, which never ends anything."""
        if not left.text.endswith("."):
            return False
        if self._german and _ORDINAL.fullmatch(left.text):
            return right.capital
        if left.core in TITLES:
            return right.capital or right.core in self._particles
        if left.core in NUMBERED:
            return right.text[:1].isdigit()
        if len(left.core) == 1 and left.core.isalpha() and left.capital:
            return right.capital and right.core not in self._functional
        return left.core in INNER or (left.core in CLOSING and not right.capital)

    def _is_bound(self, i: int) -> bool:
        left, right = self._tokens[i - 1], self._tokens[i]
        if self._abbreviates(left, right) and left.core not in CLOSING:
            return True
        if left.closed and not self._abbreviates(left, right):
            return _is_year(left, right) or (self._names and _is_land(left) and self._is_part(right))
        if _has_unit(left, right, self._functional):
            return True
        return self._names and self._is_name(i)

    def _is_name(self, i: int) -> bool:
        """Returns whether the words around the break are parts of one name: capitals, or small words between them."""
        left, right = self._tokens[i - 1], self._tokens[i]
        if self._begins_name(i - 1):
            if self._is_part(right) or (right.number and len(right.core) <= 4):
                return True
            return right.core in self._particles and not right.closed and self._capital_follows(i + 1)
        if left.core in self._particles and not left.capital and self._capital_follows(i):
            back = i - 2
            while back >= 0 and i - back < 4 and self._tokens[back].core in self._particles:
                back -= 1
            return back >= 0 and self._begins_name(back) and not self._tokens[back].closed
        return False

    def _begins_name(self, i: int) -> bool:
        """Returns whether word `i` may be followed by more of its name: in German a noun with an article is none."""
        before = self._tokens[i - 1].core if i else ""
        noun = self._german and before in self._known.joined and before not in self._particles
        return self._is_part(self._tokens[i]) and not noun

    def _capital_follows(self, i: int) -> bool:
        while i < len(self._tokens) and self._tokens[i].core in self._particles and not self._tokens[i].closed:
            i += 1
        return i < len(self._tokens) and self._is_part(self._tokens[i])

    def _is_part(self, token: _Token) -> bool:
        return token.capital and token.core not in self._functional and token.core != "i"


def _calmed(tokens: list[_Token]) -> list[_Token]:
    """Takes the capitals of runs of words in capitals for emphasis, which show no names."""
    calmed: list[_Token] = []
    for loud, run in groupby(tokens, key=lambda token: token.text.isupper()):
        words = list(run)
        calmed += [replace(t, capital=False) for t in words] if loud and len(words) >= _EMPHASIS else words
    return calmed


def _is_year(left: _Token, right: _Token) -> bool:
    """Returns whether the break is that of "May 5, 2019"."""
    return left.number and len(left.core) <= 2 and left.text[-1] == "," and right.number and len(right.core) == 4


def _is_land(token: _Token) -> bool:
    """Returns whether `token` is an initialism in capitals, such as the U.S. of "U.S. Department"."""
    return token.capital and len(token.core) > 1 and _INITIALS.fullmatch(token.text) is not None


def _has_unit(left: _Token, right: _Token, functional: frozenset[str]) -> bool:
    """Returns whether a number and its unit, or what is counted, stand around the break."""
    counted = left.number or left.core in NUMBER_WORDS
    if counted and (right.core or right.text) in UNITS:
        return True
    if left.text in ("$", "€", "£", "¥", "R$", "US$") and right.number:
        return True
    return left.number and not _OPENING.match(right.text) and right.core not in functional and not right.capital


def _heard(cost: float, pause: int) -> float:
    """Lowers `cost` after a pause, but never to that of punctuation; a hesitation after an article means little."""
    if pause <= _PAUSE_MS:
        return cost
    part = min(1.0, (pause - _PAUSE_MS) / 700)
    return cost - part * ((cost - 8) if cost < WEAK else 15)
