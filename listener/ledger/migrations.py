"""The ledger's schema as numbered migrations. A released migration never changes; a later one corrects it.

Databases older than the numbers have some tables and columns of the first five migrations, so each step of these checks
whether it is needed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

Dialect = Literal["sqlite", "postgresql"]
_BYTES: dict[Dialect, str] = {"sqlite": "BLOB", "postgresql": "BYTEA"}


@dataclass(frozen=True, slots=True)
class Step:
    """Statements of one migration."""

    statements: tuple[str, ...]
    dialect: Dialect | None = None
    """None: both."""
    unless: str = ""
    """A query; the step is skipped if it finds a row."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One change of the schema, applied in one transaction."""

    number: int
    """Counts from 1 without a gap."""
    name: str
    steps: tuple[Step, ...]

    @property
    def digest(self) -> str:
        """The SHA-256 of all its steps, in hexadecimal digits."""
        told = [[each.statements, each.dialect, each.unless] for each in self.steps]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def both(*statements: str) -> Step:
    """Makes a step of statements that both dialects understand."""
    return Step(statements)


def add_column(table: str, name: str, kind: str) -> tuple[Step, ...]:
    """Makes steps that add a column where it is missing.

    `kind` is SQL that both dialects understand, with the value for existing rows: "INTEGER NOT NULL DEFAULT 0".
    """
    exists = f"SELECT 1 FROM pragma_table_info('{table}') WHERE name = '{name}'"  # noqa: S608 - names of our own
    return (
        Step((f'ALTER TABLE {table} ADD COLUMN "{name}" {kind}',), "sqlite", exists),
        Step((f'ALTER TABLE {table} ADD COLUMN IF NOT EXISTS "{name}" {kind}',), "postgresql"),
    )


_RUNS = Migration(
    1,
    "runs, their outputs, objects seen, redrives",
    (
        both(
            """CREATE TABLE IF NOT EXISTS gpudrop_runs (
                run_id TEXT NOT NULL PRIMARY KEY, bucket TEXT NOT NULL, "key" TEXT NOT NULL, "trigger" TEXT NOT NULL,
                operation TEXT NOT NULL, state TEXT NOT NULL, error_code TEXT NOT NULL, cancel TEXT NOT NULL,
                accepted FLOAT NOT NULL, updated FLOAT NOT NULL, request JSON NOT NULL)""",
            'CREATE INDEX IF NOT EXISTS gpudrop_runs_by_key ON gpudrop_runs (bucket, "key")',
            "CREATE INDEX IF NOT EXISTS gpudrop_runs_by_time ON gpudrop_runs (accepted)",
            """CREATE TABLE IF NOT EXISTS gpudrop_outputs (
                bucket TEXT NOT NULL, "key" TEXT NOT NULL, run_id TEXT NOT NULL, lineage INTEGER NOT NULL,
                fingerprint TEXT NOT NULL, PRIMARY KEY (bucket, "key"))""",
            "CREATE INDEX IF NOT EXISTS gpudrop_outputs_by_run ON gpudrop_outputs (run_id)",
            """CREATE TABLE IF NOT EXISTS gpudrop_seen (
                bucket TEXT NOT NULL, "key" TEXT NOT NULL, fingerprint TEXT NOT NULL, PRIMARY KEY (bucket, "key"))""",
        ),
        Step(
            ("CREATE TABLE IF NOT EXISTS gpudrop_redrives (number INTEGER PRIMARY KEY, run_id TEXT NOT NULL)",),
            "sqlite",
        ),
        Step(
            ("CREATE TABLE IF NOT EXISTS gpudrop_redrives (number SERIAL PRIMARY KEY, run_id TEXT NOT NULL)",),
            "postgresql",
        ),
    ),
)

