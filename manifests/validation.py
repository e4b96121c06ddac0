"""Limits on how much a manifest may hold, and plain explanations of everything that its model refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from manifests.errors import (
    InvalidDuration,
    InvalidPath,
    ManifestError,
    MissingField,
    NoImages,
    TooManyImages,
    UnknownField,
)
from manifests.models import MAX_IMAGES, Image, Manifest
from manifests.text import did_you_mean, nearest
from manifests.trees import Tree, escaped, shorten

MAX_PROBLEMS = 8
"""Problems listed in one message; the rest are counted."""

Loc = tuple[int | str, ...]

_PATHS = ("path", "output_filename", "audio", "video", "srt", "image", "script", "retime")


@dataclass(frozen=True, slots=True)
class _Problem:
    kind: type[ManifestError]
    where: str
    text: str
    """What follows the field's name in a sentence, without its full stop."""
    hint: str = ""


def explain(
    error: ValidationError, model: type[BaseModel], operation: str, origins: Mapping[str, str]
) -> ManifestError:
    """Makes one error of everything that `model` refused; its class and place are those of the first problem.

    `origins` names the document of a top-level field where that is not the manifest.
    """
    errors = _ordered(error, model)
    told: list[str] = []
    problems: list[_Problem] = []
    for e in errors[:MAX_PROBLEMS]:
        problem = _problem(e, model, operation)
        origin = origins.get(str(e["loc"][0]), "") if e["loc"] else ""
        told.append((f"In {origin}: " if origin else "") + f"{problem.where} {problem.text}.")
        problems.append(replace(problem, where=f"{origin}: {problem.where}") if origin else problem)
    if len(errors) > MAX_PROBLEMS:
        told.append(f"And {len(errors) - MAX_PROBLEMS} more.")
    first = problems[0]
    hint = first.hint or "Correct the manifest and drop it again."
    return first.kind(" ".join(told), hint=hint, where=first.where)


def _ordered(error: ValidationError, model: type[BaseModel]) -> list[ErrorDetails]:
    """Puts unknown names first, and drops missing fields that only a misspelt name left missing."""
    errors = error.errors(include_url=False)
    unknown = [e for e in errors if e["type"] == "extra_forbidden"]
    meant = {(*e["loc"][:-1], nearest(str(e["loc"][-1]), _names(model, e["loc"][:-1]))) for e in unknown[:100]}
    return unknown + [e for e in errors if e["type"] != "extra_forbidden" and not _follows(e, meant)]


def _follows(error: ErrorDetails, meant: set[tuple[int | str | None, ...]]) -> bool:
    """Returns whether `error` only follows from a misspelt name, or from refused entries of a list now "too short"."""
    given: object = error["input"]
    short = error["type"] == "too_short" and isinstance(given, list | tuple)
    if short and len(cast("Sequence[object]", given)) >= error.get("ctx", {}).get("min_length", 0):
        return True
    return error["type"] == "missing" and error["loc"] in meant


def _problem(error: ErrorDetails, model: type[BaseModel], operation: str) -> _Problem:
    kind, loc, context = error["type"], error["loc"], error.get("ctx", {})
    where = field_path(loc)
    given = f"(it is {shorten(error['input'])})"
    name = next((p for p in reversed(loc) if isinstance(p, str)), "")
    if kind == "extra_forbidden":
        names = _names(model, loc[:-1])
        owner = operation if len(loc) == 1 else f"an entry of {loc[0]}"
        text = f"is no field of {owner}{did_you_mean(str(loc[-1]), names)}"
        return _Problem(UnknownField, where, text, f"The fields are: {', '.join(sorted(names))}.")
    if kind == "missing":
        return _Problem(MissingField, where, "is missing", f"Add {where} to the manifest.")
    if name == "duration":
        text = f"must be a number of seconds above 0 and at most 3600 {given}"
        return _Problem(InvalidDuration, where, text, "Write seconds, such as 6.48.")
    if kind == "too_short" and loc == ("images",):
        return _Problem(NoImages, where, "holds no image", "List at least one image and its duration.")
    if kind == "too_long" and loc == ("images",):
        text = f"holds more than {context['max_length']:,} images"
        return _Problem(TooManyImages, where, text, "Split the list over several manifests.")
    if kind == "literal_error":
        options = re.findall(r"'([^']*)'", str(context["expected"]))
        text = f"must be one of {', '.join(options)} {given}{did_you_mean(str(error['input']), options)}"
        return _Problem(ManifestError, where, text, _hint(loc, model))
    is_path = name in _PATHS and kind in ("string_too_short", "string_too_long", "value_error")
    text = _PLAIN.get(kind, "is not valid").format_map(context)
    return _Problem(InvalidPath if is_path else ManifestError, where, f"{text} {given}", _hint(loc, model))


def field_path(loc: Loc) -> str:
    """Formats ("images", 3, "duration") as images[3].duration."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{escaped(p[:60])}" for p in loc)
    return text.removeprefix(".")


def _fields(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """Returns the model whose fields stand at `loc`."""
    current: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part) if current else None
        current = _model_in(field.annotation) if field else None
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in get_args(annotation) if (m := _model_in(a))), None)


def _names(model: type[BaseModel], loc: Loc) -> tuple[str, ...]:
    found = _fields(model, loc)
    return tuple(found.model_fields) if found else ()


def _hint(loc: Loc, model: type[BaseModel]) -> str:
    """Returns the field's description as a hint."""
    names = [p for p in loc if isinstance(p, str)]
    owner = _fields(model, tuple(names[:-1])) if names else None
    field = owner.model_fields.get(names[-1]) if owner else None
    return f"{field_path((names[-1],))}: {field.description}" if field and field.description else ""


_PLAIN: dict[str, str] = {
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "multiple_of": "must be a multiple of {multiple_of:g}",
    "finite_number": "must be a finite number",
    "string_type": "must be text; write it in quotes",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length:,} characters",
    "string_pattern_mismatch": "has the wrong form",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object with named fields",
    "model_attributes_type": "must be an object with named fields",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length:,} entries",
    "value_error": "{error}",
}


_MAX_UNKNOWN = 200
"""Unknown names that are explained in full; of more, only the first is named."""


def check_amounts(fields: Mapping[str, Tree], operation: str, model: type[Manifest]) -> None:
    """Raises UnknownField or TooManyImages, before any other work, when `fields` hold far too much."""
    _check_names(((name, name) for name in fields), model.model_fields, operation)
    images = fields.get("images")
    if not isinstance(images, list) or "images" not in model.model_fields:
        return
    if len(images) > MAX_IMAGES:
        raise TooManyImages(
            f"images holds more than {MAX_IMAGES:,} images.",
            hint="Split the list over several manifests.",
            where="images",
        )
    entries = enumerate(cast("list[Tree]", images))
    named = ((name, f"images[{i}].") for i, entry in entries if isinstance(entry, dict) for name in entry)
    _check_names(((name, place + name) for name, place in named), Image.model_fields, "an entry of images")


def _check_names(names: Iterable[tuple[str, str]], known: Iterable[str], owner: str) -> None:
    valid = frozenset(known)
    unknown = list(islice(((name, place) for name, place in names if name not in valid), _MAX_UNKNOWN + 1))
    if len(unknown) > _MAX_UNKNOWN:
        name, place = unknown[0]
        raise UnknownField(
            f"{shorten(place)} is no field of {owner}{did_you_mean(name, valid)}. And {_MAX_UNKNOWN} more.",
            hint=f"The fields are: {', '.join(sorted(valid))}.",
            where=escaped(place[:60]),
        )
