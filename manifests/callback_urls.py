"""Who is to hear of a manifest that was refused: its callback_url, read past everything else that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ValidationError

from manifests.errors import ManifestError
from manifests.legacy import unwrapped
from manifests.models import CallbackUrl
from manifests.syntax import parse_fields
from manifests.trees import Tree

_FIELD = "callback_url"


class _Caller(BaseModel, frozen=True):
    callback_url: CallbackUrl


def callback_url_of(manifest: Mapping[str, Tree], defaults: Sequence[Mapping[str, Tree]]) -> str | None:
    """`defaults` stand from the bucket's root down, the nearest last. None when nobody, or no usable address, is named.

    A manifest that names an address, or says null, is not overruled by defaults.
    """
    fields = unwrapped(manifest) or manifest
    if _FIELD in fields:
        return _usable(fields[_FIELD])
    operation = fields.get("operation")
    for document in reversed(defaults):
        section = document.get(operation) if isinstance(operation, str) else None
        for given in (section, document):
            if isinstance(given, Mapping) and _FIELD in given:
                return _usable(given[_FIELD])
    return None


def caller_fields(data: bytes, key: str) -> Mapping[str, Tree]:
    """What of the manifest at `key` tells who is to hear of it; {} where it cannot be read."""
    fields = _fields(data, key)
    fields = unwrapped(fields) or fields
    return {name: fields[name] for name in (_FIELD, "operation") if name in fields}


def default_caller_fields(data: bytes, key: str) -> Mapping[str, Tree]:
    """What of the defaults at `key` tells who is to hear of a drop; {} where they cannot be read."""
    found: dict[str, Tree] = {}
    for name, value in _fields(data, key).items():
        if name == _FIELD:
            found[name] = value
        elif isinstance(value, dict) and _FIELD in value:
            found[name] = {_FIELD: value[_FIELD]}
    return found


def _fields(data: bytes, key: str) -> Mapping[str, Tree]:
    try:
        return parse_fields(data, key, may_be_empty=True)
    except ManifestError:
        return {}


def _usable(value: Tree) -> str | None:
    try:
        return _Caller.model_validate({_FIELD: value}).callback_url
    except ValidationError:
        return None
