"""Defaults for manifests: `_gpudrop.yaml` in a folder or above it, and what config.yaml says for all of them.

A document holds fields for every operation, sections named like an operation, or both:

    language: pt
    transcribe: {model: turbo}

The nearest document wins over those above it, a section over the rest of its document, a manifest over all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from manifests.errors import InvalidPath, UnknownField
from manifests.keys import climbs
from manifests.models import MODELS, Manifest
from manifests.nearest import did_you_mean
from manifests.syntax import parse_fields
from manifests.tree import Tree, escaped, shorten


@dataclass(frozen=True, slots=True)
class Defaults:
    """One document of defaults. `source` names it in errors: its key, or a place in config.yaml."""

    source: str
    fields: Mapping[str, Tree]
    sections: Mapping[str, Mapping[str, Tree]]


@dataclass(frozen=True, slots=True)
class Merged:
    """A manifest's fields over its defaults; `origins` says for a default which document gave it."""

    fields: dict[str, Tree]
    origins: dict[str, str]


def read_defaults(data: bytes, key: str, *, models: Mapping[str, type[Manifest]] = MODELS) -> Defaults:
    """The defaults at `key`; an empty file gives none. Raises ManifestError and its kin, naming `key`."""
    defaults = defaults_from(parse_fields(data, key, may_be_empty=True), source=key, models=models)
    for section in (defaults.fields, *defaults.sections.values()):
        path = section.get("path")
        if isinstance(path, str) and climbs(path):
            raise InvalidPath(
                f"In {key}: the output path {shorten(path)} holds '..'.",
                hint="Start with '/' to count from the bucket's root.",
                where=f"{key}: path",
            )
    return defaults


def defaults_from(
    fields: Mapping[str, Tree], *, source: str, models: Mapping[str, type[Manifest]] = MODELS
) -> Defaults:
    """Defaults given as a mapping. Raises UnknownField for a name that no operation has."""
    common: dict[str, Tree] = {}
    sections: dict[str, Mapping[str, Tree]] = {}
    for name, value in fields.items():
        if name in models and isinstance(value, dict):
            _check_names(value, models[name].model_fields, f"{source}: {name}", name)
            sections[name] = value
        elif not (name in models and value is None):
            common[name] = value
    every = {field for model in models.values() for field in model.model_fields}
    _check_names(common, every, source, "any operation", sections=models)
    return Defaults(source, common, sections)


def merge_defaults(
    own: Mapping[str, Tree], operation: str, model: type[Manifest], defaults: Sequence[Defaults], *, origin: str = ""
) -> Merged:
    """`own` over `defaults`, which stand from the bucket's root down, the nearest last.

    Fields that `operation` does not have are left out of the defaults, never out of `own`. A null means "not given"
    where null is no value. `origin` names the document `own` comes from when that is not the manifest.
    """
    fields: dict[str, Tree] = {}
    origins: dict[str, str] = {}
    for document in defaults:
        for given in (document.fields, document.sections.get(operation, {})):
            known = {n: v for n, v in given_fields(given, model).items() if n in model.model_fields}
            fields.update(known)
            origins.update(dict.fromkeys(known, document.source))
    mine = given_fields(own, model)
    fields.update(mine)
    for name in mine:
        origins.pop(name, None)
        if origin:
            origins[name] = origin
    return Merged(fields, origins)


def given_fields(fields: Mapping[str, Tree], model: type[Manifest]) -> dict[str, Tree]:
    """`fields` without the nulls of fields that cannot be null."""

    def is_idle(name: str, value: Tree) -> bool:
        field = model.model_fields.get(name)
        return value is None and field is not None and type(None) not in get_args(field.annotation)

    return {name: value for name, value in fields.items() if not is_idle(name, value)}


def _check_names(
    fields: Mapping[str, Tree], valid: Iterable[str], place: str, owner: str, *, sections: Iterable[str] = ()
) -> None:
    names = set(valid) - {"operation"}
    for name in fields:
        if name == "operation":
            raise UnknownField(
                f"In {place}: the operation cannot be a default.",
                hint="Name it in the manifest, or put fields into a section named like an operation.",
                where=f"{place}: operation",
            )
        if name not in names:
            raise UnknownField(
                f"In {place}: {shorten(name)} is no field of {owner}{did_you_mean(name, [*names, *sections])}.",
                hint=f"The fields are: {', '.join(sorted(names))}.",
                where=f"{place}: {escaped(name[:60])}",
            )
