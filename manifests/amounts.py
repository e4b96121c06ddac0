"""How much of a manifest is handed to its model, which tells of everything that is wrong: each takes kilobytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import cast

from manifests.errors import TooManyImages, UnknownField
from manifests.models import MAX_IMAGES, Image, Manifest
from manifests.nearest import did_you_mean
from manifests.tree import Tree, escaped, shorten

_MAX_UNKNOWN = 200
"""Unknown names of which a model may still tell; beyond that the first one has to do."""


def check_amounts(fields: Mapping[str, Tree], operation: str, model: type[Manifest]) -> None:
    """Raises UnknownField or TooManyImages, before any work, where `fields` hold far too much."""
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
