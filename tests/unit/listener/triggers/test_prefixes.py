from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.triggers.globs import literal_prefixes, matches_any, shortest
from listener.triggers.triggers import MANIFESTS, MAX_PREFIXES, Match, Trigger, TriggerBook, match_event, prefixes
from manifests.names import drop_path


def media(**conditions: object) -> Trigger:
    return Trigger(name="t", manifest={}, **conditions)  # type: ignore[arg-type]


def manifests(**conditions: object) -> Trigger:
    return Trigger(name="manifests", **conditions)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("triggers", "expected"),
    [
        ((MANIFESTS,), ("",)),
        ((MANIFESTS, media(prefix="films/")), ("",)),
        ((), ()),
        ((media(buckets=("other",)),), ()),
        ((media(prefix="films/"), media(prefix="in/")), ("films/", "in/")),
        ((media(prefix="films/"), media(prefix="films/new/"), media(prefix="f")), ("f",)),
        ((media(patterns=("in/*.mp3", "in/a/*.wav")),), ("in/",)),
        ((media(patterns=("{in,out}/*.mp3",)),), ("in/", "out/")),
        ((media(patterns=("*/audios/*.mp3",)),), ("",)),
        ((media(prefix="a/b/", patterns=("a/*.mp3",)),), ("a/b/",)),
        ((media(prefix="a/", patterns=("a/b?/*", "x/*")),), ("a/b",)),
        ((media(prefix="a/", patterns=("x/*",)),), ()),
        ((media(patterns=("a[1]/*", "in/today.mp3")),), ("a[1]/", "in/today.mp3")),
        ((manifests(prefix="jobs/"),), ("jobs/",)),
        ((manifests(patterns=("jobs/talk.job.yaml",)),), ("jobs/talk",)),
        ((manifests(patterns=("jobs/talk.j*",)),), ("jobs/talk",)),
        ((manifests(prefix="jobs/v1."),), ("jobs/v1",)),
    ],
)
def test_what_must_be_listed(triggers: tuple[Trigger, ...], expected: tuple[str, ...]) -> None:
    assert prefixes(triggers, "drop") == expected


def test_many_prefixes_become_their_common_beginning() -> None:
    many = tuple(media(prefix=f"in/{n:03}/") for n in range(MAX_PREFIXES + 1))
    assert prefixes(many, "drop") == ("in/0",)
    assert len(prefixes(many[:-1], "drop")) == MAX_PREFIXES


def test_changed_triggers_change_what_is_listed() -> None:
    book = TriggerBook((media(prefix="a/"),))
    assert book.prefixes("drop") == ("a/",)
    book.use((MANIFESTS,))
    assert book.prefixes("drop") == ("",)


texts = st.text("ab/.j*?", max_size=5)
triggers = st.builds(
    Trigger,
    name=st.just("t"),
    prefix=st.text("ab/.j", max_size=3),
    patterns=st.lists(texts, max_size=3).map(tuple),
    manifest=st.sampled_from([None, {}]),
)


@given(st.lists(triggers, max_size=3), st.text("ab/j", min_size=1, max_size=5), st.sampled_from(["", ".job.yaml"]))
def test_every_drop_and_its_cancel_lie_below_the_prefixes(them: list[Trigger], name: str, suffix: str) -> None:
    key = name + suffix
    if isinstance(match_event(them, "drop", key), Match):
        found = prefixes(them, "drop")
        for wanted in (key, drop_path(key) + ".cancel"):
            assert any(wanted.startswith(prefix) for prefix in found)


@given(st.lists(texts, max_size=4).map(tuple), st.text("ab/.j", max_size=6))
def test_what_matches_begins_with_a_literal_prefix(patterns: tuple[str, ...], key: str) -> None:
    if matches_any(patterns, key):
        assert any(key.startswith(prefix) for prefix in literal_prefixes(patterns))


@given(st.lists(st.text("ab", max_size=4)), st.text("ab", max_size=6))
def test_the_shortest_prefixes_say_the_same_and_none_is_spare(them: list[str], key: str) -> None:
    few = shortest(them)
    assert any(key.startswith(p) for p in them) == any(key.startswith(p) for p in few)
    assert not any(a != b and a.startswith(b) for a in few for b in few)
