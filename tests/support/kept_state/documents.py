"""A kept state as a file: two databases as SQL, the store's objects, the provider's jobs; and back, somewhere else.

Brought back, it is as old as it was when its listener was killed: moments are moved to now. Versions of objects are
those that the new place gives them, and addresses those of the new place.
"""

from __future__ import annotations

import gzip
import json
import re
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from listener.ledger.objects import fingerprint
from listener.stores.base import ObjectMeta
from support.scripts import ROOT

KEPT = ROOT / "tests" / "data" / "kept_state"
"""VERSION/KIND.json.gz."""
SAMPLES = ROOT / "examples" / "samples" / "media"
_BEFORE_S, _AFTER_S = 3600.0, 9 * 86400.0
"""What lies so near the moment of the kill is a moment of the state's."""
_MOMENT = r"(?<![\w.-])\d{10}(?:\d{3}|\d{6}|\d{9})?(?:\.\d+)?(?![\w-])"

Names = Mapping[str, str]
"""What stands in the file, such as @DROP@, and what it stands for."""


@dataclass(frozen=True, slots=True)
class KeptObject:
    """An object as it was; of content that nothing depends on only its size is kept. `modified`: epoch seconds."""

    key: str
    etag: str
    modified: float
    version: str
    text: str | None = None
    sample: str | None = None
    size: int = 0

    def content(self, names: Names) -> bytes:
        if self.sample is not None:
            return (SAMPLES / self.sample).read_bytes()
        return named(self.text, names).encode() if self.text is not None else bytes(self.size)


@dataclass(frozen=True, slots=True)
class KeptState:
    """`killed`: when, in epoch seconds. `databases` is SQL by the file's path. `jobs` are the provider's, as its API
    has them, with `input` and `policy`. `runs`: what `gpudrop status` said of each drop's runs, newest first.
    """

    killed: float
    config: dict[str, Any]
    databases: dict[str, str]
    objects: tuple[KeptObject, ...]
    runs: dict[str, list[str]]
    jobs: tuple[dict[str, Any], ...] = field(default=())

    def write(self, path: Path) -> None:
        document = {name: getattr(self, name) for name in self.__slots__}
        document["objects"] = [{n: getattr(o, n) for n in o.__slots__} for o in self.objects]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(json.dumps(document, sort_keys=True).encode(), mtime=0))


def read_state(path: Path) -> KeptState:
    document = json.loads(gzip.decompress(path.read_bytes()))
    document["objects"] = tuple(KeptObject(**each) for each in document["objects"])
    return KeptState(**document | {"jobs": tuple(document["jobs"])})


def kept_object(meta: ObjectMeta, data: bytes, names: Names) -> KeptObject:
    """`meta` of `data`, with `names` in the place of what they stand for."""
    modified, sample = meta.last_modified.timestamp(), SAMPLES / Path(meta.key).name
    if sample.is_file() and sample.read_bytes() == data:
        return KeptObject(meta.key, meta.etag, modified, meta.version, sample=sample.name)
    try:
        text = unnamed(data.decode(), names)
    except UnicodeDecodeError:
        return KeptObject(meta.key, meta.etag, modified, meta.version, size=len(data))
    return KeptObject(meta.key, meta.etag, modified, meta.version, text=text)


def dump(path: Path, names: Names) -> str:
    """The database at `path`, which nobody has open, as SQL."""
    with closing(sqlite3.connect(path)) as db:
        _rewrite(db, lambda text: unnamed(text, names), lambda number: number)
        db.commit()
        return "\n".join(db.iterdump())


class Restored:
    """Brings texts and databases of `state` to this place and to now."""

    def __init__(self, state: KeptState, names: Names, versions: Sequence[tuple[KeptObject, ObjectMeta]]) -> None:
        """`versions`: what became of each object that was kept."""
        self._state = state
        self._delta = delta_of(state)
        known = dict(names)
        for was, now in versions:
            known[was.version] = now.version
            known[f"{was.etag}@{int(was.modified)}"] = fingerprint(now)
            known[was.etag] = now.etag
        self._known = known
        words = "|".join(re.escape(each) for each in sorted(known, key=len, reverse=True))
        self._pattern = re.compile(f"({words})|{_MOMENT}")

    def databases(self, folder: Path) -> None:
        for name, sql in self._state.databases.items():
            path = folder / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(0o600)
            with closing(sqlite3.connect(path)) as db:
                db.executescript(sql)
                _rewrite(db, self.text, self._number)
                db.commit()

    def text(self, text: str) -> str:
        return self._pattern.sub(self._replaced, text)

    def _replaced(self, match: re.Match[str]) -> str:
        if match[1] is not None:
            return self._known[match[1]]
        number = float(match[0]) if "." in match[0] else int(match[0])
        return str(moved(number, self._state.killed, self._delta))

    def _number(self, number: float) -> float:
        return moved(number, self._state.killed, self._delta)


def delta_of(state: KeptState) -> int:
    """Seconds that have passed since the kill."""
    return int(time.time() - state.killed)


def moved(number: float, killed: float, delta: int) -> float:
    """`number`, later by `delta` seconds if it is a moment near `killed`, in whatever unit it counts seconds."""
    for unit in (1, 1_000, 1_000_000, 1_000_000_000):
        if killed - _BEFORE_S <= number / unit <= killed + _AFTER_S:
            return number + delta * unit
    return number


def named(text: str, names: Names) -> str:
    for name, meaning in names.items():
        text = text.replace(name, meaning)
    return text


def unnamed(text: str, names: Names) -> str:
    for name, meaning in names.items():
        text = text.replace(meaning, name)
    return text


def _rewrite(db: sqlite3.Connection, text: Callable[[str], str], number: Callable[[float], float]) -> None:
    """Every value of every table, as `text` and `number` have it."""

    def changed(value: Any) -> Any:
        match value:
            case str():
                return text(value)
            case int() | float():
                return number(value)
            case bytes():
                try:
                    return text(value.decode()).encode()
                except UnicodeDecodeError:
                    return value
            case _:
                return value

    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").fetchall()
    for (table,) in tables:
        columns = [row[1] for row in db.execute(f'PRAGMA table_info("{table}")')]
        sets = ", ".join(f'"{column}" = ?' for column in columns)
        for row in db.execute(f'SELECT rowid, * FROM "{table}"').fetchall():
            values = [changed(value) for value in row[1:]]
            if values != list(row[1:]):
                db.execute(f'UPDATE "{table}" SET {sets} WHERE rowid = ?', (*values, row[0]))