_INBOX = Migration(
    2,
    "inbox, sources, the listener that holds a run",
    (
        both(
            """CREATE TABLE IF NOT EXISTS gpudrop_inbox (
                bucket TEXT NOT NULL, "key" TEXT NOT NULL, created BOOLEAN NOT NULL, source TEXT NOT NULL,
                received FLOAT NOT NULL, generation INTEGER NOT NULL, attempts INTEGER NOT NULL,
                not_before FLOAT NOT NULL, member TEXT NOT NULL, PRIMARY KEY (bucket, "key"))""",
            "CREATE INDEX IF NOT EXISTS gpudrop_inbox_waiting ON gpudrop_inbox (member, not_before, received)",
            """CREATE TABLE IF NOT EXISTS gpudrop_sources (
                member TEXT NOT NULL, source TEXT NOT NULL, ok BOOLEAN NOT NULL, detail TEXT NOT NULL,
                hint TEXT NOT NULL, since FLOAT NOT NULL, counts JSON NOT NULL, PRIMARY KEY (member, source))""",
        ),
        *add_column("gpudrop_runs", "member", "TEXT NOT NULL DEFAULT ''"),
        both("CREATE INDEX IF NOT EXISTS gpudrop_runs_by_state ON gpudrop_runs (state, member)"),
    ),
)

_REDRIVES = Migration(
    3,
    "a redrive's number is never given again",
    (
        Step(
            (
                "ALTER TABLE gpudrop_redrives RENAME TO gpudrop_redrives_former",
                """CREATE TABLE gpudrop_redrives (
                    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL)""",
                "INSERT INTO gpudrop_redrives SELECT number, run_id FROM gpudrop_redrives_former",
                "DROP TABLE gpudrop_redrives_former",
            ),
            "sqlite",
            "SELECT 1 FROM sqlite_master WHERE name = 'gpudrop_redrives' AND sql LIKE '%AUTOINCREMENT%'",
        ),
    ),
)

_JOBS = Migration(
    4,
    "jobs at endpoints and what they cost",
    (
        both(
            """CREATE TABLE IF NOT EXISTS gpudrop_jobs (
                entry TEXT NOT NULL PRIMARY KEY, run_id TEXT NOT NULL, task_id TEXT NOT NULL, attempt INTEGER NOT NULL,
                bucket TEXT NOT NULL, "key" TEXT NOT NULL, "trigger" TEXT NOT NULL, operation TEXT NOT NULL,
                detail TEXT NOT NULL, endpoint TEXT NOT NULL, endpoint_id TEXT NOT NULL, job_id TEXT NOT NULL,
                state TEXT NOT NULL, usd_per_s FLOAT NOT NULL, estimate_usd FLOAT NOT NULL, usd FLOAT NOT NULL,
                units FLOAT NOT NULL, intended FLOAT NOT NULL, sent FLOAT NOT NULL, ended FLOAT NOT NULL,
                delay_ms BIGINT NOT NULL, execution_ms BIGINT NOT NULL, outcome TEXT NOT NULL, day INTEGER NOT NULL)""",
            'CREATE INDEX IF NOT EXISTS gpudrop_jobs_by_day ON gpudrop_jobs (day, "trigger", usd)',
            "CREATE INDEX IF NOT EXISTS gpudrop_jobs_by_end ON gpudrop_jobs (ended)",
            "CREATE INDEX IF NOT EXISTS gpudrop_jobs_by_run ON gpudrop_jobs (run_id)",
            """CREATE INDEX IF NOT EXISTS gpudrop_jobs_by_state
                ON gpudrop_jobs (state, endpoint, "trigger", estimate_usd)""",
            "CREATE INDEX IF NOT EXISTS gpudrop_jobs_by_task ON gpudrop_jobs (task_id, attempt)",
        ),
    ),
)

_DIALECTS = Migration(
    5,
    "what the workers speak that a job was sent to",
    add_column("gpudrop_jobs", "dialect", "TEXT NOT NULL DEFAULT ''"),
)

_CALLBACKS = Migration(
    6,
    "callbacks that are to be delivered",
    (
        *(
            Step(
                (
                    f"""CREATE TABLE gpudrop_callbacks (
                        run_id TEXT NOT NULL PRIMARY KEY, url TEXT NOT NULL, host TEXT NOT NULL,
                        body {kind} NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
                        last_error TEXT NOT NULL, hint TEXT NOT NULL, noted TEXT NOT NULL, created FLOAT NOT NULL,
                        updated FLOAT NOT NULL, due FLOAT NOT NULL, until FLOAT NOT NULL, holder TEXT NOT NULL,
                        lease_until FLOAT NOT NULL)""",
                ),
                dialect,
            )
            for dialect, kind in _BYTES.items()
        ),
        both("CREATE INDEX gpudrop_callbacks_by_due ON gpudrop_callbacks (state, due)"),
    ),
)

