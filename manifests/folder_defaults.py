"""Which folders' `_gpudrop.yaml` counts, and what may stand in one: it speaks for manifests of others. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from manifests.defaults import Defaults
from manifests.errors import AddressNotAllowed, InvalidPath
from manifests.keys import output_folder
from manifests.names import drop_folder
from manifests.tree import Tree, escaped, shorten

_OF_ADDRESSES = re.compile(
    r"(?:^|_)(?:url|urls|uri|uris|webhook|callback|header|headers|secret|secrets|token|password|authorization)$"
)
"""Fields that are about addresses by their name, whatever stands in them: handlers of others have their own."""
_ADDRESS = re.compile(r"\s*(?!s3:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_ECHOED = "metadata"
"""The one field that nobody acts on."""


@dataclass(frozen=True, slots=True)
class DefaultsFolder:
    """The `_gpudrop.yaml` of `folder` ("" or ending in "/") and of all folders below it count; in `buckets`, or in all.

    `addresses`: they may name addresses as well.
    """

    folder: str
    buckets: tuple[str, ...] = ()
    addresses: bool = False


@dataclass(frozen=True, slots=True)
class DefaultsFolders:
    """The folders whose `_gpudrop.yaml` counts; None: every one, without addresses. The longest that fits decides."""

    listed: tuple[DefaultsFolder, ...] | None = None

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
    """Returns when `defaults`, which lie at `key`, may speak for others. `addresses`: they may name some.

    Raises AddressNotAllowed, or InvalidPath for outputs that would leave the document's own folder.
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
        if name != _ECHOED and (_OF_ADDRESSES.search(name) or _holds_address(value)):
            yield escaped(name[:60])


def _holds_address(value: Tree) -> bool:
    if isinstance(value, str):
        return _ADDRESS.match(value) is not None
    if isinstance(value, list):
        return any(map(_holds_address, value))
    return isinstance(value, dict) and any(map(_holds_address, value.values()))
