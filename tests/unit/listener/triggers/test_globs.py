from __future__ import annotations

import subprocess
import sys
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.triggers.globs import matches_any
from manifests.errors import ConfigError


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("*/audios/*.mp3", "canais/a/b/audios/x.mp3", True),
        ("*/audios/*.mp3", "audios/x.mp3", False),
        ("*.mp3", "a.MP3", True),
        ("*.MP3", "a.mp3", True),
        ("*.{mp3,wav}", "Mixed.Wav", True),
        ("talk.mp?", "talk.MP3", True),
        ("Talk.mp3", "talk.MP3", False),
        ("*/audios/*.mp3", "a/AUDIOS/x.mp3", False),
        ("in.New/*", "in.new/x", False),
        ("*.mp3", "a.mp3.txt", False),
        ("?.mp3", "é.mp3", True),
        ("?.mp3", ".mp3", False),
        ("*.{mp3,wav}", "a/b.wav", True),
        ("*.{mp3,wav}", "a/b.flac", False),
        ("{in,out/{a,b}}/*", "out/b/x", True),
        ("{in,out/{a,b}}/*", "out/c/x", False),
        ("{,x}a", "a", True),
        ("{*.mp3,*.wav}", "x.wav", True),
        ("*{abc,b}*c", "abc", True),
        ("[ab].mp3", "[ab].mp3", True),
        ("[ab].mp3", "a.mp3", False),
        ("a|b", "a|b", True),
        ("a|b", "a", False),
        ("{abc}", "{abc}", True),
        ("{a,b", "{a,b", True),
        ("{a,{b}", "{a,{b}", True),
        ("a.b", "axb", False),
        ("GOD'S | * (1)+$^\\", "GOD'S | x (1)+$^\\", True),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_what_matches(pattern: str, key: str, expected: bool) -> None:
    assert matches_any((pattern,), key) is expected


def test_any_of_several_matches_and_none_of_none() -> None:
    assert matches_any(("x*", "*y"), "ay")
    assert not matches_any(("x*", "*y"), "ya")
    assert not matches_any((), "")


letters = st.text("ab/[]!-|.", max_size=12)


@given(st.text("ab*?/[]!-|.", max_size=10), letters)
def test_stars_and_question_marks_as_the_standard_library_has_them(pattern: str, key: str) -> None:
    assert matches_any((pattern,), key) == fnmatchcase(key, pattern.replace("[", "[[]"))


@given(st.lists(st.text("ab*?", max_size=4), min_size=2, max_size=4), letters, letters, letters)
def test_braces_are_their_alternatives(choices: list[str], before: str, after: str, key: str) -> None:
    whole = f"{before}{{{','.join(choices)}}}*{after}"
    assert matches_any((whole,), key) == matches_any(tuple(f"{before}{c}*{after}" for c in choices), key)


def test_many_stars_do_not_take_for_ever() -> None:
    code = "from listener.triggers.globs import matches_any; print(matches_any(('*a' * 40 + '*b',), 'a' * 1000))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_braces_that_explode_are_refused() -> None:
    with pytest.raises(ConfigError, match="combinations"):
        matches_any(("{a,b}" * 20,), "a")
    with pytest.raises(ConfigError, match="combinations"):
        matches_any(("{a,b}" * 5000,), "a")
