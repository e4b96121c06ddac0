"""What a worker hears in a recording: words, segments, and what a person who checks them needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    """With its leading space where the language has one, as Whisper returns it."""
    start: float
    end: float
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class Segment:
    id: int
    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    seek: int = 0
    tokens: tuple[int, ...] = ()
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0
    language: str = ""
    """Whisper's code where the recording has several languages; "": the transcript's."""


@dataclass(frozen=True, slots=True)
class CutLoop:
    """A phrase that a model repeated without the sound bearing it out."""

    text: str
    start: float
    """Of its first time, which stays."""
    times: int
    """How many of them were cut."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What a person who checks a transcript looks at first. The lists hold the first 20."""

    speech_ratio: float = 0.0
    """Seconds of voice over those of the recording."""
    silent_s: float = 0.0
    """Seconds without voice."""
    mean_logprob: float | None = None
    """Of the segments, by their tokens; None without segments."""
    decoded_again: int = 0
    """Stretches of up to 30 s that were doubtful and decoded again at a higher temperature."""
    doubtful_words: int = 0
    """How many words have a probability below 0.3."""
    doubtful: tuple[Word, ...] = ()
    loops_cut: int = 0
    loops: tuple[CutLoop, ...] = ()


@dataclass(frozen=True, slots=True)
class ScriptDifference:
    """A place where script and recording differ. One of both texts may be empty."""

    start: float
    script: str
    """What is written there."""
    heard: str
    """What is said there."""


@dataclass(frozen=True, slots=True)
class ScriptReport:
    """How a script and a recording agree, in words."""

    words: int
    """Of the script."""
    unspoken: int
    """Written, but not said."""
    unwritten: int
    """Said, but not written."""
    changed: int
    """Written, while something else is said there."""
    differences: tuple[ScriptDifference, ...] = ()
    """The first ones, in order."""


@dataclass(frozen=True, slots=True)
class Transcript:
    language: str
    language_probability: float
    duration: float
    segments: tuple[Segment, ...]
    model: str
    engine: str
    device: str
    warnings: tuple[str, ...] = ()
    """What a user should know of the recording, a sentence each: where it is damaged, why no speech was found."""
    kind: Literal["transcript"] = "transcript"
    quality: Quality | None = None
    """None: the worker tells nothing of it."""
    script: ScriptReport | None = None
    """Set when the words are a script's: segments are then its blocks, whose texts keep its line ends."""

    @property
    def text(self) -> str:
        return "".join(s.text for s in self.segments).strip()

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(w for s in self.segments for w in s.words)
