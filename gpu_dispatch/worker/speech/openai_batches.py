"""Lets openai-whisper decode several windows at once, and encode each only once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from gpu_dispatch.worker.speech.engine import import_module
from gpu_dispatch.worker.speech.windows import WINDOW_S


class EncoderCache:
    """Wraps the encoder's forward pass, keeps the last results and reports progress.

    Whisper encodes a window again for the language, for every temperature and for the word times: a third of the time
    on a CPU. Each new window also shows how far `transcribe` is, which it does not report itself.
    """

    def __init__(self, forward: Callable[[Any], Any], torch: Any) -> None:
        self._forward = forward
        self._torch = torch
        self._last: tuple[Any, Any] | None = None
        self._batch: list[tuple[Any, Any]] = []
        """Those decoded together; doubtful ones are decoded again."""
        self._on_progress: Callable[[float], None] | None = None
        self._count = 0

    def listen(self, on_progress: Callable[[float], None] | None) -> None:
        self._on_progress = on_progress
        self._count = 0
        if on_progress is None:
            self._last = None

    def encode(self, mel: Any) -> Any:
        """Encodes one window, of shape (1, mels, frames)."""
        if (known := self._known(mel)) is not None:
            return known
        if self._on_progress is not None:
            self._on_progress(self._count * WINDOW_S)
        self._count += 1
        self._last = (mel, self._forward(mel))
        return self._last[1]

    def encode_all(self, mels: Sequence[Any], on_window: Callable[[float], None], at_once: bool) -> Any:
        """Encodes windows of shape (mels, frames), `at_once` or one by one: the latter takes the memory of one."""
        rows = [mel.unsqueeze(0) for mel in mels]
        known = [] if at_once else [self._known(row) for row in rows]
        self._batch = []
        if at_once:
            encoded = self._forward(self._torch.cat(rows))
            self._batch = [(row, encoded[i : i + 1]) for i, row in enumerate(rows)]
            return encoded
        for row, result in zip(rows, known, strict=True):
            on_window(0.0)
            self._batch.append((row, self._forward(row) if result is None else result))
        return self._torch.cat([result for _, result in self._batch])

    def _known(self, mel: Any) -> Any:
        kept = self._batch if self._last is None else [self._last, *self._batch]
        return next((result for row, result in kept if row.shape == mel.shape and self._torch.equal(row, mel)), None)


def attend_together(attend: Callable[..., Any], query: Any, key: Any, value: Any, mask: Any = None) -> Any:
    """Lets all hypotheses of a window attend to its sound together; Whisper itself expects a single window."""
    if key.shape[0] in (1, query.shape[0]):
        return attend(query, key, value, mask)
    found, weights = attend(query.reshape(key.shape[0], -1, query.shape[-1]), key, value, mask)
    return found.reshape(query.shape), weights


@cache
def batch_task() -> Any:
    """Returns Whisper's decoding task, made to take several windows with several hypotheses each.

    Whisper 20250625 counts the encoder's output as if it were repeated for each hypothesis.
    """

    task: Any = import_module(
        "whisper.decoding", engine="openai-whisper", remedy="pip install 'gpudrop[openai]'"
    ).DecodingTask

    class BatchTask(task):
        def _get_audio_features(self, mel: Any) -> Any:
            return task._get_audio_features(self, mel).repeat_interleave(self.n_group, dim=0)

        def _detect_language(self, audio_features: Any, tokens: Any) -> Any:
            return task._detect_language(self, audio_features[:: self.n_group], tokens)

        def _main_loop(self, audio_features: Any, tokens: Any) -> Any:
            return task._main_loop(self, audio_features[:: self.n_group], tokens)

    return BatchTask
