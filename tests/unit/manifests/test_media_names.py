"""Which files are media by their names."""

from __future__ import annotations

import pytest

from manifests.media_names import EXTENSIONS, extension, is_media, without_extension


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.c/Talk.MP3", "mp3"),
        ("talk", ""),
        ("a.b/talk", ""),
        (".mp3", ""),
        ("v1.2", "2"),
    ],
)
def test_an_extension_has_no_case(name: str, expected: str) -> None:
    assert extension(name) == expected


AUDIO = """mp3 wav m4a m4b aac flac ogg oga opus wma aiff aif amr ac3 eac3 au caf w64 tta wv ape dts mka weba"""
VIDEO = """mp4 m4v mov mkv webm avi mpg mpeg ts mts m2ts wmv flv 3gp ogv mxf vob"""
OTHERS = """srt json txt jpg png pdf pcm m3u8 job.yaml"""


def test_every_kind_that_users_drop_is_known() -> None:
    assert all(is_media(f"x.{each.upper()}", ("audio",)) for each in AUDIO.split())
    assert all(is_media(f"x.{each}", ("video",)) for each in VIDEO.split())
    assert not any(is_media(f"x.{each}") for each in OTHERS.split())
    assert not EXTENSIONS["audio"] & EXTENSIONS["video"]


@pytest.mark.parametrize(
    ("name", "stem"),
    [("Talk.M4B", "Talk"), ("v1.2", "v1.2"), ("a.b.webm", "a.b"), ("notes.txt", "notes.txt"), (".mp4", ".mp4")],
)
def test_only_the_extension_of_media_is_no_part_of_a_name(name: str, stem: str) -> None:
    assert without_extension(name) == stem
