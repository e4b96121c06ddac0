"""Whoever can write a row of the engine's database runs no code here: nothing is unpickled, whatever its label says."""

from __future__ import annotations

import ast
import base64
import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dbos
import pytest
import sqlalchemy as sa
from dbos import DBOSPortableJSONSerializer

from listener.runs.engine_setup import refuse_pickle
from manifests.errors import StateError
from support.scripts import ROOT
from support.servers import create_database

PROGRAM = ROOT / "tests" / "support" / "planted_program.py"
HOSTILE = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "jsonpickle", "marshal", "shelve", "PickleType"}


class Payload:
    """Makes the file `path` when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self._path),)


def payload(path: Path) -> str:
    return base64.b64encode(pickle.dumps(Payload(path))).decode()


def test_only_one_module_of_dbos_can_unpickle() -> None:
    """Fails when a new version of DBOS reads its records in another way: then `refuse_pickle` has to learn of it."""
    found: set[str] = set()
    for file in Path(dbos.__file__).parent.rglob("*.py"):
        if "_templates" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [node.attr] if isinstance(node, ast.Attribute) else []
            names += [node.id] if isinstance(node, ast.Name) else []
            if HOSTILE.intersection(part for name in names for part in name.split(".")):
                found.add(file.name)
    assert found == {"_serialization.py"}


WAYS: dict[str, Callable[[Any, str], Any]] = {
    "a result": lambda module, text: module.deserialize_value(text, "py_pickle", DBOSPortableJSONSerializer()),
    "inputs": lambda module, text: module.deserialize_args(text, "py_pickle", DBOSPortableJSONSerializer()),
    "an error": lambda module, text: module.deserialize_exception(text, "py_pickle", DBOSPortableJSONSerializer()),
    "by default": lambda module, text: module.DefaultSerializer().deserialize(text),
    "by the module": lambda module, text: module.pickle.loads(base64.b64decode(text)),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_read_a_record_refuses(way: str, tmp_path: Path) -> None:
    refuse_pickle()
    refuse_pickle()
    with pytest.raises(StateError, match="labelled as pickle"):
        WAYS[way](importlib.import_module("dbos._serialization"), payload(tmp_path / "made"))
    assert not (tmp_path / "made").exists()


def program(url: str, folder: Path, mode: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), url, str(folder / "trace"), mode],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def plant(db: sa.Connection, text: str, schema: str | None) -> None:
    """Rows of every kind that is read back: inputs, results, errors, steps, events, messages."""
    meta = sa.MetaData()
    meta.reflect(db, schema=schema)
    tables = {table.name: table for table in meta.tables.values()}
    status, steps = tables["workflow_status"], tables["operation_outputs"]
    (row,) = db.execute(sa.select(status).where(status.c.workflow_uuid == "the-run")).mappings()
    hostile = {**row, "inputs": text, "serialization": "py_pickle"}
    queue = "_dbos_internal_queue"
    planted = [
        {"workflow_uuid": "planted-pending", "status": "PENDING"},
        {"workflow_uuid": "planted-enqueued", "status": "ENQUEUED", "queue_name": queue},
        {"workflow_uuid": "planted-ended", "status": "ERROR", "output": text, "error": text},
    ]
    for changes in planted:
        db.execute(status.insert().values({**hostile, **changes}))
    of_step = (steps.c.workflow_uuid == "the-run", steps.c.function_name == "read")
    assert db.execute(steps.update().where(*of_step).values(output=text, serialization="py_pickle")).rowcount == 1
    event = {"workflow_uuid": "planted-pending", "key": "k", "value": text, "serialization": "py_pickle"}
    db.execute(tables["workflow_events"].insert().values(event))
    message = {"destination_uuid": "the-run", "topic": "t", "message": text, "serialization": "py_pickle"}
    db.execute(tables["notifications"].insert().values({**message, "message_uuid": "m", "created_at_epoch_ms": 1}))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_planted_row_ends_with_an_error_and_runs_nothing(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("postgres_server") if kind == "postgresql" else None
    url = create_database(server) if server else f"sqlite:///{tmp_path}/engine.sqlite"
    assert program(url, tmp_path, "make").returncode == -9
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as db:
        plant(db, payload(tmp_path / "made"), "dbos" if server else None)
    done = program(url, tmp_path, "go-on")
    assert not (tmp_path / "made").exists()
    assert done.returncode == 0, done.stderr[-3000:]
    assert "labelled as pickle" in done.stderr
    # The run whose step was replaced ends with an error of ours; the listener lives on and does the next one.
    assert (tmp_path / "trace").read_text().split("\n") == [
        *("read the-run", "state_unusable the-run", "read later", "end later", "")
    ]
    with engine.connect() as db:
        table = "dbos.workflow_status" if server else "workflow_status"
        rows = db.execute(sa.text(f"SELECT workflow_uuid, status FROM {table}")).all()
    engine.dispose()
    assert {row[0]: row[1] for row in rows} == {
        **dict.fromkeys(("planted-pending", "planted-enqueued", "planted-ended"), "ERROR"),
        **dict.fromkeys(("the-run", "later"), "SUCCESS"),
    }
