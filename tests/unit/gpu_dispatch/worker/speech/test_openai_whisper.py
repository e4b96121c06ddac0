"""The reference engine's parts that small English weights do not reach."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_dispatch.task import TranscribeParams
from gpu_dispatch.worker.speech.engine import SAMPLE_RATE, RecognitionRequest
from gpu_dispatch.worker.speech.openai_whisper import OpenAIRecognizer, halve
from support.requirements import require

pytestmark = pytest.mark.openai


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multilingual model of random weights: it says nothing sensible, in the right shape, at once."""
    require(importlib.util.find_spec("whisper"), "openai-whisper is not installed.", "pip install 'gpudrop[openai]'")
    import torch
    import whisper

    torch.manual_seed(1)
    model = whisper.model.Whisper(whisper.ModelDimensions(80, 1500, 64, 1, 1, 51865, 64, 64, 1, 2))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    torch.nn.init.normal_(model.decoder.positional_embedding, std=0.02)
    path = tmp_path_factory.mktemp("random") / "random.pt"
    torch.save({"dims": vars(model.dims), "model_state_dict": model.state_dict()}, path)
    return path


def test_a_window_is_encoded_once_for_language_temperatures_and_words(checkpoint: Path) -> None:
    import whisper

    model = whisper.load_model(str(checkpoint), device="cpu")
    asked: list[Any] = []
    encoded: list[Any] = []
    forward = model.encoder.forward
    model.encoder.forward = lambda mel: (encoded.append(mel), forward(mel))[1]
    recognizer = OpenAIRecognizer(model, "cpu")
    remembering = model.encoder.forward
    model.encoder.forward = lambda mel: (asked.append(mel), remembering(mel))[1]
    sound = (np.random.default_rng(3).standard_normal(4 * SAMPLE_RATE) * 0.1).astype(np.float32)
    spoken, *others = recognizer.detect(sound)
    params = TranscribeParams(audio="", temperature=(0.0, 0.5), beam_size=1, best_of=1, no_speech_threshold=None)
    segments = recognizer.recognise(sound, RecognitionRequest(params, spoken.language, None, lambda _: None))
    assert spoken.language in recognizer.languages
    assert len(recognizer.languages) == 99
    assert 1.0 >= spoken.probability >= others[0].probability > 0.0
    assert len(others) == 98
    assert any(s.words for s in segments)
    assert len(asked) >= len(encoded) + 3
    assert not any(one.equal(other) for one, other in pairwise(encoded))


def test_half_precision_says_the_same(openai_model_dir: Path) -> None:
    """As on a GPU, where all weights are halved but those that Whisper computes with in float32."""
    import torch
    import whisper

    path = openai_model_dir / "tiny.en.pt"
    tone = np.sin(np.arange(3 * SAMPLE_RATE, dtype=np.float32) * 0.2) * 0.2
    window = whisper.pad_or_trim(whisper.log_mel_spectrogram(tone), 3000)
    logits: list[Any] = []
    for half in (False, True):
        model = whisper.load_model(str(path))
        if half:
            halve(model, torch)
        kinds = {p.dtype for m in model.modules() if isinstance(m, torch.nn.Linear) for p in m.parameters()}
        assert kinds == {torch.float16 if half else torch.float32}
        with torch.no_grad():
            tokens = torch.tensor([[50257, 50362]])
            encoded = model.encoder((window.half() if half else window).unsqueeze(0))
            logits.append(model.logits(tokens, encoded)[0, -1].float())
    assert int(logits[0].argmax()) == int(logits[1].argmax())
    assert float((logits[0] - logits[1]).abs().max()) < 0.5
