"""Documents parsed into fields: JSON, YAML or a CSV image list, chosen by the key's suffix alone.

Content types are ignored, because stores and clients label manifests with any.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from manifests.errors import ManifestError, ManifestSyntax, ManifestTooLarge, NoImages, TooManyImages, UnknownField
from manifests.models import MAX_IMAGES
from manifests.text import did_you_mean
from manifests.trees import Tree, decode_document, fail, parse_json, parse_yaml, shorten

COLUMNS = {
    "image": ("image", "image_url", "url", "file", "filename", "imagem", "arquivo"),
    "duration": ("duration", "duracao", "duração", "seconds", "segundos"),
    "id": ("id",),
}
_BY_NAME = {alias: name for name, aliases in COLUMNS.items() for alias in aliases}


def parse_csv(text: str, key: str) -> list[Tree]:
    """Returns an object for each row: image, duration (text) and id by the header; without one, image and duration."""
    rows = _rows(text, key)
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if any(name in COLUMNS["image"] for name in header):
        columns = _columns(header, key)
        rows = rows[1:]
    else:
        columns = ["image", "duration"]
    if not rows:
        raise NoImages(f"{key} lists no images.", hint="Write one line an image: name;seconds.", where=key)
    if len(rows) > MAX_IMAGES:
        raise TooManyImages(
            f"{key} lists {len(rows):,} images; {MAX_IMAGES:,} are allowed.", hint="Split the list.", where=key
        )
    return [_image(cells, columns, line, key) for line, cells in rows]


def _rows(text: str, key: str) -> list[tuple[int, list[str]]]:
    """Returns line number and cells of every row that is not blank."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = next((d for d in "\t;" if d in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as e:
        fail(f"is not a CSV list: {e}", key, (reader.line_num, 1), cause=e)


def _columns(header: list[str], key: str) -> list[str]:
    while header and not header[-1]:
        header = header[:-1]
    columns: list[str] = []
    for name in header:
        if name not in _BY_NAME:
            raise UnknownField(
                f"{key}: the column {shorten(name)} is unknown{did_you_mean(name, _BY_NAME)}.",
                hint="The columns are image, duration and id.",
                where=f"{key}, line 1",
            )
        if _BY_NAME[name] in columns:
            fail(f"has two columns for the {_BY_NAME[name]}", key, (1, 1))
        columns.append(_BY_NAME[name])
    return columns


def _image(cells: list[str], columns: list[str], line: int, key: str) -> Tree:
    while len(cells) > len(columns) and not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) > len(columns):
        hint = f"Separate {', '.join(columns)} by ';' when numbers or names hold commas."
        fail(f"has {len(cells)} cells where {len(columns)} belong", key, (line, 1), hint=hint)
    return {name: cell.strip() for name, cell in zip(columns, cells, strict=False) if cell.strip()}


MAX_BYTES = 2**20


def parse_fields(data: bytes, key: str, *, may_be_empty: bool = False) -> dict[str, Tree]:
    """Parses a .json, .yaml, .yml or .csv document. Raises ManifestError or a subclass, with line and column if any."""
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
