import pytest
from pydantic import ValidationError

from handlers.subtitles.limits import BROADCAST, CueLimits
from manifests.models import Transcribe
from manifests.options import SUBTITLE_PRESETS, RecognitionOptions


def limits_of(subtitles):
    return CueLimits.of(Transcribe(audio="a.mp3", subtitles=subtitles).subtitles)


def test_the_published_limits_are_those_of_a_manifest_that_names_none():
    assert CueLimits.of(Transcribe(audio="a.mp3").subtitles) == limits_of("broadcast") == BROADCAST


@pytest.mark.parametrize("name", SUBTITLE_PRESETS)
def test_a_preset_is_named_in_one_word(name):
    assert limits_of(name) == CueLimits.of(SUBTITLE_PRESETS[name])


def test_limits_of_one_s_own_change_what_they_name():
    own = limits_of({"max_chars": 32, "max_lines": 1, "max_cps": 15, "min_s": 1, "max_s": 5, "gap_ms": 120, "words": 6})
    assert own == CueLimits(32, 1, 6, 15, 1000, 5000, 120)
    assert limits_of({"max_chars": 32}) == CueLimits(cells=32)


def test_a_manifest_that_was_recorded_reads_back():
    asked = Transcribe(audio="a.mp3", subtitles="social")
    assert Transcribe.model_validate_json(asked.model_dump_json()) == asked


@pytest.mark.parametrize(
    ("subtitles", "told"),
    [
        ("cinema", "broadcast, social, verbatim"),
        ({"max_char": 32}, "max_char"),
        ({"max_chars": 1}, "greater than or equal to 8"),
        ({"min_s": 5, "max_s": 2}, "min_s must not be more than max_s"),
    ],
)
def test_what_cannot_be_is_refused_once_and_clearly(subtitles, told):
    with pytest.raises(ValidationError, match=told) as refused:
        Transcribe(audio="a.mp3", subtitles=subtitles)
    assert refused.value.error_count() == 1
    assert refused.value.errors()[0]["loc"][0] == "subtitles"


def test_the_worker_is_not_told():
    assert "subtitles" not in RecognitionOptions.model_fields
