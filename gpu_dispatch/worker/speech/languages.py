"""Which language is spoken in a recording, or in each part of it: places to listen to, and the choice. Pure, but for
the recognizer that listens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from gpu_dispatch.speech_names import language_candidates
from gpu_dispatch.worker.speech.audio import Pcm, to_samples
from gpu_dispatch.worker.speech.chunks import Chunk, Span, plan_chunks
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE, Recognizer, Samples, SpokenLanguage, whisper_code
from gpu_dispatch.worker.speech.pieces import Piece, cut_at_pauses

HEARD_S = 30.0
"""A model listens to so much at once."""

PLACES = 3
"""Beginning, middle and end: music, a greeting or a quotation at one of them does not decide alone."""

SHORTEST_PLACE_S = 5.0
"""A shorter recording is one place: Whisper's detection is poor on a few words."""

PART_S = (3.0, 10.0)
"""Shortest and longest part that gets a language of its own."""

SWITCH_COST = math.log(4.0)
"""A part between two in one language is given another when that is sixteen times as probable. A synthetic Spanish voice
between English sentences is heard as 27 times as probable by base, a Japanese one as 300 times."""

UNLIKELY = 1e-6
"""The least probability that counts, so that one part never decides for all."""

SURE = 0.5
"""A place with a more probable language than the recording's own is told of."""

Scores = Sequence[SpokenLanguage]


@dataclass(frozen=True, slots=True)
class Heard:
    """The language of a recording."""

    language: str
    probability: float
    """Mean over the places; among the allowed languages, which sum to 1."""
    others: tuple[str, ...] = ()
    """Languages that are spoken at other places, allowed or not."""


@dataclass(frozen=True, slots=True)
class _Place:
    samples: Samples
    seconds: float
    """For how much of the recording it stands, at most HEARD_S."""


@dataclass(frozen=True, slots=True)
class SpokenPart:
    """Spans in one language."""

    spans: tuple[Span, ...]
    language: str


@dataclass(frozen=True, slots=True)
class ChunksInLanguage:
    """Chunks to recognise in one language."""

    chunks: tuple[Chunk, ...]
    language: str


def allowed_codes(tags: Sequence[str] | None, recognizer: Recognizer, *, model: str) -> frozenset[str]:
    """Returns the codes that may be detected. Raises LanguageUnsupported when the model knows none of `tags`."""
    if not tags:
        return recognizer.languages
    found = {code for tag in tags for code in language_candidates(tag)} & recognizer.languages
    return frozenset(found) or frozenset({whisper_code(tags[0], recognizer.languages, model=model)})


def detect(recognizer: Recognizer, pcm: Pcm, chunks: Sequence[Chunk], allowed: frozenset[str]) -> Heard:
    """Listens to up to PLACES places of the speech in `chunks`."""
    if len(allowed) == 1:
        return Heard(next(iter(allowed)), 1.0)
    places = _places(pcm, chunks)
    scores = [recognizer.detect(place.samples) for place in places]
    return chosen(scores, [place.seconds for place in places], allowed)


def detect_parts(
    recognizer: Recognizer,
    pcm: Pcm,
    spans: Sequence[Span],
    allowed: frozenset[str],
    before_part: Callable[[], None] = lambda: None,
) -> tuple[SpokenPart, ...]:
    """Listens to every part of `spans`, and joins neighbours in one language. `before_part` may raise to stop it."""
    pieces = [span for chunk in plan_chunks(pcm, spans) for span in chunk.spans]  # ten hours at once take 7 GB
    parts: list[Span] = []
    for piece in pieces:
        before_part()
        found = _parts(to_samples(pcm[piece.start : piece.end]))
        parts += [Span(piece.start + part.start, piece.start + part.end) for part in found]
    heard: list[Scores] = []
    for part in parts:
        before_part()
        heard.append(recognizer.detect(Chunk((part,)).samples(pcm)))
    codes = likeliest(heard, allowed)
    runs = groupby(zip(codes, parts, strict=True), key=lambda each: each[0])
    return tuple(SpokenPart(_joined(part for _, part in run), code) for code, run in runs)


