"""The name somebody probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The valid name most like `name`, or None when none is like it."""
    folded = {n.lower(): n for n in names}
    found = difflib.get_close_matches(name[:64].lower(), folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A remark in brackets that follows the misspelt name, or ""."""
    found = nearest(name, names)
    return f" (did you mean '{found}'?)" if found else ""
