"""A listener goes on with the state that one of an earlier version left when it was killed: nothing is lost, or done
again.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import iscoroutinefunction
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from minio import Minio

from support.installation import SAMPLES, Installation
from support.kept_state.documents import KEPT, KeptState, read_state
from support.kept_state.holds import Hold
from support.kept_state.places import at_provider, in_bucket, in_folder, jobs_of, states_of, work
from support.kept_state.record import ENDPOINT, holds
from support.receiver import Receiver
from support.runpod.cloud import Cloud, cloud

VERSIONS = sorted(path.name for path in KEPT.iterdir() if path.is_dir())
TOLD = "told.job.json"
"""Its caller had not heard of it yet."""
ENDED = {"done", "failed", "cancelled", "superseded"}


@pytest.fixture(scope="module")
def there() -> Iterator[Cloud]:
    with cloud() as there:
        yield there


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


def ended_of(state: KeptState) -> set[str]:
    """Drops whose newest run had ended, and had nothing left to do."""
    return {key for key, states in state.runs.items() if states[0] in ENDED and key != TOLD}


def sidecars(install: Installation, keys: set[str]) -> dict[str, Any]:
    return {key: install.document(key, "done") or install.document(key, "error") for key in keys}


def went_on(
    install: Installation, state: KeptState, said: dict[str, Any], receiver: Receiver, *, failing: str = ""
) -> None:
    """Waits until every run has come to its right end; those that had ended say what they `said` before."""
    for key in state.runs.keys() - said.keys():
        assert (install.ended(key)["code"] == 200) == (key != failing)
    # No version has another run, and whatever had ended has ended so.
    ends = {key: states if key in said else ["done", *states[1:]] for key, states in state.runs.items()}
    ends |= {failing: ["failed"]} if failing else {}
    install.until(lambda: states_of(install) == ends)
    assert sidecars(install, set(said)) == said
    install.until(lambda: receiver.heard)
    told = install.document(TOLD, "done")
    assert [heard.document["run_id"] for heard in receiver.heard] == [told and told["run_id"]]


def test_a_state_on_a_folder(version: str, tmp_path: Path, receiver: Receiver) -> None:
    state = read_state(KEPT / version / "folder.json.gz")
    install = in_folder(state, tmp_path, receiver.host)
    try:
        before = jobs_of(install)
        install.drops.put("late.mp4", (SAMPLES / "media" / "clip.mp4").read_bytes())
        said = sidecars(install, ended_of(state))
        assert len(said) == 4 and all(said.values())
        install.start()
        went_on(install, state, said, receiver)
        sent = jobs_of(install) - before
        # This machine's own workers ended with their listener: only what had an attempt under way is done again.
        assert sent == {
            f"{name}.job.json": 1 for name in ("waiting", "preparing", "accepted", "running", "between")
        } | {"several.job.json": 1}
    finally:
        install.close()


@pytest.mark.minio
def test_a_state_on_s3_with_jobs_at_the_provider(
    version: str,
    tmp_path: Path,
    receiver: Receiver,
    there: Cloud,
    minio_server: Any,
    minio_client: Minio,
    minio_bucket: str,
) -> None:
    state = read_state(KEPT / version / "s3.json.gz")
    endpoint = there.endpoint(ENDPOINT)
    install = in_bucket(state, tmp_path, receiver.host, minio_server, minio_client, minio_bucket, there)
    try:
        there.of(lambda _: at_provider(state, endpoint))
        before = jobs_of(install)
        known = {job.id for job in there.jobs(ENDPOINT)}
        install.drops.put("late.ogg", (SAMPLES / "media" / "chord.ogg").read_bytes())
        (queued,) = [job for job in there.jobs(ENDPOINT) if job.status == "IN_QUEUE"]
        (running,) = [job for job in there.jobs(ENDPOINT) if job.status == "IN_PROGRESS"]
        there.of(lambda _: work(endpoint, queued))
        said = sidecars(install, ended_of(state))
        assert len(said) == 5 and all(said.values())
        install.start()
        install.until(lambda: there.ops(ENDPOINT, "status"))
        there.of(lambda _: work(endpoint, running))
        there.work(endpoint, "odd", count=1)
        went_on(install, state, said, receiver, failing="between.job.json")
        # Of the three attempts that may fail one had failed.
        sent = dict.fromkeys(("waiting", "preparing", "accepted", "several"), 1) | {"between": 2}
        assert jobs_of(install) - before == {f"{name}.job.json": count for name, count in sent.items()}
        jobs = there.jobs(ENDPOINT)
        assert len(jobs) - len(known) == sum(sent.values())
        assert all(job.taken == 1 for job in jobs if job.id not in known)
    finally:
        install.close()


@pytest.mark.parametrize("hold", holds(), ids=lambda hold: hold.key)
def test_what_a_recording_of_this_version_holds_is_there(hold: Hold) -> None:
    module, _, name = hold.place.partition(":")
    assert iscoroutinefunction(resolve_name(f"{module}:{name.replace(':', '.')}"))
