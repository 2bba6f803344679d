"""Statements for many rows with the fuzzer's values: plain SQLAlchemy compared with a registered
session.

A batch is written by UPDATEs of objects and by ``update()`` and ``insert()`` with a list, is
returned by an ``insert()``, and is the key by which rows are found, updated and deleted.
"""

from __future__ import annotations

import warnings
from typing import Any, Final

from fixtures.sides import DRIVERS, Way, refusal
from fuzz.harness import Case, Harness
from sqlalchemy import (
    Column,
    Integer,
    Table,
    Text,
    bindparam,
    cast,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session

__all__ = ["ACTS", "MANY_DRIVERS", "WAYS", "ManyHarness"]

MANY_DRIVERS: Final = DRIVERS
STYLES: Final = {"UTC": ("ISO, MDY", "postgres"), "America/New_York": ("SQL, DMY", "sql_standard")}


def _objects(session: Session, model: Any, values: list[Any]) -> Any:
    items = session.scalars(select(model).order_by(model.id)).all()
    for item, value in zip(items, values, strict=False):
        item.value = value
    session.flush()
    return [repr(vars(item).get("value", "(unloaded)")) for item in items]


def _updates(session: Session, model: Any, values: list[Any]) -> None:
    rows = [{"id": position, "value": value} for position, value in enumerate(values, 1)]
    session.execute(update(model), rows)


def _inserts(session: Session, model: Any, values: list[Any]) -> None:
    rows = [{"id": position, "value": value} for position, value in enumerate(values, 100)]
    session.execute(insert(model), rows)


def _returned(session: Session, model: Any, values: list[Any]) -> Any:
    # As text: if the type is an array and the column is not, SQLAlchemy's processing of the value
    # can end the process.
    statement = insert(model).returning(model.id, cast(model.value, Text))
    rows = [{"id": position, "value": value} for position, value in enumerate(values, 100)]
    return [repr(tuple(row)) for row in session.execute(statement, rows)]


def _numbered(session: Session, model: Any, values: list[Any]) -> Any:
    name = model.__table__.name
    session.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), 1000)"))
    rows = [{"value": value} for _ in range(1 + 40 // len(values)) for value in values]
    return sorted(session.scalars(insert(model).returning(model.id), rows))


def _updated_by(session: Session, model: Any, values: list[Any]) -> Any:
    table = model.__table__
    _inserts(session, model, values)
    found: Any = session.execute(
        update(table)
        .where(table.c.value == bindparam("k", type_=table.c.value.type))
        .values(note=table.c.note * 10 + bindparam("n")),
        [{"k": value, "n": n} for n, value in enumerate(values, 1)],
    )
    return found.rowcount if found.supports_sane_multi_rowcount() else None


def _deleted_by(session: Session, model: Any, values: list[Any]) -> Any:
    table = model.__table__
    _inserts(session, model, values)
    found: Any = session.execute(
        delete(table).where(table.c.value == bindparam("k", type_=table.c.value.type)),
        [{"k": value} for value in values[::2]],
    )
    return found.rowcount if found.supports_sane_multi_rowcount() else None


ACTS: Final = {
    "objects": _objects,
    "updates": _updates,
    "inserts": _inserts,
    "returned": _returned,
    "numbered": _numbered,
    "updated by": _updated_by,
    "deleted by": _deleted_by,
}
WAYS: Final = tuple(Way(act, {"copy_min_rows": 1}) for act in ACTS)


class ManyHarness(Harness):
    """A harness whose ways of writing are those of :data:`ACTS`."""

    ways = WAYS

    def _plain(self, case: Case) -> dict[str, Any]:
        return self._flush(self._side(case, registered=False), case)

    def _model(self, case: Case) -> type[Any]:
        key = (case.kind.name, case.column, False)
        if key not in self._models:
            name = f"many{len(self._models)}"
            for engine in self._engines:
                with engine.begin() as connection:
                    connection.exec_driver_sql(
                        f"CREATE TABLE {name} (id serial PRIMARY KEY, value {case.column},"
                        f" note integer DEFAULT 0)"
                    )
            table = Table(
                name,
                self._metadata,
                Column("id", Integer, primary_key=True),
                Column("value", case.kind.type_),
                Column("note", Integer, server_default="0"),
            )
            model: type[Any] = type(name.title(), (), {"__table__": table})
            self._mappers.map_imperatively(model, table)
            self._models[key] = model
        return self._models[key]

    def _flush(self, side: Any, case: Case) -> dict[str, Any]:
        model = self._model(case)
        name = model.__table__.name
        act = ACTS[case.way.name]
        dates, intervals = STYLES[case.zone]

        def flush(session: Session) -> dict[str, Any]:
            session.execute(text(f"SET LOCAL TimeZone = '{case.zone}'"))
            session.execute(text(f"SET LOCAL DateStyle = '{dates}'"))
            session.execute(text(f"SET LOCAL IntervalStyle = '{intervals}'"))
            session.execute(
                text(f"INSERT INTO {name} (id) SELECT generate_series(1, {len(case.values)})")
            )
            found: dict[str, Any] = {}
            try:
                found["after"] = act(session, model, list(case.values))
                rows = session.execute(
                    text(f"SELECT id, value::text, note FROM {name} ORDER BY 1, 2")
                )
                found["stored"] = [tuple(row) for row in rows]
            except Exception as error:
                return {"error": refusal(error)[:2], "sqlstate": refusal(error)[2]}
            finally:
                session.rollback()
            return found

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found: dict[str, Any] = side.run(flush)
        found["loaded"] = sorted({str(each.message) for each in caught})
        return found