def chosen(places: Sequence[Scores], weights: Sequence[float], allowed: frozenset[str]) -> Heard:
    """Chooses a recording's language by what was heard at some places; `weights` are the seconds they stand for."""
    among = [_among(scores, allowed) for scores in places]
    total = sum(weights)
    mean = {code: sum(p[code] * w for p, w in zip(among, weights, strict=True)) / total for code in among[0]}
    best = max(mean, key=lambda code: mean[code])
    tops = [max(scores, key=lambda each: each.probability) for scores in places]
    others = [top.language for top in tops if top.language != best and top.probability > SURE]
    return Heard(best, mean[best], tuple(dict.fromkeys(others)))


def language_warnings(heard: Heard) -> tuple[str, ...]:
    """Returns the warning that parts of the recording are in another language than the one it was read in."""
    if not heard.others:
        return ()
    names = " and ".join(heard.others)
    return (
        f"Parts of the recording seem to be in {names}, and were read as {heard.language}. "
        "Set multilingual: true to read each part in its own language.",
    )


def likeliest(parts: Sequence[Scores], allowed: frozenset[str]) -> tuple[str, ...]:
    """Returns a language for each part: the likeliest sequence, in which each change has SWITCH_COST."""
    costs: dict[str, float] = {}
    came_from: list[dict[str, str]] = []
    for scores in parts:
        now = {code: -math.log(max(chance, UNLIKELY)) for code, chance in _among(scores, allowed).items()}
        if not costs:
            costs = now
            continue
        cheapest = min(costs, key=lambda code: costs[code])
        ways = {code: code if costs[code] <= costs[cheapest] + SWITCH_COST else cheapest for code in now}
        costs = {
            code: cost + costs[ways[code]] + (0.0 if ways[code] == code else SWITCH_COST) for code, cost in now.items()
        }
        came_from.append(ways)
    if not costs:
        return ()
    codes = [min(costs, key=lambda code: costs[code])]
    for ways in reversed(came_from):
        codes.append(ways[codes[-1]])
    return tuple(reversed(codes))


def _among(scores: Scores, allowed: frozenset[str]) -> Mapping[str, float]:
    """Returns the probability of each allowed language, given that it is one of them."""
    found = {each.language: each.probability for each in scores if each.language in allowed}
    total = sum(found.values())
    return {code: chance / total if total > 0 else 1 / len(found) for code, chance in found.items()}


def _places(pcm: Pcm, chunks: Sequence[Chunk]) -> tuple[_Place, ...]:
    """Returns what to listen to, each cut at a pause."""
    seconds = sum(span.end - span.start for chunk in chunks for span in chunk.spans) / SAMPLE_RATE
    first = chunks[0].samples(pcm)
    if seconds < PLACES * SHORTEST_PLACE_S:
        return (_Place(first[: int(HEARD_S * SAMPLE_RATE)], seconds),)
    length = min(seconds / PLACES, HEARD_S)
    beginning = _beginning(first, length)
    if len(chunks) == 1:
        end = _end(first[len(beginning) :], length)
        between = first[len(beginning) : len(first) - len(end)]
    else:
        end = _end(chunks[-1].samples(pcm), length)
        between = first[len(beginning) :] if len(chunks) == 2 else chunks[len(chunks) // 2].samples(pcm)
    middle = _Place(_middle(between, length), min(len(between) / SAMPLE_RATE, HEARD_S))
    ends = [_Place(sound, len(sound) / SAMPLE_RATE) for sound in (beginning, end)]
    return tuple(place for place in (ends[0], middle, ends[1]) if len(place.samples))


def _beginning(samples: Samples, seconds: float) -> Samples:
    piece = cut_at_pauses(samples, shortest_s=seconds / 2, longest_s=seconds)[0]
    return samples[piece.start : piece.end]


def _middle(samples: Samples, seconds: float) -> Samples:
    pieces = cut_at_pauses(samples, shortest_s=seconds / 2, longest_s=seconds)
    around = [each for each in pieces if each.end > len(samples) // 2]
    return samples[around[0].start : around[0].end] if around else samples


def _end(samples: Samples, seconds: float) -> Samples:
    return _beginning(samples[::-1], seconds)[::-1]


def _parts(samples: Samples) -> tuple[Piece, ...]:
    shortest, longest = PART_S
    return cut_at_pauses(samples, shortest_s=shortest, longest_s=longest)


def _joined(spans: Iterator[Span]) -> tuple[Span, ...]:
    result: list[Span] = []
    for span in spans:
        if result and result[-1].end == span.start:
            result[-1] = Span(result[-1].start, span.end)
        else:
            result.append(span)
    return tuple(result)
