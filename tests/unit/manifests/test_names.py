"""Which keys are drops, which are ours, and what their documents are called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.names import (
    cancel_target,
    defaults_keys,
    dlq_key,
    drop_folder,
    drop_name,
    drop_path,
    is_manifest,
    is_reserved,
    sidecar_key,
)


@pytest.mark.parametrize(
    ("key", "name", "manifest"),
    [
        ("a/talk.job.yaml", "talk", True),
        ("talk.job.yml", "talk", True),
        ("a/b/Talk.v2.JOB.JSON", "Talk.v2", True),
        ("a/list.job.csv", "list", True),
        ("a/talk.mp3", "talk.mp3", False),
        ("a/talk.json", "talk.json", False),
        ("a/.job.json", ".job.json", False),
        ("a.job.json/talk.mp3", "talk.mp3", False),
        ("_dlq/x.job.json", "x", False),
        ("a/.gpudrop/x.job.json", "x", False),
    ],
)
def test_drops(key: str, name: str, manifest: bool) -> None:
    assert drop_name(key) == name
    assert is_manifest(key) is manifest
    assert drop_path(key) == drop_folder(key) + name
    assert sidecar_key(key, "done") == f"{drop_path(key)}.done.json"


@pytest.mark.parametrize(
    ("key", "reserved"),
    [
        ("a/talk.status.json", True),
        ("a/talk.mp3.done.json", True),
        ("talk.ERROR.json", True),
        ("_dlq/2026/01/01/x.json", True),
        ("a/_dlq/x.json", False),
        ("_gpudrop.yaml", True),
        ("a/_gpudrop.yaml", True),
        ("a/x_gpudrop.yaml", False),
        ("a/", True),
        ("", True),
        (".gpudrop/state.db", True),
        ("a/.gpudrop/x", True),
        ("a/.gpudrop", False),
        ("a/talk.job.json", False),
        ("a/talk.cancel", False),
        ("a/words.json", False),
    ],
)
def test_reserved(key: str, reserved: bool) -> None:
    assert is_reserved(key) is reserved


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("a/talk.cancel", "a/talk"),
        ("a/talk.mp3.cancel", "a/talk.mp3"),
        ("talk.CANCEL", "talk"),
        ("a/.cancel", None),
        ("a/talk.cancel/", None),
        ("a/talk.mp3", None),
        ("_dlq/talk.cancel", None),
    ],
)
def test_cancel(key: str, target: str | None) -> None:
    assert cancel_target(key) == target


@given(st.text(max_size=30))
def test_our_own_documents_never_start_anything(key: str) -> None:
    for kind in ("status", "done", "error"):
        assert is_reserved(sidecar_key(key, kind))
        assert not is_manifest(sidecar_key(key, kind))
    assert all(is_reserved(k) for k in defaults_keys(key))
    assert is_reserved(dlq_key("r1", datetime(2026, 1, 1, tzinfo=UTC)))
    assert drop_folder(key) + key.rpartition("/")[2] == key


def test_defaults_keys_run_from_the_root_down() -> None:
    assert defaults_keys("talk.job.json") == ("_gpudrop.yaml",)
    assert defaults_keys("a/b c/talk.mp3") == ("_gpudrop.yaml", "a/_gpudrop.yaml", "a/b c/_gpudrop.yaml")


def test_the_day_of_a_dead_letter_is_utc() -> None:
    late = datetime(2026, 1, 31, 23, 30, tzinfo=timezone(timedelta(hours=-3)))
    assert dlq_key("r1", late) == "_dlq/2026/02/01/r1.json"
