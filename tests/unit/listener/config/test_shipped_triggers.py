"""The triggers that this project's own configurations ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from listener.config.loader import load_config
from listener.config.triggers import triggers_of
from listener.triggers.triggers import Match, match_event
from support.scripts import ROOT

SHIPPED = ("config.yaml", "docker/config.compose.yaml", "docker/config.gpu.yaml", "examples/runpod.config.yaml")


def taken_by(config: str, key: str) -> str | None:
    found = match_event(triggers_of(load_config(Path(ROOT) / config)), "media", key)
    return found.trigger.name if isinstance(found, Match) else None


@pytest.mark.parametrize("config", SHIPPED)
@pytest.mark.parametrize(
    "name", ["a.mp3", "UPPER.MP3", "Mixed.Wav", "a.webm", "a.MP4", "a.mkv", "a.m4b", "a.wma", "a.amr"]
)
def test_every_sound_and_video_file_is_taken(config: str, name: str) -> None:
    assert taken_by(config, f"audios/{name}") == taken_by(config, f"x/y/audios/{name}")
    assert taken_by(config, f"audios/{name}") is not None
    if config == "config.yaml":
        assert taken_by(config, name) == "audio"


@pytest.mark.parametrize("config", SHIPPED)
@pytest.mark.parametrize("key", ["audios/a.srt", "audios/a.mp3.txt", "x/a.mp3", "audios/mp3", "audios/a.jpg"])
def test_nothing_else_is(config: str, key: str) -> None:
    assert taken_by(config, key) is None
