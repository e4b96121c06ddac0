"""The callback_url of a refused manifest, read despite everything else that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ValidationError

from manifests.errors import ManifestError
from manifests.legacy import unwrapped, upgrade_fields
from manifests.models import CallbackUrl
from manifests.reader import implied_operation
from manifests.syntax import parse_fields
from manifests.trees import Tree

_FIELD = "callback_url"


class _Caller(BaseModel, frozen=True):
    callback_url: CallbackUrl


def callback_url_of(manifest: Mapping[str, Tree], defaults: Sequence[Mapping[str, Tree]]) -> str | None:
    """Returns the address to call back; None where none, or no usable one, is named.

    `defaults` are ordered from the bucket's root down. They do not overrule a manifest that names an address or says
    null.
    """
    fields = unwrapped(manifest) or manifest
    if _FIELD in fields:
        return _usable(fields[_FIELD])
    operation = _operation(fields)
    for document in reversed(defaults):
        section = document.get(operation) if isinstance(operation, str) else None
        for given in (section, document):
            if isinstance(given, Mapping) and _FIELD in given:
                return _usable(given[_FIELD])
    return None


def caller_fields(data: bytes, key: str) -> Mapping[str, Tree]:
    """Returns what determines the callback_url in the manifest at `key`; {} for an unreadable manifest."""
    fields = _fields(data, key)
    fields = unwrapped(fields) or fields
    found = {_FIELD: fields[_FIELD]} if _FIELD in fields else {}
    operation = _operation(fields)
    return found if operation is None else {**found, "operation": operation}


def default_caller_fields(data: bytes, key: str) -> Mapping[str, Tree]:
    """Returns every callback_url in the defaults at `key`, sections included; {} for unreadable ones."""
    found: dict[str, Tree] = {}
    for name, value in _fields(data, key).items():
        if name == _FIELD:
            found[name] = value
        elif isinstance(value, dict) and _FIELD in value:
            found[name] = {_FIELD: value[_FIELD]}
    return found


def _operation(fields: Mapping[str, Tree]) -> Tree:
    """Returns what `fields` name as their operation, or the one that their media imply."""
    if (named := fields.get("operation")) is not None:
        return named
    try:
        return implied_operation(upgrade_fields(fields))
    except ManifestError:
        return None


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
