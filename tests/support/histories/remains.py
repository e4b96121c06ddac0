"""What a history has left: the bucket, the ledger, the provider's jobs and the logs, read into values."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_dispatch.claims import claim_from_bytes
from support.histories.drops import work_of
from support.installation import MinioDrops
from support.runpod.cloud import Cloud

_KEPT = (".json", ".txt", ".mp4", ".claim")
_LEDGER_S = 30
_BUSY = (
    "SELECT count(*) FROM gpudrop_runs WHERE state NOT IN ('done', 'failed', 'cancelled', 'superseded')",
    "SELECT count(*) FROM gpudrop_inbox",
)


@dataclass(frozen=True, slots=True)
class Run:
    """A row of the ledger; `order` counts them as they were accepted."""

    run_id: str
    key: str
    version: str
    state: str
    order: int


@dataclass(frozen=True, slots=True)
class Execution:
    """One time a worker had a task. `work`: as `work_of` names it; `text` is for who reads of it.

    `whole`: its answer has reached the provider, which had not lost the job, and was no error.
    """

    work: str
    whole: bool
    text: str


@dataclass(frozen=True, slots=True)
class Remains:
    """`objects`: what lies in the bucket, with the content of what tells something. `etags`: of every key."""

    objects: Mapping[str, bytes]
    etags: Mapping[str, str]
    runs: Mapping[str, Sequence[Run]] = field(default_factory=dict[str, Sequence[Run]])
    """By key, the oldest first."""
    open_tasks: frozenset[str] = frozenset()
    executions: Sequence[Execution] = ()
    finished: Counter[str] = field(default_factory=Counter[str])
    """How often workers came to the end of each work."""

    def document(self, path: str, kind: str) -> dict[str, Any] | None:
        """A sidecar of the drop with this folder and name."""
        data = self.objects.get(f"{path}.{kind}.json")
        return json.loads(data) if data is not None else None

    def text(self, key: str) -> str | None:
        data = self.objects.get(key)
        return data.decode(errors="replace").strip() if data is not None else None

    @property
    def marks(self) -> list[str]:
        """What attempts have left, but for claims that are withdrawn."""
        return [k for k in self.objects if k.startswith(".gpudrop/jobs/") and not _is_withdrawn(self.objects[k])]


class Reader:
    """Reads again only what has changed since it last looked."""

    def __init__(self, drops: MinioDrops, state: Path, there: Cloud, endpoint: str, worked: Path) -> None:
        self._drops = drops
        self._state = state
        self._there = there
        self._endpoint = endpoint
        self._worked = worked
        self._known: dict[str, tuple[str, bytes]] = {}

    def bucket(self) -> Remains:
        """What lies in the bucket, and no more."""
        found: dict[str, tuple[str, bytes]] = {}
        for each in self._drops.client.list_objects(self._drops.bucket, recursive=True):
            key, etag = each.object_name or "", each.etag or ""
            known = self._known.get(key)
            if known and known[0] == etag:
                found[key] = known
            elif key.endswith(_KEPT):
                data = self._drops.get(key)
                if data is not None:
                    found[key] = etag, data
            else:
                found[key] = etag, b""
        self._known = found
        return Remains({k: data for k, (_, data) in found.items()}, {k: etag for k, (etag, _) in found.items()})

    def busy(self) -> bool:
        """Whether the ledger knows of anything that goes on."""
        path = self._state / "ledger.sqlite"
        return not path.exists() or any(_ask(path, question)[0][0] for question in _BUSY)

    def all(self) -> Remains:
        seen = self.bucket()
        worked = self._worked.read_text().split() if self._worked.exists() else []
        runs, open_tasks = _ledger(self._state / "ledger.sqlite")
        return Remains(seen.objects, seen.etags, runs, open_tasks, self._executions(), Counter(worked))

    def _executions(self) -> list[Execution]:
        return [
            Execution(
                work_of(job.input["task"]["params"]),
                each.outcome == "completed" and not job.gone,
                f"{each.started:.2f}-{each.ended or 0:.2f} {each.worker} {job.id[:8]}{' (lost)' if job.gone else ''} "
                f"{each.outcome} {each.error[:60]}",
            )
            for job in self._there.jobs(self._endpoint)
            for each in job.executions
        ]


def _ask(path: Path, question: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_LEDGER_S)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


def _ledger(path: Path) -> tuple[dict[str, list[Run]], frozenset[str]]:
    rows = _ask(path, "SELECT run_id, key, request, state FROM gpudrop_runs ORDER BY accepted, rowid")
    open_rows = _ask(path, "SELECT task_id FROM gpudrop_jobs WHERE state != 'ended'")
    runs: dict[str, list[Run]] = {}
    for order, (run_id, key, request, state) in enumerate(rows):
        runs.setdefault(key, []).append(Run(run_id, key, json.loads(request)["version"], state, order))
    return runs, frozenset(row[0] for row in open_rows)


def _is_withdrawn(data: bytes) -> bool:
    claim = claim_from_bytes(data)
    return claim is not None and claim.withdrawn
