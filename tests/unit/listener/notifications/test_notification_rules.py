"""Notification rules: which ones the triggers ask for, and what becomes of those of others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from listener.events.records import EVENT_NAMES
from listener.notifications.render import entry_line, rules_difference
from listener.notifications.rules import (
    EVENT_BRIDGE,
    QUEUE,
    NotificationDocument,
    RuleEntry,
    event_bridge,
    is_applied,
    merge_rules,
    notification_document_bytes,
    read_notification_document,
    rule,
    without_ours,
)
from listener.notifications.targets import NotificationTarget, decoded_filter, parse_target, rules_of
from listener.triggers.filters import Filter, filters_of, overlap
from listener.triggers.globs import literal_suffixes, matches_any
from listener.triggers.triggers import MANIFESTS, IgnoredEvent, Trigger, match_event
from manifests.errors import ConfigError, ServerMisbehaves
from manifests.names import MANIFEST_SUFFIXES, cancel_target, is_manifest

MINIO = NotificationTarget(QUEUE, "arn:minio:sqs::W:webhook")
AMAZON = NotificationTarget(QUEUE, "arn:aws:sqs:us-east-1:123456789012:drops")
MEDIA = {"operation": "transcribe"}


def trigger(*patterns: str, prefix: str = "", suffix: str = "", buckets: Sequence[str] = ()) -> Trigger:
    return Trigger("t", buckets=tuple(buckets), prefix=prefix, suffix=suffix, patterns=patterns, manifest=MEDIA)


def shown(filters: Sequence[Filter]) -> set[str]:
    return {f"{each.prefix}*{each.suffix}" for each in filters}


MANIFEST_FILTERS = {"*.job.json", "*.job.yaml", "*.job.yml", "*.job.csv", "*.cancel"}


@pytest.mark.parametrize(
    ("triggers", "filters"),
    [
        ([], set[str]()),
        ([MANIFESTS], MANIFEST_FILTERS),
        ([trigger("*/audios/*.mp3")], {"*.mp3", "*.cancel"}),
        ([trigger("in/*.{mp3,wav}")], {"in/*.mp3", "in/*.wav", "in/*.cancel"}),
        ([MANIFESTS, trigger("in/*.mp3")], {*MANIFEST_FILTERS, "in/*.mp3"}),
        ([trigger("*.mp3"), trigger("audios/*.mp3")], {"*.mp3", "*.cancel"}),
        ([trigger("in/*.mp3"), trigger("in/*3")], {"in/*3", "in/*.cancel"}),
        ([MANIFESTS, trigger("in/*")], {"*"}),
        ([trigger(prefix="in/", suffix=".mp3")], {"in/*.mp3", "in/*.cancel"}),
        ([trigger("in/x.mp3")], {"in/x.mp3*"}),
        ([trigger("*.wav", suffix=".mp3")], {"*.cancel"}),
        ([trigger("a.*.mp3")], {"a.*"}),
        ([trigger("in/*", buckets=["other"])], set[str]()),
        ([Trigger("manifests", prefix="jobs/")], {each.replace("*", "jobs/*") for each in MANIFEST_FILTERS}),
    ],
)
def test_few_rules_tell_what_the_triggers_need(triggers: Sequence[Trigger], filters: set[str]) -> None:
    assert shown(filters_of(triggers, "drop")) == filters


def test_too_many_rules_become_one() -> None:
    many = trigger(*(f"in/{n:02}*.{end}" for n in range(30) for end in ("mp3", "wav")))
    assert len(filters_of([many], "drop", most=200)) > 60
    assert shown(filters_of([many], "drop")) == {"in/*"}
    assert shown(filters_of([MANIFESTS, many], "drop", most=3)) == {"*"}


def test_a_pattern_with_very_many_endings_does_not_take_for_ever() -> None:
    ends = ",".join(f"{n:03}" for n in range(1000))
    assert shown(filters_of([trigger("{" + ends + "}*{" + "x}")], "drop")) == {"*"}
    assert shown(filters_of([trigger("in/{" + ends + "}")], "drop")) == {"in/*"}


GLOB = st.text("ab/.*?{,}", max_size=12)
NAME = st.text("ab/.", max_size=4)
SOME_TRIGGER = st.builds(
    trigger, GLOB.filter(lambda glob: glob.count("{") < 4), prefix=NAME, suffix=NAME, buckets=st.just(())
)
TRIGGERS = st.lists(SOME_TRIGGER, max_size=4).flatmap(
    lambda found: st.sampled_from([found, [MANIFESTS, *found], [Trigger("manifests", prefix="a/b"), *found]])
)
KEY = st.builds(
    "".join, st.lists(st.sampled_from(["a", "b", "/", ".", "ab", ".job.json", ".job.csv", ".cancel"]), max_size=8)
)


@given(TRIGGERS, st.lists(KEY, max_size=20), st.integers(1, 8))
@example([trigger("*a", prefix="aa")], ["aa"], 8)
@example([Trigger("manifests", prefix="a.job")], ["a.job.json", "a.cancel"], 8)
def test_every_key_that_starts_or_ends_a_run_is_told_of_once(
    triggers: Sequence[Trigger], keys: Sequence[str], most: int
) -> None:
    filters = filters_of(triggers, "drop", most=most)
    assert len(filters) <= most
    assert not any(overlap(one, other) for one, other in combinations(filters, 2))
    for key in keys:
        found = match_event(triggers, "drop", key)
        # Whatever cancels nothing of these triggers' need not be told.
        wanted = not isinstance(found, IgnoredEvent) and (cancel_target(key) is None or _cancels(triggers, key))
        passed = [each for each in filters if _passes(each, key)]
        assert len(passed) <= 1
        assert bool(passed) or not wanted, key


def _cancels(triggers: Sequence[Trigger], key: str) -> bool:
    drop = cancel_target(key) or ""
    drops = [drop, *(drop + suffix for suffix in MANIFEST_SUFFIXES)]
    return any(t.covers("drop", each) for t in triggers for each in drops if is_manifest(each) is (t.manifest is None))


def _passes(each: Filter, key: str) -> bool:
    """As MinIO does: prefix and suffix one after the other. Amazon lets through no less."""
    return key.startswith(each.prefix) and key.endswith(each.suffix) and len(key) >= len(each.prefix) + len(each.suffix)


PIECES = [("*", "ab"), ("*", ""), ("?", "/"), ("a", "a"), (".", "."), ("{a,*b}", "xb"), ("{a,{b,}}", ""), ("{", "{")]
PIECES += [("}", "}"), (",", ","), ("{a}", "{a}")]


@given(st.lists(st.sampled_from(PIECES), max_size=6))
@example([("{a,{b}", "{a,{b}")])
@example([("x{*.mp,.wa}b", "x.wab")])
def test_what_matches_a_glob_ends_as_the_glob_says(pieces: Sequence[tuple[str, str]]) -> None:
    glob, key = ("".join(each[i] for each in pieces) for i in range(2))
    # A brace that stands for itself may meet another one, and then they are braces.
    assume(matches_any((glob,), key))
    assert any(key.endswith(suffix) for suffix in literal_suffixes((glob,)))


def test_events_are_asked_for_in_the_words_of_the_server() -> None:
    (minio, *_), (amazon, *_) = (rules_of([trigger("a b/é+*.mp3")], "drop", target) for target in (MINIO, AMAZON))
    assert minio.events == EVENT_NAMES
    assert amazon.events == ("s3:ObjectCreated:*", "s3:ObjectRemoved:*")
    assert minio.filter.prefix == "a b/é+"
    assert amazon.filter.prefix == "a+b/%C3%A9%2B"
    assert decoded_filter(amazon).prefix == "a b/é+"
    assert rules_of([trigger("*")], "drop", NotificationTarget(EVENT_BRIDGE)) == (event_bridge(),)
    assert rules_of([], "drop", NotificationTarget(EVENT_BRIDGE)) == ()


@pytest.mark.parametrize("text", ["", "arn:aws:lambda:r:123456789012:function:f", "ftp://x", "http://", "webhook"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a target"):
        parse_target(text)


def test_a_url_to_push_to_keeps_its_secrets() -> None:
    for url in ("https://user:secret@host:1/secret", "amqp://user:secret@host"):
        assert "secret" not in str(parse_target(url))


# Rules of others: any kind, any Id but ours, with things in them that no client of ours knows.
FOREIGN = st.builds(
    lambda kind, rule_id, arn, extra: (
        f"<{kind}Configuration>{f'<Id>{rule_id}</Id>' if rule_id else ''}"
        f"<{'CloudFunction' if kind == 'CloudFunction' else kind}>{arn}</{kind}>"
        f"<Event>s3:ObjectCreated:*</Event>{extra}</{kind}Configuration>"
    ),
    st.sampled_from(["Queue", "Topic", "CloudFunction"]),
    st.text("abc-", max_size=4),
    st.sampled_from(["arn:a", "arn:b", MINIO.arn]),
    st.sampled_from(["", "<Filter><S3Metadata><FilterRule><Name>n</Name></FilterRule></S3Metadata></Filter>"]),
) | st.just("<EventBridgeConfiguration />")
FILTERS = st.builds(Filter, NAME, NAME)
OURS = st.lists(FILTERS, max_size=4, unique=True).map(
    lambda found: [rule(QUEUE, MINIO.arn, f"gpudrop-{each.prefix}*{each.suffix}", EVENT_NAMES, each) for each in found]
)


def document(foreign: Sequence[str], ours: Sequence[RuleEntry]) -> NotificationDocument:
    inner = "".join([*foreign[:1], *(each.xml for each in ours), *foreign[1:]])
    return read_notification_document(f'<X xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</X>'.encode())


@given(st.lists(FOREIGN, max_size=4), OURS, OURS)
def test_merging_touches_nobody_elses_rules_and_is_done_once(
    foreign: Sequence[str], there: Sequence[RuleEntry], wanted: Sequence[RuleEntry]
) -> None:
    before = document(foreign, there)
    change = merge_rules(before, wanted)
    assert change.after.foreign == before.foreign
    assert {each.id for each in change.after.ours} == {each.id for each in wanted}
    assert all(any(each.means(w) for w in wanted) for each in change.after.ours)

    written = read_notification_document(notification_document_bytes(change.after.entries))
    assert [each.xml for each in written.foreign] == [each.xml for each in before.foreign]
    assert is_applied(change, written)
    assert not merge_rules(written, wanted)
    assert bool(change) == bool(list(rules_difference(change)))

    assert without_ours(change.after).after.entries == before.foreign
    assert not without_ours(without_ours(written).after)


def test_what_is_there_in_another_spelling_stays() -> None:
    filters = Filter("in/", ".mp3")
    there = rule(QUEUE, AMAZON.arn, "gpudrop-old", ("s3:ObjectRemoved:*", "s3:ObjectCreated:*"), filters)
    assert not merge_rules(document([], [there]), [rule(QUEUE, AMAZON.arn, "gpudrop-new", EVENT_NAMES, filters)])


def test_a_rule_that_was_edited_by_hand_is_put_right_in_its_place() -> None:
    filters = Filter("in/", ".mp3")
    edited = rule(QUEUE, MINIO.arn, "gpudrop-1", ("s3:ObjectCreated:Put",), filters)
    right = rule(QUEUE, MINIO.arn, "gpudrop-1", EVENT_NAMES, filters)
    change = merge_rules(document(["<QueueConfiguration><Id>a</Id></QueueConfiguration>"], [edited]), [right])
    assert change.changed
    assert [each.id for each in change.after.entries] == ["a", "gpudrop-1"]
    assert next(iter(rules_difference(change))).startswith("~ gpudrop-1  in/*.mp3  ObjectCreated:Put  -> ")


def test_event_bridge_is_taken_away_only_when_it_is_named() -> None:
    there = document(["<EventBridgeConfiguration />"], [])
    assert not merge_rules(there, [event_bridge()])
    assert not without_ours(there)
    assert without_ours(there, event_bridge=True).after == NotificationDocument()
    assert merge_rules(NotificationDocument(), [event_bridge()]).added == (event_bridge(),)
    assert "EventBridge" in entry_line(event_bridge())


def test_rules_that_did_not_arrive_are_noticed() -> None:
    mine = rule(QUEUE, MINIO.arn, "gpudrop-1", EVENT_NAMES, Filter("in/"))
    change = merge_rules(document(["<QueueConfiguration><Id>a</Id></QueueConfiguration>"], []), [mine])
    assert is_applied(change, NotificationDocument(change.after.entries[::-1]))
    for lost in range(2):
        assert not is_applied(change, NotificationDocument(change.after.entries[lost : lost + 1]))
    assert not is_applied(change, NotificationDocument((*change.after.entries, mine)))


@pytest.mark.parametrize("answer", [b"<html", b"not xml", b"<a></b>"])
def test_an_answer_that_is_no_xml_is_told(answer: bytes) -> None:
    with pytest.raises(ServerMisbehaves, match="not XML"):
        read_notification_document(answer)
