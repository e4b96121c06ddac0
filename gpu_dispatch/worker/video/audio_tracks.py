"""An audio track, parsed from the report of `ffmpeg -i`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RATE = re.compile(r", (\d+) Hz\b")
_CHANNELS = re.compile(r", (\d+) channels\b")
_ROLES = re.compile(r" \((default|comment|visual impaired|hearing impaired|descriptions|dependent|clean effects)\)")


@dataclass(frozen=True, slots=True)
class AudioTrack:
    codec: str
    sample_rate: int
    channels: int = 0
    """0 where ffmpeg names a layout, such as stereo or 7.1."""
    index: int = 0
    """The stream's number in the file, video and all, from 0."""
    language: str = ""
    """By the container: two or three letters, or with a region; "" when it names none."""
    roles: frozenset[str] = frozenset()
    """ffmpeg's words: "default", "comment", "visual impaired" …"""

    @property
    def is_default(self) -> bool:
        return "default" in self.roles

    @property
    def is_aside(self) -> bool:
        """Whether it accompanies the programme: a commentary, or a description for those who cannot see."""
        return bool(self.roles - {"default"})


def audio_track(index: str, language: str, codec: str, rest: str) -> AudioTrack | None:
    """Parses what follows "Audio: CODEC" in a stream's line; None for a track that ffmpeg cannot decode."""
    rate = _RATE.search(rest)
    if not rate or codec == "none":
        return None
    many = _CHANNELS.search(rest)
    named = "" if language in ("und", "") else language
    return AudioTrack(
        codec, int(rate[1]), int(many[1]) if many else 0, int(index), named, frozenset(_ROLES.findall(rest))
    )
