"""A loaded Whisper of transformers: windows of sound become segments, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu_dispatch.transcript import Segment, Word
from gpu_dispatch.worker.speech.attention import FRAME_S, token_starts
from gpu_dispatch.worker.speech.engine import (
    SAMPLE_RATE,
    Device,
    RecognitionRequest,
    Samples,
    SpokenLanguage,
    import_module,
)
from gpu_dispatch.worker.speech.forced_alignment import (
    FORCED_AUDIO_S,
    FORCED_TOKENS,
    ForcedWord,
    forced_words,
    sayable,
)
from gpu_dispatch.worker.speech.token_segments import WindowText, segments_of, stretches_of
from gpu_dispatch.worker.speech.whisper import APPENDED, PREPENDED
from manifests.options import RecognitionOptions

ENCODER_S = 30.0
"""Length of the encoder's input."""

MULTILINGUAL_VOCABULARY = 51865
"""Tokens of the smallest multilingual model; English-only ones have one less."""


@dataclass(frozen=True, slots=True)
class SoundWindow:
    """At most ENCODER_S of a block, from `start` seconds of it."""

    samples: Samples
    start: float

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    def after(self, seconds: float) -> SoundWindow:
        skipped = round(seconds * SAMPLE_RATE)
        return SoundWindow(self.samples[skipped:], self.start + skipped / SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class DecodedWindow:
    """The segments of a window, with the block's times."""

    segments: tuple[Segment, ...]
    heard_s: float
    """Seconds of the window that they cover."""


class Decoder:
    """The model, its features and its vocabulary. Raises RuntimeError and ValueError of torch."""

    def __init__(self, model: Any, extractor: Any, vocabulary: Any, device: Device) -> None:
        self._torch = _vendor("torch")
        self._model = model
        self._extractor = extractor
        self._vocabulary = vocabulary
        self._device = device
        given = model.generation_config
        several = getattr(given, "is_multilingual", model.config.vocab_size >= MULTILINGUAL_VOCABULARY)
        ids: dict[str, int] = getattr(given, "lang_to_id", None) or {}
        self.languages = {code.strip("<|>"): number for code, number in ids.items()} if several else {}
        """Token of each language; empty for an English-only model."""
        self._heads: list[tuple[int, int]] = getattr(given, "alignment_heads", None) or _upper_heads(model.config)
        self._aligned: tuple[Samples, Any] | None = None

    def detect(self, audio: Samples) -> tuple[SpokenLanguage, ...]:
        torch = self._torch
        with torch.inference_mode():
            start = [self._model.generation_config.decoder_start_token_id]
            logits = self._logits(self._encode([audio]), start)[-1]
            chances = logits[list(self.languages.values())].softmax(-1).tolist()
        found = [SpokenLanguage(code, chance) for code, chance in zip(self.languages, chances, strict=True)]
        return tuple(sorted(found, key=lambda each: -each.probability))

    def align(self, audio: Samples, text: str, language: str) -> tuple[ForcedWord, ...]:
        """Lays `text` on the first window of `audio`; see `Recognizer.align`. The last encoding is kept."""
        tokens = self._tokens("transcribe", language)
        said: list[int] = tokens.encode(sayable(text))
        frames = round(min(len(audio) / SAMPLE_RATE, FORCED_AUDIO_S) / FRAME_S)
        if not said or len(said) > FORCED_TOKENS or frames < 2:
            return ()
        with self._torch.inference_mode():
            if self._aligned is None or self._aligned[0] is not audio:
                self._aligned = (audio, self._encode([audio]))
            scores, starts = self._forced(self._aligned[1], said, tokens, frames)
            likely: list[float] = scores[:, : tokens.eot].log_softmax(-1)[range(len(said)), said].tolist()
        texts, parts = tokens.split_to_word_tokens([*said, tokens.eot])
        sizes = [len(part) for part in parts[:-1]]
        bounds = [float(starts[at]) for at in (0, *accumulate(sizes))]
        return forced_words(texts[:-1], sizes, list(pairwise(bounds)), likely)

    def read(self, windows: Sequence[SoundWindow], request: RecognitionRequest) -> list[DecodedWindow]:
        """Decodes `windows` together, and those without a good result again at the next temperature."""
        task = "translate" if request.options.translate and self.languages else "transcribe"
        tokens = self._tokens(task, request.language)
        with self._torch.inference_mode():
            encoded = self._encode([window.samples for window in windows])
            texts: dict[int, WindowText] = {}
            doubtful = list(range(len(windows)))
            for temperature in request.options.temperature:
                request.on_progress(windows[doubtful[0]].start)
                written = self._write(encoded[doubtful], tokens, request, temperature, windows[doubtful[0]].start)
                texts.update(zip(doubtful, written, strict=True))
                doubtful = [i for i in doubtful if not texts[i].is_good(request.options)]
                if not doubtful:
                    break
            return [
                self._reading(encoded[i : i + 1], window, tokens, texts[i], request) for i, window in enumerate(windows)
            ]

    def _tokens(self, task: str, language: str) -> Any:
        made = _vendor("faster_whisper.tokenizer").Tokenizer
        return made(self._vocabulary, bool(self.languages), task, language)

    def _write(
        self, encoded: Any, tokens: Any, request: RecognitionRequest, temperature: float, now: float
    ) -> list[WindowText]:
        torch, options, config = self._torch, request.options, self._model.config
        places = config.max_target_positions
        prompt: list[int] = []
        if request.prompt:
            # As in the reference implementation, a prompt takes up to half of the decoder's places.
            prompt = [tokens.sot_prev, *tokens.encode(" " + request.prompt.strip())[-(places // 2 - 1) :]]
        untimed = [tokens.no_timestamps] if options.timestamps == "none" else []
        start = [*prompt, *tokens.sot_sequence, *untimed]
        ids = torch.tensor([start] * len(encoded), device=self._device)

        def go_on(given: Any, *_: Any, **__: Any) -> Any:
            request.on_progress(now)
            return torch.zeros(len(given), dtype=torch.bool, device=given.device)

        answer = self._model.generate(
            encoder_outputs=_vendor("transformers.modeling_outputs").BaseModelOutput(last_hidden_state=encoded),
            decoder_input_ids=ids,
            attention_mask=None,
            max_new_tokens=min(places // 2, places - len(start)),
            return_timestamps=not untimed,
            suppress_tokens=self._suppressed(tokens, options.suppress_tokens),
            stopping_criteria=[go_on],
            return_dict_in_generate=True,
            force_unique_generate_call=True,
            **({"language": request.language, "task": _task(tokens)} if self.languages else {}),
            **_search(options, temperature),
        )
        rows = answer.sequences[:, len(start) :].tolist()
        return [
            self._judged(encoded[i : i + 1], start, len(prompt), row, tokens, temperature) for i, row in enumerate(rows)
        ]

    def _judged(
        self, encoded: Any, start: list[int], prompt: int, row: list[int], tokens: Any, temperature: float
    ) -> WindowText:
        """Measures what was generated by showing it to the model once more: cheaper than keeping every step's scores,
        which take 0.2 MB for each token."""
        text = tuple(row[: row.index(tokens.eot)] if tokens.eot in row else row)
        logits = self._logits(encoded, [*start, *text])
        silence = 0.0
        if tokens.no_speech is not None:
            silence = float(logits[prompt].softmax(-1)[tokens.no_speech])
        shown = [(len(start) + i - 1, token) for i, token in enumerate((*text, tokens.eot)) if token <= tokens.eot]
        rows, said = zip(*shown, strict=True)
        chances = logits[list(rows)].log_softmax(-1)[range(len(said)), list(said)]
        return WindowText(text, tokens.decode(text).strip(), temperature, float(chances.mean()), silence)

    def _reading(
        self, encoded: Any, window: SoundWindow, tokens: Any, text: WindowText, request: RecognitionRequest
    ) -> DecodedWindow:
        if text.is_silence(request.options):
            return DecodedWindow((), window.seconds)
        cut = stretches_of(text.tokens, first_timestamp=tokens.timestamp_begin, window_s=window.seconds)
        said = [token for stretch in cut.found for token in stretch.tokens]
        words = self._words(encoded, said, tokens, window.seconds) if request.options.word_timestamps else []
        segments = segments_of(cut.found, words, text, offset_s=window.start, decode=tokens.decode)
        return DecodedWindow(segments, cut.heard_s)

    def _words(self, encoded: Any, said: list[int], tokens: Any, seconds: float) -> list[tuple[Word, int]]:
        """Returns the words of the text tokens `said`, each with its count of tokens; none for sound of one frame."""
        frames = round(seconds / FRAME_S)
        if not said or frames < 2:
            return []
        scores, starts = self._forced(encoded, said, tokens, frames)
        chances: list[float] = scores.softmax(-1)[range(len(said)), said].tolist()
        texts, parts = tokens.split_to_word_tokens([*said, tokens.eot])
        timed: list[dict[str, Any]] = []
        at = 0
        for text, part in zip(texts[:-1], parts[:-1], strict=True):
            after = at + len(part)
            timed.append(
                {
                    "word": text,
                    "tokens": part,
                    "start": float(starts[at]),
                    "end": float(starts[after]),
                    "probability": sum(chances[at:after]) / len(part),
                }
            )
            at = after
        _vendor("faster_whisper.transcribe").merge_punctuations(timed, PREPENDED, APPENDED)
        return [
            (Word(each["word"], each["start"], each["end"], each["probability"]), len(each["tokens"]))
            for each in timed
            if each["word"]
        ]

    def _forced(self, encoded: Any, said: list[int], tokens: Any, frames: int) -> tuple[Any, NDArray[np.float64]]:
        """Returns the scores in the place of each text token of `said`, and the tokens' starts with the last one's end.

        Times are in seconds of the window, of which `frames` are sound.
        """
        start = [*tokens.sot_sequence, tokens.no_timestamps]
        logits, heads = self._attended(encoded, [*start, *said, tokens.eot], frames)
        first, end = len(start) - 1, len(start) - 1 + len(said)
        return logits[first:end], token_starts(heads, first, end + 1)

    def _attended(self, encoded: Any, shown: list[int], frames: int) -> tuple[Any, Any]:
        """Returns the logits for `shown`, and the attention of the alignment heads to the first `frames`.

        The weights are computed beside the model's own attention, whose fast kernels do not give them.
        """
        layers = self._model.model.decoder.layers
        seen: dict[tuple[int, str], Any] = {}

        def keep(layer: int, part: str) -> Any:
            def hook(_: Any, __: Any, output: Any) -> None:
                seen[layer, part] = output[0]

            return getattr(layers[layer].encoder_attn, part).register_forward_hook(hook)

        hooks = [keep(layer, part) for layer in {layer for layer, _ in self._heads} for part in ("q_proj", "k_proj")]
        try:
            logits = self._logits(encoded, shown)
        finally:
            for hook in hooks:
                hook.remove()
        weights: list[Any] = []
        for layer, head in self._heads:
            size = layers[layer].encoder_attn.head_dim
            own = slice(head * size, (head + 1) * size)
            asked, given = seen[layer, "q_proj"][:, own].float(), seen[layer, "k_proj"][:frames, own].float()
            weights.append((asked @ given.T / size**0.5).softmax(-1))
        return logits, self._torch.stack(weights).cpu().numpy()

    def _encode(self, sounds: Sequence[Samples]) -> Any:
        features = self._extractor(list(sounds), sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        return self._model.get_encoder()(features.to(self._device, self._model.dtype)).last_hidden_state

    def _logits(self, encoded: Any, shown: Sequence[int]) -> Any:
        """Returns the scores of the token after each of `shown`, for one window."""
        ids = self._torch.tensor([list(shown)], device=self._device)
        return self._model(encoder_outputs=(encoded,), decoder_input_ids=ids, use_cache=False).logits[0].float()

    def _suppressed(self, tokens: Any, asked: Sequence[int]) -> list[int]:
        known = [token for token in asked if -1 <= token < self._model.config.vocab_size]
        found = _vendor("faster_whisper.transcribe").get_suppressed_tokens(tokens, known)
        return [token for token in found if token is not None]


def _search(options: RecognitionOptions, temperature: float) -> dict[str, Any]:
    """Returns the arguments of beam search, or those of sampling at a temperature above 0."""
    if temperature > 0.0:
        return {"do_sample": True, "temperature": temperature, "top_k": 0, "num_beams": 1}
    penalty = {} if options.length_penalty is None else {"length_penalty": options.length_penalty}
    return {"do_sample": False, "num_beams": options.beam_size, **penalty}


def _task(tokens: Any) -> str:
    return "translate" if tokens.task == tokens.translate else "transcribe"


def _upper_heads(config: Any) -> list[tuple[int, int]]:
    """Returns the heads of the decoder's upper half, for a checkpoint that names none, as the reference has it."""
    layers = range(config.decoder_layers // 2, config.decoder_layers)
    return [(layer, head) for layer in layers for head in range(config.decoder_attention_heads)]


def _vendor(module: str) -> Any:
    return import_module(module, engine="transformers", remedy="pip install 'gpudrop[transformers]'")
