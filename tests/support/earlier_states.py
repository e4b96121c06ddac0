"""Databases as earlier versions of the ledger left them: the SQL beside this file, in the order of the versions."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

FOLDER = Path(__file__).parent / "earlier_states"
EARLIER = tuple(sorted(path.stem for path in FOLDER.glob("*.sql")))


def make_earlier(engine: sa.Engine, name: str) -> None:
    """An earlier version's tables, in a database without any."""
    text = (FOLDER / f"{name}.sql").read_text()
    if engine.dialect.name == "postgresql":
        text = text.replace("number INTEGER", "number SERIAL").replace(" AUTOINCREMENT", "")
    with engine.begin() as db:
        for statement in text.split(";"):
            if statement.strip():
                db.exec_driver_sql(statement)


def fill(engine: sa.Engine) -> dict[str, list[dict[str, object]]]:
    """Two rows in every table; returns all of them, by table."""
    found = sa.MetaData()
    found.reflect(engine)
    with engine.begin() as db:
        for table in found.sorted_tables:
            db.execute(sa.insert(table), [{c.name: _value(c, n) for c in table.columns} for n in (1, 2)])
    return rows(engine)


def rows(engine: sa.Engine) -> dict[str, list[dict[str, object]]]:
    found = sa.MetaData()
    found.reflect(engine)
    with engine.connect() as db:
        return {
            table.name: [dict(row) for row in db.execute(sa.select(table).order_by(*table.primary_key)).mappings()]
            for table in found.sorted_tables
        }


def _value(column: sa.Column[object], number: int) -> object:
    if isinstance(column.type, sa.JSON):
        return {"kept": number}
    if isinstance(column.type, sa.Boolean):
        return number == 1
    if isinstance(column.type, sa.Integer):
        return 40 + number
    return number + 0.5 if isinstance(column.type, sa.Float) else f"{column.name} {number}"


def schema_of(engine: sa.Engine, tables: sa.MetaData) -> dict[str, object]:
    """Columns, keys and indexes of the tables in `tables`, as the database has them; not the order of columns."""
    asked = sa.inspect(engine)
    return {
        name: {
            "columns": {
                column["name"]: (str(column["type"]), column["nullable"]) for column in asked.get_columns(name)
            },
            "key": asked.get_pk_constraint(name)["constrained_columns"],
            "indexes": sorted((index["name"] or "", index["column_names"]) for index in asked.get_indexes(name)),
        }
        for name in tables.tables
        if asked.has_table(name)
    }


def defaults_of(engine: sa.Engine, tables: sa.MetaData) -> dict[str, str | None]:
    """What a column gets that an insert does not name, by table and column."""
    asked = sa.inspect(engine)
    return {f"{name}.{each['name']}": each["default"] for name in tables.tables for each in asked.get_columns(name)}
