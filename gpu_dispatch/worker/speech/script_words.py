"""The words of a script, and the form in which they are compared with what was heard."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

_SPACELESS = (
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
"""Scripts without spaces between words: each of their characters is compared by itself."""

_MARKS = "\u3099\u309a\ufe00-\ufe0f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd"
"""Signs that belong to the character before them."""

_OPENERS = "「『（［｛〈《【〔“‘(["
_CLOSERS = "」』）］｝〉》】〕”’)]、。，．！？：；…‥・!?.,:;"
_PIECE = re.compile(f"[{re.escape(_OPENERS)}]*[{_SPACELESS}][{_MARKS}]*[{re.escape(_CLOSERS)}]*|[^{_SPACELESS}]+")
_ATOM = re.compile(f"[{_SPACELESS}][{_MARKS}]*|[^\\W_{_SPACELESS}]+")
_APOSTROPHES = re.compile("(?<=\\w)['\u2019\u02bc\uff07](?=\\w)")
_ACCENTS = re.compile("[\u0300-\u036f]")
_BLANKS = re.compile(r"(\s+)")


@dataclass(frozen=True, slots=True)
class ScriptWord:
    """A word as it is written, with the punctuation around it."""

    text: str
    """Without blanks at its ends."""
    lead: str
    """What stands before it: "", a space or a line end."""
    block: int
    """Index of its block of the script."""
    atoms: tuple[str, ...]
    """At least one."""

    @property
    def spaced(self) -> str:
        """The word as a recogniser returns it, with its leading space if it has one."""
        return " " + self.text if self.lead else self.text


def atoms_of(text: str) -> tuple[str, ...]:
    """Returns the parts of `text` that are compared: without case, accents, apostrophes and punctuation."""
    if not text.isascii():
        plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
        text = unicodedata.normalize("NFC", plain)
    return tuple(_ATOM.findall(_APOSTROPHES.sub("", text.casefold())))


def likeness(one: str, other: str) -> float:
    """Returns the share of the texts' sequences of three letters that they have in common, from 0 to 1."""
    ours, theirs = (Counter(text[k : k + 3] for k in range(len(text) - 2)) for text in (one, other))
    return 2 * (ours & theirs).total() / max(1, ours.total() + theirs.total())


def script_words(blocks: tuple[str, ...]) -> tuple[ScriptWord, ...]:
    """Divides a script's blocks into words; joined with their leads, the words of a block are its text.

    Signs that nobody says (a dash, a row of stars) belong to the word before them, at a block's start to the next one.
    """
    return tuple(word for number, block in enumerate(blocks) for word in _words_of(block, number))


def _words_of(block: str, number: int) -> list[ScriptWord]:
    words: list[ScriptWord] = []
    unsaid = ""
    lead = " "
    for part in _BLANKS.split(block.strip()):
        if not part or part.isspace():
            lead = ("\n" if "\n" in part else " ") if part else lead
            continue
        for piece in _PIECE.findall(part):
            atoms = atoms_of(piece)
            if atoms:
                words.append(ScriptWord(unsaid + piece, lead, number, atoms))
                unsaid = ""
            elif words:
                last = words[-1]
                words[-1] = ScriptWord(last.text + lead + piece, last.lead, number, last.atoms)
            else:
                unsaid += piece + " "
            lead = ""
    return words
