"""What a professional subtitler accepts, on texts whose cues a human cut: the lines of benchmarks/subtitles.py."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[4] / "benchmarks"))

import subtitles as benchmark
from spoken_texts import read_reference, spoken

from handlers.subtitles.cues import make_cues
from handlers.subtitles.words import speech_of

WHOLE = ("≤2 lines", "≤42 cells", "≤7 s", "apart", "gap ≥80 ms", "words kept", "\\k sums")


@pytest.mark.parametrize("rate", [130, 160, 165, 177, 200])
@pytest.mark.parametrize("language", ["en", "pt", "es", "ja"])
def test_every_published_limit_is_kept(language, rate):
    reference = read_reference(language)
    transcript = spoken(reference, rate, seed=rate)
    speech = speech_of(transcript)
    cues = make_cues(speech)
    seen = benchmark.shown(cues)
    found = benchmark.measures(seen, cues, transcript.text, language, reference.phrases)
    assert all(found[name] == 100 for name in WHOLE), found
    assert found["≥0.833 s"] >= 99
    assert found["bad breaks"] <= 3 and found["one word"] <= 1
    if rate <= 165:
        assert found["≤20 c/s"] >= 95
        precision, recall = benchmark.agreement(seen, reference)
        assert precision >= 75 and recall >= 60
