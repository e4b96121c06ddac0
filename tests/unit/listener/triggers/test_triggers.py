from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.triggers.triggers import (
    MANIFESTS,
    CancelRequest,
    IgnoredEvent,
    Match,
    SkipEvent,
    StartRun,
    Trigger,
    WrittenKeys,
    guard_loop,
    match_event,
)

AUDIOS = Trigger(name="audios", patterns=("*/audios/*.mp3",), exclude=("*/draft/*",), manifest={})
ANY_MP3 = Trigger(name="any", suffix=".mp3", manifest={})
FILMS = Trigger(name="films", buckets=("media",), prefix="films/", manifest={})
ALL = (MANIFESTS, AUDIOS, ANY_MP3, FILMS)


@pytest.mark.parametrize(
    ("bucket", "key", "trigger"),
    [
        ("drop", "a/audios/x.mp3", AUDIOS),
        ("drop", "a/draft/audios/x.mp3", ANY_MP3),
        ("drop", "x.mp3", ANY_MP3),
        ("drop", "x.MP3", ANY_MP3),
        ("drop", "a/audios/X.Mp3", AUDIOS),
        ("media", "films/x.mp4", FILMS),
        ("drop", "a/talk.job.yaml", MANIFESTS),
        ("drop", "a/TALK.JOB.JSON", MANIFESTS),
        ("drop", "list.job.csv", MANIFESTS),
        ("media", "films/talk.job.yml", MANIFESTS),
    ],
)
def test_the_first_trigger_that_covers_a_key(bucket: str, key: str, trigger: Trigger) -> None:
    assert match_event(ALL, bucket, key) == Match(trigger)


@pytest.mark.parametrize(
    "key",
    [
        "films/x.mp4",
        "notes.txt",
        "a/folder/",
        "a/.hidden.mp3",
        ".cache/x.mp3",
        "talk.status.json",
        "talk.done.json",
        "talk.error.json",
        "_gpudrop.yaml",
        "_dlq/2026/01/02/x.mp3",
        ".gpudrop/x.mp3",
        "a//x.mp3",
        "a/../x.mp3",
        "line\nbreak.mp3",
        "",
    ],
)
def test_what_starts_nothing(key: str) -> None:
    assert isinstance(match_event(ALL, "drop", key), IgnoredEvent)


def test_a_cancel_file_names_its_drop() -> None:
    assert match_event(ALL, "drop", "a/talk.cancel") == CancelRequest("a/talk")
    assert match_event(ALL, "drop", "a/audios/x.mp3.cancel") == CancelRequest("a/audios/x.mp3")
    assert isinstance(match_event(ALL, "drop", ".cancel"), IgnoredEvent)


def test_manifests_start_runs_only_where_a_trigger_says_so() -> None:
    everything = Trigger(name="everything", manifest={})
    jobs = Trigger(name="manifests", buckets=("drop",), prefix="jobs/")
    assert match_event((everything, jobs), "drop", "jobs/a.job.yaml") == Match(jobs)
    assert isinstance(match_event((everything, jobs), "drop", "a.job.yaml"), IgnoredEvent)
    assert isinstance(match_event((everything, jobs), "other", "jobs/a.job.yaml"), IgnoredEvent)
    assert match_event((everything, jobs), "drop", "jobs/a.mp3") == Match(everything)


WRITTEN = WrittenKeys(run_id="r1", lineage=1, version="v1")


@pytest.mark.parametrize(
    ("written", "version", "metadata", "chain", "verdict"),
    [
        (None, "v1", "", False, StartRun(0)),
        (WRITTEN, "v1", "", False, SkipEvent),
        (WRITTEN, "v1", "r1", True, StartRun(2)),
        (WRITTEN, "v2", "", False, StartRun(0)),
        (WRITTEN, "v2", "r1", False, SkipEvent),
        (WRITTEN, "v2", "r1", True, StartRun(2)),
        (WrittenKeys("r1", 1, ""), "v9", "", False, SkipEvent),
        (WrittenKeys("r1", 1, ""), "v9", "", True, StartRun(2)),
        (WrittenKeys("r1", 4, "v1"), "v1", "", True, SkipEvent),
        (None, "v1", "r7", False, SkipEvent),
        (None, "v1", "r7", True, SkipEvent),
    ],
)
def test_outputs_start_runs_only_in_chains(
    written: WrittenKeys | None, version: str, metadata: str, chain: bool, verdict: StartRun | type[SkipEvent]
) -> None:
    found = guard_loop(written, version=version, metadata_run_id=metadata, chain=chain)
    if isinstance(verdict, StartRun):
        assert found == verdict
    else:
        assert isinstance(found, verdict)


@given(st.integers(1, 16), st.booleans())
def test_every_chain_ends(max_lineage: int, told_by_metadata: bool) -> None:
    lineage, runs = 0, 0
    while True:
        written = WrittenKeys("r", lineage, "" if told_by_metadata else "v")
        verdict = guard_loop(written, version="v", metadata_run_id="r", chain=True, max_lineage=max_lineage)
        if isinstance(verdict, SkipEvent):
            break
        lineage, runs = verdict.lineage, runs + 1
    assert runs == max_lineage
