"""What engines and models cannot do is told by name, before anything is fetched."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from gpu_dispatch.speech_names import DISTILLED, PUBLISHED
from gpu_dispatch.speech_options import LACKING, check_model, check_options, lacking
from manifests.errors import LanguageUnsupported, ModelUnavailable, OptionUnsupported
from manifests.options import Engine, RecognitionOptions


@pytest.mark.parametrize(
    "model", ["turbo", "large-v3-turbo", "tiny.en", "medium.en", "distil-large-v3", "distil-small.en"]
)
def test_what_cannot_translate_says_so(model: str) -> None:
    with pytest.raises(OptionUnsupported, match=f"'{model}' cannot translate") as caught:
        check_options(RecognitionOptions(model=model, translate=True))
    assert caught.value.info.where == "translate"
    check_options(RecognitionOptions(model=model))


@pytest.mark.parametrize("model", ["tiny", "medium", "large", "large-v1", "large-v3", "ours.en", "my-turbo"])
def test_what_can_translate_or_is_not_known_may_try(model: str) -> None:
    check_options(RecognitionOptions(model=model, translate=True))


OTHER: dict[str, Any] = {
    "hotwords": "Kennedy",
    "chunk_length": 20,
    "batch_size": 4,
    "best_of": 2,
    "patience": 2.0,
    "condition_on_previous_text": True,
}


@pytest.mark.parametrize("engine", get_args(Engine))
def test_an_engine_refuses_by_name_what_it_lacks_and_takes_the_rest(engine: Engine) -> None:
    assert lacking(engine, RecognitionOptions()) == ()
    for name, value in OTHER.items():
        asked = RecognitionOptions.model_validate({"engine": engine, name: value})
        if name not in LACKING[engine]:
            check_options(asked)
            continue
        with pytest.raises(OptionUnsupported, match=f"{engine} has no {name}") as caught:
            check_options(asked)
        others = [each for each in get_args(Engine) if name not in LACKING[each]]
        assert all(each in caught.value.info.hint for each in others)
        check_options(asked.model_copy(update={"engine": None}))


def test_a_language_outside_the_allowed_ones_is_refused() -> None:
    check_options(RecognitionOptions(language="pt-BR", languages=("pt", "en")))
    with pytest.raises(LanguageUnsupported, match="'es'"):
        check_options(RecognitionOptions(language="es", languages=("pt", "en")))


def test_timestamps_go_before_word_timestamps() -> None:
    given = {"none": False, "segment": False, "word": True}
    for asked, words in given.items():
        read = RecognitionOptions.model_validate({"timestamps": asked, "word_timestamps": not words})
        assert read.word_timestamps is words
    assert RecognitionOptions(word_timestamps=False).timestamps is None


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ("larg-v3", "large-v3"),
        ("tiny.eng", "tiny.en"),
        ("Turbo", "turbo"),
        ("distil-large-v4", "distil-large-v3"),
        ("ours-v3", "ours-v2"),
        ("whisper", ""),
    ],
)
def test_an_unknown_model_is_told_with_the_nearest(asked: str, nearest: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        check_model(asked, ["ours-v2"])
    assert (f"(did you mean '{nearest}'?)" in str(caught.value)) is bool(nearest)
    assert caught.value.info.where == "model"
    assert not caught.value.retryable


def test_known_names_pass() -> None:
    for name in (*PUBLISHED, *DISTILLED, "ours"):
        check_model(name, ["ours"])


def test_where_other_machines_may_have_any_model_only_near_misses_are_refused() -> None:
    for name in ("ours", "base-pt", "whisper-finetuned", "small.legal"):
        check_model(name, [], elsewhere=True)
    for name in ("larg-v3", "tiny.eng", "Turbo"):
        with pytest.raises(ModelUnavailable):
            check_model(name, [], elsewhere=True)
