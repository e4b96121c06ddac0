"""Several listeners on one PostgreSQL and one bucket, and what that database says of their work."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from support.burst import drop_all
from support.deadlines import HANG_S
from support.installation import SAMPLES, Installation, MinioDrops

T = TypeVar("T")

MEDIA = ("clip.mp4", "chord.ogg", "dawn.jpg")
SLOW = json.dumps({"images": [{"image": "dawn.jpg", "duration": 6}], "path": "clips/"}).encode()


_BOOK = "dbos.workflow_status"
_PLACE = 0x67707564
_ROLE = 0x67707565
"""Of advisory locks: see listener/cluster/postgres.py."""


def mux(output: str) -> bytes:
    """A manifest that takes a second or two."""
    return json.dumps({"video": "clip.mp4", "audio": "chord.ogg", "output_filename": output}).encode()


MUX = mux("muxed.mp4")


@dataclass
class Several:
    """`add` makes a listener, each in a folder of its own; `ask` reads what they share."""

    folder: Path
    server: Any
    drops: MinioDrops
    url: str
    listeners: list[Installation] = field(default_factory=list[Installation])

    def add(self, environ: dict[str, str] | None = None, **config: Any) -> Installation:
        """Not started yet. `config` are top-level parts of its configuration."""
        folder = self.folder / f"listener-{len(self.listeners)}"
        folder.mkdir()
        store = {"kind": "s3", "endpoint": self.server.endpoint, "buckets": [self.drops.bucket]}
        whole: dict[str, Any] = {"store": store, "state": self.url, "triggers": [], **config}
        keys = {"GPUDROP_S3_ACCESS_KEY": self.server.access_key, "GPUDROP_S3_SECRET_KEY": self.server.secret_key}
        self.listeners.append(Installation(folder, self.drops, whole, {**keys, **(environ or {})}))
        return self.listeners[-1]

    def start(self, *listeners: Installation) -> None:
        """All at the same moment."""
        with ThreadPoolExecutor(len(listeners)) as pool:
            list(pool.map(Installation.start, listeners))

    def put_media(self, folder: str = "") -> None:
        for name in MEDIA:
            self.drops.put(folder + name, (SAMPLES / "media" / name).read_bytes())

    def ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True, connect_timeout=30) as connection:
            return connection.execute(sql.encode(), values).fetchall()

    def runs_by_key(self) -> Counter[str]:
        """How many runs each key has, ended or not."""
        return Counter(row[0] for row in self.ask("SELECT key FROM gpudrop_runs"))

    def told_by(self) -> Counter[str]:
        """How many unfinished runs each listener tells, by the engine's own book."""
        active = "status IN ('PENDING', 'ENQUEUED')"
        return Counter(row[0] for row in self.ask(f"SELECT executor_id FROM {_BOOK} WHERE name = 'run' AND {active}"))

    def told(self) -> set[str]:
        """Runs that an engine has begun, also those that wait for their media in the ledger; nothing but runs."""
        waiting = "SELECT run_id FROM gpudrop_runs WHERE state = 'waiting' AND member = ''"
        return {row[0] for row in self.ask(f"SELECT workflow_uuid FROM {_BOOK} WHERE name = 'run' UNION {waiting}")}

    def left_by(self, member: str) -> bool:
        """Whether anything unfinished is in the hands of this listener."""
        inbox = "SELECT 1 FROM gpudrop_inbox WHERE member = %s"
        claimed = "SELECT 1 FROM gpudrop_runs WHERE member = %s AND state = 'accepted'"
        return bool(self.told_by()[member] or self.ask(inbox, member) or self.ask(claimed, member))

    def who_works(self, run_id: str) -> Installation:
        """The listener that works on the run's only job, which is told inside the run."""

        def look() -> list[tuple[Any, ...]]:
            return self.ask(f"SELECT executor_id FROM {_BOOK} WHERE workflow_uuid = %s", run_id)

        return self.named(str(self.until(look)[0][0]))

    def named(self, member: str) -> Installation:
        """The running listener in this place."""
        (found,) = [each for each in self.listeners if is_up(each) and member_of(each) == member]
        return found

    def leader(self) -> Installation | None:
        """Whoever leads the sources now, by the locks that PostgreSQL holds."""
        rows = self.ask("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND granted", _ROLE)
        places = "SELECT objid::int FROM pg_locks WHERE classid = %s AND granted AND pid = %s AND locktype = 'advisory'"
        found = [self.ask(places, _PLACE, row[0]) for row in rows]
        return self.named(f"m{found[0][0][0]}") if found and found[0] else None

    def drop(self, keys: list[str], dropped: Callable[[int], None] = lambda n: None) -> None:
        """Manifests whose runs wait for their media; `dropped` is told how many lie there, and holds up the others."""
        asyncio.run(drop_all(self.server, self.drops.bucket, keys, dropped=dropped))

    def receivers(self) -> set[str]:
        """The listeners that were told of anything by post."""
        rows = self.ask("SELECT member, counts::text FROM gpudrop_sources WHERE source = 'webhook'")
        return {row[0] for row in rows if row[1] != "{}"}

    def until(self, look: Callable[[], T | None]) -> T:
        deadline = time.monotonic() + HANG_S
        while not (found := look()):
            assert time.monotonic() < deadline, "nothing came of it\n" + self.log_text()
            time.sleep(0.1)
        return found

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Log entries of this name, of every listener."""
        return [entry for each in self.listeners for entry in each.logged(event)]

    def log_text(self) -> str:
        return "\n".join(f"--- {each.folder.name}\n{each.log_text()[-3000:]}" for each in self.listeners)

    def close(self) -> None:
        """Returns when nothing of them writes any more: what a killed one had sent still arrives."""
        for each in self.listeners:
            if each.process and each.process.poll() is None:
                each.kill()
        before: set[str] | None = None
        while before != (now := self.drops.listing()):
            before = now
            time.sleep(0.3)


def is_up(listener: Installation) -> bool:
    return bool(listener.process and listener.process.poll() is None and listener.logged("ready"))


def member_of(listener: Installation) -> str:
    """The name it has among the others since its last start."""
    return str(listener.logged("ready")[-1]["member"])
