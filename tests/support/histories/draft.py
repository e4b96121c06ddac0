"""A drop in the making: its name and moment, and the manifests it may have. Pure, but for the numbers it draws."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from support.histories.drops import PICTURE, Act, Drop, said

_BAD: tuple[tuple[str, dict[str, Any] | None], ...] = (
    ("manifest_syntax", None),
    ("unknown_field", {"audio": "/media/0.mp3", "modle": "base"}),
    ("missing_field", {"operation": "transcribe"}),
    ("unknown_operation", {"operation": "dance", "audio": "/media/0.mp3"}),
    ("invalid_duration", {"images": [{"image": f"/{PICTURE}", "duration": -1}]}),
    ("no_images", {"images": []}),
    ("invalid_path", {"audio": "/media/0.mp3", "path": "../../elsewhere/"}),
    ("bucket_not_allowed", {"audio": "s3://another-bucket/a.mp3"}),
    ("address_not_allowed", {"audio": "http://127.0.0.1:1/a.mp3"}),
)
"""By the code each gives; None: no JSON at all."""


@dataclass(frozen=True, slots=True)
class Draft:
    rng: random.Random
    name: str
    kind: str
    at: float
    url: str

    @property
    def key(self) -> str:
        return f"{self.name}.job.json"

    def short(self) -> float:
        """A pause after which much may have happened, or nothing yet."""
        return self.rng.choice((0.0, self.rng.uniform(0.0, 0.4), self.rng.uniform(0.4, 3.0)))

    def model(self, number: int, *, slow: bool | None = None) -> str:
        slow = self.rng.random() < 0.15 if slow is None else slow
        return f"{'hear-1.5' if slow else 'hear'}--{self.name}.{number}"

    def manifest(self, number: int, audio: str, model: str, **more: Any) -> bytes:
        asked = {
            "audio": f"/{audio}",
            "model": model,
            "path": f"{self.name}/",
            "formats": ["txt", "srt"],
            "metadata": {"number": number},
        }
        return self.body({**asked, **more})

    def body(self, asked: Mapping[str, Any]) -> bytes:
        return json.dumps({**asked, "callback_url": self.url} if self.url else asked).encode()

    def mistake(self) -> tuple[str, bytes]:
        """An error's code, and a manifest that gives it."""
        code, asked = self.rng.choice(_BAD)
        return code, b'{"audio": "a.mp3"' if asked is None else self.body(asked)

    def outputs(self, model: str, media: bytes) -> dict[str, str]:
        return {f"{self.name}/transcript.txt": said(model, media)}

    def drop(self, acts: list[Act], ends: set[str], outputs: Mapping[str, str], **more: Any) -> Drop:
        more.setdefault("called", bool(self.url))
        return Drop(self.name, self.kind, self.key, tuple(acts), frozenset(ends), outputs, **more)
