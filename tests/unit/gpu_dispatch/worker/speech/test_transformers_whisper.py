"""The parts of the engine transformers that small English weights do not reach."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_dispatch.task import TranscribeParams
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE, RecognitionRequest, Recognizer
from gpu_dispatch.worker.speech.transformers_whisper import TransformersWhisper
from manifests.errors import RunCancelled
from support.requirements import require
from support.scripts import load_script

pytestmark = [pytest.mark.transformers, pytest.mark.model]

SOUND = (np.random.default_rng(3).standard_normal(5 * SAMPLE_RATE) * 0.1).astype(np.float32)


@pytest.fixture(scope="module")
def recognizer(base_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recognizer]:
    """A multilingual model of random weights: it says nothing sensible, in the right shape, at once."""
    found = importlib.util.find_spec("transformers")
    require(found, "transformers is not installed.", "pip install 'gpudrop[transformers]'")
    import torch
    from tokenizers import Tokenizer
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    script = load_script("transformers_checkpoint")
    base, folder = base_model_dir / "base", tmp_path_factory.mktemp("random")
    vocabulary = Tokenizer.from_file(str(base / "tokenizer.json"))
    given = json.loads((base / "config.json").read_text()) | {"alignment_heads": [[1, 0]]}
    languages = {vocabulary.id_to_token(number): number for number in given["lang_ids"]}
    dims = {
        "n_mels": 80,
        "n_audio_ctx": 1500,
        "n_vocab": 51865,
        "n_text_ctx": 64,
        "n_audio_layer": 1,
        "n_text_layer": 2,
    }
    dims |= {"n_audio_state": 64, "n_audio_head": 1, "n_text_state": 64, "n_text_head": 1}
    torch.manual_seed(1)
    model = WhisperForConditionalGeneration(script.configuration(dims, vocabulary.token_to_id))
    model.generation_config = script.generation(given, dims, vocabulary.token_to_id, languages)
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    shutil.copy(base / "tokenizer.json", folder)
    loaded = TransformersWhisper().load(folder, "random", "cpu")
    yield loaded
    loaded.close()


def request(language: str = "pt", on_progress: Any = lambda _: None, **options: Any) -> RecognitionRequest:
    usual = {"beam_size": 1, "temperature": (0.0,), "no_speech_threshold": None, "logprob_threshold": None}
    params = TranscribeParams.model_validate({"audio": "", **usual, **options})
    return RecognitionRequest(params, language, None, on_progress)


def test_every_language_has_its_probability(recognizer: Recognizer) -> None:
    found = recognizer.detect(SOUND)
    assert {each.language for each in found} == recognizer.languages
    assert len(found) == 99
    assert sum(each.probability for each in found) == pytest.approx(1.0, abs=1e-4)
    assert all(one.probability >= other.probability for one, other in pairwise(found))


@pytest.mark.parametrize(
    "options", [{"translate": True}, {"timestamps": "none"}, {"beam_size": 2}, {"temperature": 0.5}]
)
def test_windows_are_read_in_order_and_in_bounds(recognizer: Recognizer, options: dict[str, Any]) -> None:
    seen: list[float] = []
    asked = request(on_progress=seen.append, chunk_length=2, batch_size=3, **options)
    segments = recognizer.recognise(SOUND, asked)
    assert segments
    assert all(0.0 <= s.start <= s.end <= 5.0 for s in segments)
    assert [s.start for s in segments] == sorted(s.start for s in segments)
    words = [word for segment in segments for word in segment.words]
    assert bool(words) is ("timestamps" not in options)
    assert all(0.0 <= word.start <= word.end <= 5.0 and 0.0 <= word.probability <= 1.0 for word in words)
    assert max(seen) > 0.0


def test_together_they_say_what_they_say_alone(recognizer: Recognizer) -> None:
    texts = [
        [segment.text for segment in recognizer.recognise(SOUND, request(chunk_length=2, batch_size=size))]
        for size in (1, 4)
    ]
    assert texts[0] == texts[1]


def test_it_stops_within_a_window(recognizer: Recognizer) -> None:
    calls: list[float] = []

    def stop(seconds: float) -> None:
        calls.append(seconds)
        if len(calls) == 5:
            raise RunCancelled("Enough.")

    with pytest.raises(RunCancelled):
        recognizer.recognise(SOUND, request(on_progress=stop))
    assert len(calls) == 5
