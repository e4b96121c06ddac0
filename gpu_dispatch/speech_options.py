"""What engines and models cannot do of a transcription's options, told by their names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gpu_dispatch.speech_names import DISTILLED, PUBLISHED, cannot_translate, language_candidates
from manifests.errors import LanguageUnsupported, ModelUnavailable, OptionUnsupported
from manifests.options import Engine, RecognitionOptions
from manifests.text import did_you_mean, nearest

LACKING: Mapping[Engine, tuple[str, ...]] = {
    "faster-whisper": ("chunk_length", "batch_size"),
    "openai-whisper": ("hotwords", "chunk_length", "batch_size"),
    "transformers": ("hotwords", "best_of", "patience", "condition_on_previous_text"),
}
"""Options that an engine does not have."""

DEFAULTS = RecognitionOptions()

NEARLY = 0.85
"""Likeness (difflib's ratio) of a misspelt name: one letter more, less or other in seven, and no suffix of its own."""


def lacking(engine: str, options: RecognitionOptions) -> tuple[str, ...]:
    """Returns the names of the options that are asked for and that `engine` does not have."""
    names = next((names for name, names in LACKING.items() if name == engine), ())
    return tuple(name for name in names if getattr(options, name) != getattr(DEFAULTS, name))


def check_options(options: RecognitionOptions) -> None:
    """Raises OptionUnsupported or LanguageUnsupported where model, engine and options cannot go together."""
    if options.translate and cannot_translate(options.model):
        raise OptionUnsupported(
            f"The model {options.model!r} cannot translate.",
            hint="Take large-v3, medium, small, base or tiny, or leave translate out.",
            where="translate",
        )
    if options.engine and (names := lacking(options.engine, options)):
        raise options_refused(options.engine, names)
    if options.language and options.languages:
        allowed = {code for tag in options.languages for code in language_candidates(tag)}
        if not allowed.intersection(language_candidates(options.language)):
            raise LanguageUnsupported(
                f"The language {options.language!r} is none of languages.",
                hint="Leave out language to have one of languages detected.",
                where="language",
            )


def options_refused(engine: str, names: Iterable[str]) -> OptionUnsupported:
    """Returns the error for options that `engine` does not have."""
    first, *more = names
    listed = " and ".join((first, *more))
    having = [name for name, lacks in LACKING.items() if first not in lacks]
    return OptionUnsupported(
        f"The engine {engine} has no {listed}.",
        hint=f"Leave {'them' if more else 'it'} out, or take engine: {' or '.join(having)}.",
        where=first,
    )


def check_model(model: str, own: Iterable[str], *, elsewhere: bool = False) -> None:
    """Raises ModelUnavailable for a name that is neither published nor among `own`, the models of these machines.

    `elsewhere`: other machines may have models of names that nobody has told; then only what is nearly a known name is
    taken for a mistake.
    """
    names = {*PUBLISHED, *DISTILLED, *own}
    if model in names or (elsewhere and nearest(model, names, cutoff=NEARLY) is None):
        return
    raise ModelUnavailable(
        f"There is no speech model {model!r}{did_you_mean(model, names)}.",
        hint="Take tiny, base, small, medium, large-v3, turbo or another published name; one of your own belongs into"
        " the folder of models, or into `models` of the endpoint in config.yaml.",
        where="model",
    )
