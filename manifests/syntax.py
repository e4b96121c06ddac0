"""Bytes to a document's fields: JSON, YAML or a CSV image list, told apart by the key's suffix alone.

Stores and clients label manifests with whatever content type they like, so content types are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from manifests.errors import ManifestError, ManifestSyntax, ManifestTooLarge
from manifests.image_list import parse_csv
from manifests.json_tree import parse_json
from manifests.tree import Tree, decode_document, fail, shorten
from manifests.yaml_tree import parse_yaml

MAX_BYTES = 2**20


def parse_fields(data: bytes, key: str, *, may_be_empty: bool = False) -> dict[str, Tree]:
    """The fields that the document at `key` holds; `key` ends in .json, .yaml, .yml or .csv.

    Raises ManifestTooLarge, ManifestTooDeep, ManifestAliases, TooManyImages, or ManifestSyntax with line and column.
    """
    if len(data) > MAX_BYTES:
        raise ManifestTooLarge(
            f"{key} has {len(data):,} bytes; {MAX_BYTES:,} are allowed.",
            hint="Put media into files of their own and name them.",
            where=key,
        )
    text = decode_document(data, key)
    suffix = key.lower().rpartition(".")[2]
    tree: Tree
    if not text.strip():
        tree = None
    elif suffix == "csv":
        tree = {"images": parse_csv(text, key)}
    elif suffix == "json":
        tree = parse_json(text, key)
    else:
        tree = parse_yaml(text, key)
    if tree is None and may_be_empty:
        return {}
    if tree is None:
        raise ManifestSyntax(f"{key} is empty.", hint="Write at least the name of the media.", where=key)
    if not isinstance(tree, dict):
        what = shorten(tree) if not isinstance(tree, list) else "a list"
        raise ManifestError(
            f"{key} must hold named fields; it holds {what}.",
            hint='Write fields and values, such as audio: talk.mp3 in YAML or {"audio": "talk.mp3"} in JSON.',
            where=key,
        )
    if not all(_is_text(s) for s in _strings(tree)):
        fail("holds half of a surrogate pair, which is no character", key)
    return tree


def _strings(tree: Tree) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, list):
        for item in tree:
            yield from _strings(item)
    elif isinstance(tree, dict):
        for name, item in tree.items():
            yield name
            yield from _strings(item)


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)
