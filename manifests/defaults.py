"""Defaults for manifests: `_gpudrop.yaml` in a folder or above it, which folders' documents count, what one may hold.

A document holds fields for every operation, sections named like an operation, or both:

    language: pt
    transcribe: {model: turbo}

The nearest document wins over those above it, a section over the rest of its document, a manifest over all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from manifests.errors import AddressNotAllowed, InvalidPath, UnknownField
from manifests.keys import has_parent_segment, output_folder
from manifests.models import MODELS, Manifest
from manifests.names import drop_folder
from manifests.syntax import parse_fields
from manifests.text import did_you_mean
from manifests.trees import Tree, escaped, shorten


@dataclass(frozen=True, slots=True)
class Defaults:
    """One document of defaults."""

    source: str
    """Its name in errors: its key, or its place in config.yaml."""
    fields: Mapping[str, Tree]
    """For every operation."""
    sections: Mapping[str, Mapping[str, Tree]]
    """Fields by operation."""


@dataclass(frozen=True, slots=True)
class MergedFields:
    """A manifest's fields merged over its defaults."""

    fields: dict[str, Tree]
    origins: dict[str, str]
    """The document that gave a field, by field; the manifest itself is not listed."""


def read_defaults(data: bytes, key: str, *, models: Mapping[str, type[Manifest]] = MODELS) -> Defaults:
    """Reads the defaults at `key`; an empty file gives none. Raises ManifestError or a subclass, naming `key`."""
    defaults = defaults_from(parse_fields(data, key, may_be_empty=True), source=key, models=models)
    for section in (defaults.fields, *defaults.sections.values()):
        path = section.get("path")
        if isinstance(path, str) and has_parent_segment(path):
            raise InvalidPath(
                f"In {key}: the output path {shorten(path)} holds '..'.",
                hint="Start with '/' to count from the bucket's root.",
                where=f"{key}: path",
            )
    return defaults


def defaults_from(
    fields: Mapping[str, Tree], *, source: str, models: Mapping[str, type[Manifest]] = MODELS
) -> Defaults:
    """Makes Defaults from a mapping. Raises UnknownField for a name that no operation has."""
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
) -> MergedFields:
    """Merges `own` over `defaults`, which are ordered from the bucket's root down.

    Fields that `operation` does not have are dropped from the defaults, never from `own`. A null counts as absent where
    the field cannot be null. `origin` names the document of `own` when that is not the manifest.
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
    return MergedFields(fields, origins)


def given_fields(fields: Mapping[str, Tree], model: type[Manifest]) -> dict[str, Tree]:
    """Returns `fields` without the nulls of fields that cannot be null."""

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


_ADDRESS_FIELD = re.compile(
    r"(?:^|_)(?:url|urls|uri|uris|webhook|callback|header|headers|secret|secrets|token|password|authorization)$"
)
"""Names of fields that hold addresses or secrets, whatever their value; third-party handlers have such fields, too."""
_ADDRESS = re.compile(r"\s*(?!s3:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_METADATA = "metadata"
"""The one field that is only echoed."""


@dataclass(frozen=True, slots=True)
class DefaultsFolder:
    """A folder whose `_gpudrop.yaml` counts, as do those of all folders below it."""

    folder: str
    """Empty (the bucket's root), or ends in "/"."""
    buckets: tuple[str, ...] = ()
    """Empty: every bucket."""
    addresses: bool = False
    """Whether these defaults may name addresses."""


@dataclass(frozen=True, slots=True)
class DefaultsFolders:
    """The folders whose `_gpudrop.yaml` counts; the longest match decides."""

    listed: tuple[DefaultsFolder, ...] | None = None
    """None: every folder, without addresses."""

    def count(self, bucket: str, key: str) -> bool:
        return self.listed is None or self._entry(bucket, key) is not None

    def may_address(self, bucket: str, key: str) -> bool:
        entry = self._entry(bucket, key)
        return entry is not None and entry.addresses

    def _entry(self, bucket: str, key: str) -> DefaultsFolder | None:
        fitting = [
            each
            for each in self.listed or ()
            if key.startswith(each.folder) and (not each.buckets or bucket in each.buckets)
        ]
        return max(fitting, key=lambda each: (len(each.folder), len(each.buckets) > 0), default=None)


EVERY_FOLDER = DefaultsFolders()


def check_folder_defaults(defaults: Defaults, key: str, *, addresses: bool) -> None:
    """Checks that the defaults at `key` may apply to other drops; `addresses` permits addresses in them.

    Raises AddressNotAllowed, or InvalidPath for outputs outside the document's own folder.
    """
    folder = drop_folder(key)
    for fields in (defaults.fields, *defaults.sections.values()):
        _check_path(fields.get("path"), folder, key)
        field = None if addresses else next(_addressed(fields), None)
        if field is not None:
            raise AddressNotAllowed(
                f"In {key}: {field} names an address, and the defaults of this folder may not.",
                hint="Name it in the manifests themselves, or have the folder allowed in config.yaml:"
                f' defaults_from: [{{folder: "{folder or "/"}", addresses: true}}].',
                where=f"{key}: {field}",
            )


def _check_path(path: Tree, folder: str, key: str) -> None:
    if isinstance(path, str) and not output_folder(path, folder=folder, where=f"{key}: path").startswith(folder):
        raise InvalidPath(
            f"In {key}: the output path {shorten(path)} leads out of {folder!r}, for which these defaults are.",
            hint=f"Name a folder relative to the manifests, or one that begins with '/{folder}'.",
            where=f"{key}: path",
        )


def _addressed(fields: Mapping[str, Tree]) -> Iterator[str]:
    for name, value in fields.items():
        if name != _METADATA and (_ADDRESS_FIELD.search(name) or _holds_address(value)):
            yield escaped(name[:60])


def _holds_address(value: Tree) -> bool:
    if isinstance(value, str):
        return _ADDRESS.match(value) is not None
    if isinstance(value, list):
        return any(map(_holds_address, value))
    return isinstance(value, dict) and any(map(_holds_address, value.values()))
