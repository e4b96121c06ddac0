"""Fonts for burnt-in captions: Open Sans comes with the package; the system's own fonts fill in other scripts."""

from __future__ import annotations

import os
from pathlib import Path
from xml.sax.saxutils import escape

import fontpkg_open_sans  # pyright: ignore[reportMissingTypeStubs]

FAMILY = "Open Sans"
_SYSTEM_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts", "/System/Library/Fonts")
_SUFFIXES = (".ttf", ".otf", ".ttc")


def bundled_folder() -> Path:
    return Path(fontpkg_open_sans.__file__).parent / "files"


def system_fonts() -> tuple[Path, ...]:
    """Font files that are installed on this machine."""
    folders = [Path(folder) for folder in _SYSTEM_FOLDERS]
    found = (
        Path(root) / name
        for folder in folders
        for root, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(_SUFFIXES)
    )
    return tuple(sorted(found))


def write_fontconfig(folder: Path, fonts: tuple[Path, ...] | None = None) -> Path:
    """A fontconfig file in `folder` that names our fonts and the system's (or just `fonts`), and nothing of a user's.

    libass finds glyphs that a style's font lacks only through fontconfig, and a machine without fonts has no
    configuration either.
    """
    where = fonts if fonts is not None else (bundled_folder(), *map(Path, _SYSTEM_FOLDERS))
    dirs = "".join(f"  <dir>{escape(str(path))}</dir>\n" for path in where)
    config = folder / "fonts.conf"
    config.write_text(
        '<?xml version="1.0"?>\n<!DOCTYPE fontconfig SYSTEM "fonts.dtd">\n<fontconfig>\n'
        f"{dirs}"
        "  <cachedir>/var/cache/fontconfig</cachedir>\n"
        '  <cachedir prefix="xdg">fontconfig</cachedir>\n'
        "</fontconfig>\n",
        encoding="utf-8",
    )
    return config