_NOTES = Migration(
    7,
    "what a run waits for",
    add_column("gpudrop_runs", "note", "TEXT NOT NULL DEFAULT ''"),
)

_OWNERS = Migration(
    8,
    "versions within a second, owners of outputs and of sidecars' names",
    (
        *add_column("gpudrop_inbox", "moment", "BIGINT NOT NULL DEFAULT 0"),
        *add_column("gpudrop_inbox", "etag", "TEXT NOT NULL DEFAULT ''"),
        *add_column("gpudrop_seen", "version", "TEXT NOT NULL DEFAULT ''"),
        *add_column("gpudrop_seen", "moment", "BIGINT NOT NULL DEFAULT 0"),
        *add_column("gpudrop_seen", "exact", "BOOLEAN NOT NULL DEFAULT FALSE"),
        *add_column("gpudrop_seen", "listed", "TEXT NOT NULL DEFAULT ''"),
        *add_column("gpudrop_outputs", "owner", "TEXT NOT NULL DEFAULT ''"),
        both(
            """UPDATE gpudrop_outputs SET owner = COALESCE(
                (SELECT "key" FROM gpudrop_runs WHERE gpudrop_runs.run_id = gpudrop_outputs.run_id), '')""",
            "CREATE INDEX IF NOT EXISTS gpudrop_outputs_by_owner ON gpudrop_outputs (bucket, owner)",
            """CREATE TABLE gpudrop_sidecars (
                bucket TEXT NOT NULL, name TEXT NOT NULL, "key" TEXT NOT NULL, PRIMARY KEY (bucket, name))""",
            'CREATE INDEX gpudrop_sidecars_by_key ON gpudrop_sidecars (bucket, "key")',
        ),
    ),
)

_OPEN_CALLBACKS = Migration(
    9,
    "callbacks that are not over are found without the others",
    (
        both(
            """CREATE INDEX gpudrop_callbacks_open ON gpudrop_callbacks (due)
                WHERE state = 'waiting' OR noted <> state"""
        ),
    ),
)

_SHARES = Migration(
    10,
    "shares of folders, runs that wait for their inputs",
    (
        *add_column("gpudrop_runs", "share", "TEXT NOT NULL DEFAULT ''"),
        *add_column("gpudrop_runs", "due", "FLOAT NOT NULL DEFAULT 0"),
        *add_column("gpudrop_inbox", "share", "TEXT NOT NULL DEFAULT ''"),
        both(
            "CREATE INDEX IF NOT EXISTS gpudrop_runs_by_share ON gpudrop_runs (state, member, share, accepted)",
            "CREATE INDEX IF NOT EXISTS gpudrop_runs_by_due ON gpudrop_runs (state, member, share, due)",
            "CREATE INDEX IF NOT EXISTS gpudrop_inbox_by_share ON gpudrop_inbox (member, share, received)",
            """CREATE TABLE gpudrop_awaited (
                bucket TEXT NOT NULL, "key" TEXT NOT NULL, run_id TEXT NOT NULL,
                PRIMARY KEY (bucket, "key", run_id))""",
            "CREATE INDEX gpudrop_awaited_by_run ON gpudrop_awaited (run_id)",
        ),
    ),
)

_SECRETS = Migration(
    11,
    "secrets of this installation",
    tuple(
        Step(
            (
                f"""CREATE TABLE gpudrop_secrets (
                    name TEXT NOT NULL PRIMARY KEY, secret {kind} NOT NULL, created FLOAT NOT NULL)""",
            ),
            dialect,
        )
        for dialect, kind in _BYTES.items()
    ),
)

MIGRATIONS: tuple[Migration, ...] = (
    _RUNS,
    _INBOX,
    _REDRIVES,
    _JOBS,
    _DIALECTS,
    _CALLBACKS,
    _NOTES,
    _OWNERS,
    _OPEN_CALLBACKS,
    _SHARES,
    _SECRETS,
)
