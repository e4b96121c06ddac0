"""What users do to a bucket, and how each drop must end. Pure.

A drop is a list of acts at given seconds on keys of its own; `ends` and `outputs` say what may be found afterwards.
Every version leaves other outputs than any other one, so that an output tells which version it is of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DONE = "done"
NOTHING = "nothing"
"""Neither a done nor an error sidecar: the drop was gone before anybody looked."""

MEDIA = tuple(f"media/{i}.mp3" for i in range(5))
"""There before the first drop, and shared by many."""
PICTURE = "media/picture.jpg"
CLIP, CHORD = "media/clip.mp4", "media/chord.ogg"
"""A real video and a real sound."""

BARE_PREFIX = "bare/"


@dataclass(frozen=True, slots=True)
class Act:
    """At `at` seconds `key` is put (`data`) or deleted (None)."""

    at: float
    key: str
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Drop:
    """`acts` are in order of time. `ends`: "done", error codes, or "nothing"; one of them must have come.

    `outputs` are the texts that a done drop's outputs must hold, by key ("": any). `number` is the version in its
    metadata, None for bare media, which have none. `rival` names a drop that wants the same outputs: one of the two is
    done. `called`: the last version names a callback.
    """

    name: str
    kind: str
    key: str
    acts: tuple[Act, ...]
    ends: frozenset[str]
    outputs: Mapping[str, str]
    number: int | None = 1
    rival: str = ""
    called: bool = False

    @property
    def removed(self) -> bool:
        """Whether the drop itself does not lie there any more at the end."""
        return [act for act in self.acts if act.key == self.key][-1].data is None


def media_bytes(key: str) -> bytes:
    return f"sound of {key}".encode()


def said(model: str, media: bytes) -> str:
    """What `support.odd_worker` hears in `media`."""
    return f"{model}:{hashlib.sha256(media).hexdigest()[:12]}"


def work_of(asked: Mapping[str, Any]) -> str:
    """What names the work of one version, in a manifest and in the task that is made of it; "" where nothing does."""
    return str(asked.get("model") or asked.get("zoom_to") or "")
