"""Entry points of packages that are not installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Point:
    """One that gives `found`, or raises it."""

    name: str
    found: Any
    value: str = "package:thing"

    def load(self) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found
