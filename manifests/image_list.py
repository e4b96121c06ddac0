"""CSV image lists, as spreadsheets write them: `;`, `,` or tabs between the cells, commas in the numbers."""

from __future__ import annotations

import csv
import io

from manifests.errors import NoImages, TooManyImages, UnknownField
from manifests.models import MAX_IMAGES
from manifests.nearest import did_you_mean
from manifests.tree import Tree, fail, shorten

COLUMNS = {
    "image": ("image", "image_url", "url", "file", "filename", "imagem", "arquivo"),
    "duration": ("duration", "duracao", "duração", "seconds", "segundos"),
    "id": ("id",),
}
_BY_NAME = {alias: name for name, aliases in COLUMNS.items() for alias in aliases}


def parse_csv(text: str, key: str) -> list[Tree]:
    """One object a row, with image, duration (text) and id as the header has them; without a header image, duration."""
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
    """Line number and cells of every row that is not blank."""
    first = next(line for line in text.splitlines() if line.strip())
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
