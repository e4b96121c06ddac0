"""The choice of a recording's language, by probabilities alone; places and parts by a listener who keeps them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from gpu_dispatch.worker.speech.chunks import Chunk, Span
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE, SpokenLanguage
from gpu_dispatch.worker.speech.languages import (
    Heard,
    allowed_codes,
    chosen,
    detect,
    detect_parts,
    language_warnings,
    likeliest,
)
from manifests.errors import LanguageUnsupported

ALL = frozenset({"pt", "en", "es", "ja"})


def scores(**chances: float) -> tuple[SpokenLanguage, ...]:
    left = (1.0 - sum(chances.values())) / (len(ALL) - len(chances))
    return tuple(SpokenLanguage(code, chances.get(code, left)) for code in sorted(ALL))


class Listener:
    """Hears a language by the loudness of the sound: below 0.15 Portuguese, above it Japanese."""

    languages = ALL
    device: Any = "cpu"

    def __init__(self) -> None:
        self.lengths: list[float] = []

    def detect(self, audio: Any) -> tuple[SpokenLanguage, ...]:
        self.lengths.append(len(audio) / SAMPLE_RATE)
        loud = float(np.abs(audio[np.abs(audio) > 0.01]).mean())
        return scores(pt=0.9) if loud < 0.15 else scores(ja=0.9)

    def recognise(self, *_: Any) -> Any:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


def sound(*parts: tuple[float, float]) -> Any:
    """Noise of some seconds and a loudness each, with half a second of silence after each."""
    noise = np.random.default_rng(0).choice([-1.0, 1.0], int(90 * SAMPLE_RATE))
    pieces = [np.append(noise[: int(s * SAMPLE_RATE)] * loud, np.zeros(SAMPLE_RATE // 2)) for s, loud in parts]
    return (np.concatenate(pieces) * 32767).astype(np.int16)


def whole(pcm: Any) -> tuple[Chunk, ...]:
    return (Chunk((Span(0, len(pcm)),)),)


def test_all_places_decide_together_and_a_long_one_more() -> None:
    heard = chosen([scores(pt=0.6), scores(en=0.9), scores(pt=0.8)], [30, 10, 30], ALL)
    assert heard.language == "pt"
    assert heard.probability == pytest.approx((0.6 * 30 + 0.1 / 3 * 10 + 0.8 * 30) / 70)
    assert heard.others == ("en",)


def test_only_allowed_languages_are_chosen_and_others_are_told() -> None:
    heard = chosen([scores(es=0.7, pt=0.2, en=0.05)], [10], frozenset({"pt", "en"}))
    assert (heard.language, heard.others) == ("pt", ("es",))
    assert heard.probability == pytest.approx(0.8)
    (warning,) = language_warnings(heard)
    assert "es" in warning
    assert "multilingual" in warning
    assert language_warnings(Heard("pt", 0.9)) == ()


def test_a_doubtful_part_keeps_the_language_of_its_neighbours() -> None:
    parts = [scores(en=0.95), scores(ja=0.5, en=0.3), scores(en=0.9), scores(ja=0.97), scores(ja=0.9), scores(en=0.99)]
    assert likeliest(parts, ALL) == ("en", "en", "en", "ja", "ja", "en")
    assert likeliest([], ALL) == ()
    assert likeliest([scores(ja=0.97)], frozenset({"pt"})) == ("pt",)


def test_a_long_recording_is_heard_at_three_places() -> None:
    """Music or a greeting in another language at the beginning does not decide alone."""
    pcm = sound((20, 0.3), (80, 0.05), (80, 0.05))
    listener = Listener()
    heard = detect(listener, pcm, whole(pcm), ALL)
    assert (heard.language, heard.others) == ("pt", ("ja",))
    assert len(listener.lengths) == 3
    assert max(listener.lengths) <= 30.0


@pytest.mark.parametrize("count", [2, 3, 4])
def test_places_lie_in_several_chunks(count: int) -> None:
    pcm = sound(*[(40, 0.3 if i == 0 else 0.05) for i in range(count)])
    edges = np.linspace(0, len(pcm), count + 1, dtype=int)
    chunks = tuple(Chunk((Span(int(a), int(b)),)) for a, b in pairwise(edges))
    listener = Listener()
    heard = detect(listener, pcm, chunks, ALL)
    assert heard.language == "pt" if count > 2 else heard.others
    assert len(listener.lengths) == 3


def test_a_short_recording_is_heard_once_as_a_whole() -> None:
    pcm = sound((9, 0.05))
    listener = Listener()
    assert detect(listener, pcm, whole(pcm), ALL) == Heard("pt", pytest.approx(0.9))
    assert listener.lengths == [9.5]


def test_one_allowed_language_needs_no_listening() -> None:
    listener = Listener()
    pcm = sound((9, 0.05))
    assert detect(listener, pcm, whole(pcm), frozenset({"en"})) == Heard("en", 1.0)
    assert listener.lengths == []


def test_parts_change_their_language_at_a_pause() -> None:
    pcm = sound((5, 0.05), (20, 0.3), (4, 0.05))
    parts = detect_parts(Listener(), pcm, [Span(0, len(pcm))], ALL)
    assert [part.language for part in parts] == ["pt", "ja", "pt"]
    edges = [span.start / SAMPLE_RATE for part in parts for span in part.spans]
    assert edges == pytest.approx([0.0, 5.25, 25.75], abs=0.25)
    assert [span.end for part in parts for span in part.spans] == [
        *[span.start for part in parts[1:] for span in part.spans],
        len(pcm),
    ]


def test_allowed_languages_are_understood_as_people_write_them() -> None:
    assert allowed_codes(("pt-BR", "EN"), Listener(), model="base") == {"pt", "en"}
    assert allowed_codes(None, Listener(), model="base") == ALL
    assert allowed_codes(("xx", "pt"), Listener(), model="base") == {"pt"}
    with pytest.raises(LanguageUnsupported, match="'xx'"):
        allowed_codes(("xx",), Listener(), model="base")
