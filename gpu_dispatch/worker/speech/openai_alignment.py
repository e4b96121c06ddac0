"""Lays a given text on sound by openai-whisper's attention."""

from __future__ import annotations

from typing import Any

from gpu_dispatch.worker.speech.engine import import_module
from gpu_dispatch.worker.speech.forced_alignment import (
    ALIGNABLE_FRAMES,
    FORCED_TOKENS,
    ForcedWord,
    forced_words,
    sayable,
)


def force_text(model: Any, window: Any, frames: int, text: str, language: str) -> tuple[ForcedWord, ...]:
    """Lays `text` on the first `frames` of a window's spectrogram; see `Recognizer.align`.

    Raises RuntimeError or ValueError, as the model does.
    """
    tokenizer = _vendor("whisper.tokenizer").get_tokenizer(
        model.is_multilingual, num_languages=model.num_languages, language=language, task="transcribe"
    )
    tokens: list[int] = tokenizer.encode(sayable(text))
    if not tokens or len(tokens) > FORCED_TOKENS or frames < ALIGNABLE_FRAMES:
        return ()
    answers: list[Any] = []

    def keep(_module: Any, _given: Any, answer: Any) -> None:
        answers.append(answer)

    listening = model.decoder.register_forward_hook(keep)
    try:
        timed = _vendor("whisper.timing").find_alignment(model, tokenizer, tokens, window, frames)
    finally:
        listening.remove()
    begin = len(tokenizer.sot_sequence)
    logits = answers[0][0, begin : begin + len(tokens), : tokenizer.eot].float()
    likely = logits.log_softmax(dim=-1)[range(len(tokens)), tokens].tolist()
    sizes, times = [len(word.tokens) for word in timed], [(word.start, word.end) for word in timed]
    return forced_words([word.word for word in timed], sizes, times, likely)


def _vendor(module: str) -> Any:
    return import_module(module, engine="openai-whisper", remedy="pip install 'gpudrop[openai]'")
