"""Objects that no trigger takes are told in the log, and never without bound."""

from __future__ import annotations

from structlog.testing import capture_logs

from listener.intake.unmatched import FOLDERS, MAX_KINDS, UnmatchedObjects
from listener.triggers.triggers import IgnoredEvent, Trigger, match_event

MP3 = Trigger("audio", patterns=("in/*.mp3",), manifest={})


def told(*keys: str, again: int = 1) -> list[str]:
    objects = UnmatchedObjects()
    with capture_logs() as lines:
        for key in keys * again:
            found = match_event((MP3,), "drop", key)
            if isinstance(found, IgnoredEvent):
                objects.tell("drop", key, found)
    return [str(line["key"]) for line in lines]


def test_each_kind_is_told_once_in_a_folder() -> None:
    assert told("in/a.xyz", "in/b.xyz", "in/C.XYZ", "a.xyz", "in/ok.mp3", "out/x.mp3", again=3) == [
        "in/a.xyz",
        "a.xyz",
        "out/x.mp3",
    ]


def test_what_is_ours_or_hidden_is_not_told() -> None:
    assert told("talk/segments.srt", "talk/words.json", "talk/talk.pt-BR.vtt", "films/video_12.mp4") == []
    assert told("talk/talk.srt", "films/film.mp4") == ["talk/talk.srt", "films/film.mp4"]
    assert told("a.status.json", ".gpudrop/jobs/x", "_gpudrop.yaml", ".hidden.mp3", "a.cancel", "folder/") == []


def test_a_manifest_without_a_trigger_is_told() -> None:
    assert told("a.job.yaml") == ["a.job.yaml"]


def test_the_log_is_bounded() -> None:
    assert len(told(*(f"{n}/a.xyz" for n in range(1000)))) == FOLDERS
    assert len(told(*(f"a.x{n}" for n in range(1000)))) == MAX_KINDS
