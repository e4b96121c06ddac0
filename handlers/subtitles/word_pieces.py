"""Words that a recogniser gives in pieces: "$12" ",500", "well" "-known", "45" "%"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from handlers.subtitles.text import is_spaceless

LONGEST = 80
"""Characters of a joined word; what is longer has lost its spaces."""
_CLOSING = re.compile(r"[!?;:.,%‰°»€…\u3001\u3002\uff0c\uff0e\uff01\uff1f\uff1a\uff1b」』）】》〉”’)\]]+")
"""What closes a word, whether a space stands before it, as in French, or not."""
_OPENING = re.compile(r"[«¿¡$£¥€「『（【《〈“‘(\[]+")
_CURRENCY = re.compile(r"(?:[A-Z]{1,3})?[$£¥€]")
_MONEY = ("$", "£", "¥", "€")
_SPOKEN = re.compile(r"[\w%‰°$£¥€]")
_KATAKANA = re.compile("[\u30a1-\u30fa\u30fc-\u30ff]")


@dataclass(frozen=True, slots=True)
class WordPiece:
    """A word or a piece of one, with its leading space, and times that may be unknown."""

    text: str
    start: int | None
    end: int | None
    probability: float


def whole_words(pieces: Sequence[WordPiece]) -> list[WordPiece]:
    """Joins the pieces of each word; the joined texts are the same. Times are those of the pieces that are spoken.

    A word is as probable as its least probable piece.
    In scripts without spaces, where nothing tells words apart, only signs, numbers and runs of katakana are joined.
    """
    words: list[WordPiece] = []
    group: list[WordPiece] = list(pieces[:1])
    length = len(pieces[0].text) if pieces else 0
    for before, piece in pairwise(pieces):
        length += len(piece.text)
        if length <= LONGEST and _belongs(before, piece):
            group.append(piece)
        else:
            words.append(_joined(group))
            group, length = [piece], len(piece.text)
    return [*words, _joined(group)] if group else words


def _belongs(before: WordPiece, piece: WordPiece) -> bool:
    left, right = before.text.strip(), piece.text.strip()
    if _OPENING.fullmatch(left) and not (left[-1] in _MONEY and not right[:1].isdigit()):
        return True
    if _CLOSING.fullmatch(right) and not (right[0] in _MONEY and not left[-1:].isdigit()):
        return True
    if piece.text.startswith(" "):
        return _CURRENCY.fullmatch(left) is not None and right[:1].isdigit()
    if _KATAKANA.match(left[-1:]) and _KATAKANA.match(right[:1]):
        return True
    return not is_spaceless(left[-1:] + right[:1])


def _joined(group: Sequence[WordPiece]) -> WordPiece:
    if len(group) == 1:
        return group[0]
    spoken = [piece for piece in group if _SPOKEN.search(piece.text)] or group
    ends = [piece.end for piece in spoken if piece.end is not None]
    return WordPiece(
        text="".join(piece.text for piece in group),
        start=next((piece.start for piece in spoken if piece.start is not None), None),
        end=max(ends, default=None),
        probability=min(piece.probability for piece in spoken),
    )
