"""SQLAlchemy's own bulk statements, executed by a registered session and by a plain one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import insert, update
from sqlalchemy.orm import Session

from ..data import payments
from ..models import Payment
from ..place import Place
from ..sessions import Sessions
from ..ways.clock import Clock
from ..work import PLAIN, Measure, Required, Work, beside
from .one_table import PAYMENTS
from .there import fill, ids_of

__all__ = [
    "INSERT_MAPPINGS",
    "INSERT_NULLS",
    "INSERT_RETURNING",
    "INSERT_ROWS",
    "UPDATE_MAPPINGS",
    "UPDATE_ROWS",
]

_Execute = Callable[[Session, Sequence[dict[str, Any]]], Any]


def _timed(
    sessions: Sessions, rows: Sequence[dict[str, Any]], execute: _Execute
) -> Mapping[str, float]:
    def work(session: Session) -> Mapping[str, float]:
        session.connection()
        clock = Clock()
        kept = execute(session, rows)
        seconds = clock.seconds()
        session.commit()
        del kept
        return {"call": seconds}

    return sessions.run(work)


def _insert(execute: _Execute) -> Any:
    def run(sessions: Sessions, place: Place, objects: int) -> Mapping[str, float]:  # noqa: ARG001  # a way's
        return _timed(sessions, payments(objects), execute)

    return run


def _update(execute: _Execute) -> Any:
    def run(sessions: Sessions, place: Place, objects: int) -> Mapping[str, float]:
        fill(place, Payment, payments(objects))
        rows = [
            {"id": id_, "portfolio": number, "amount": Decimal(number)}
            for number, id_ in enumerate(ids_of(place, Payment))
        ]
        return _timed(sessions, rows, execute)

    return run


# Otherwise SQLAlchemy makes a statement for each run of rows that lack the same columns.
_NULLS: Final = {"render_nulls": True}


def _insert_rows(session: Session, rows: Sequence[dict[str, Any]]) -> Any:
    return session.execute(insert(Payment), rows, execution_options=_NULLS)


def _insert_nulls(session: Session, rows: Sequence[dict[str, Any]]) -> Any:
    return session.execute(insert(Payment), rows)


def _insert_returning(session: Session, rows: Sequence[dict[str, Any]]) -> Any:
    statement = insert(Payment).returning(Payment.id, sort_by_parameter_order=True)
    return session.execute(statement, rows, execution_options=_NULLS).all()


def _update_rows(session: Session, rows: Sequence[dict[str, Any]]) -> Any:
    return session.execute(update(Payment), rows)


def _insert_mappings(session: Session, rows: Sequence[dict[str, Any]]) -> Any:
    return session.bulk_insert_mappings(Payment, rows, render_nulls=True)


def _update_mappings(session: Session, rows: Sequence[dict[str, Any]]) -> Any:
    return session.bulk_update_mappings(Payment, rows)


def _call(*required: Required) -> tuple[Measure, ...]:
    return (Measure("call", "", required),)


INSERT_ROWS: Final = Work(
    "insert-rows",
    "execute(insert(M), rows)",
    20_000,
    (Payment.__tablename__,),
    PAYMENTS,
    beside(_insert(_insert_rows)),
    _call(Required(PLAIN, 3, others={"psycopg2": 0.97, "asyncpg": 2})),
)

INSERT_NULLS: Final = replace(
    INSERT_ROWS,
    name="insert-nulls",
    title="execute(insert(M), rows), two of three without a note",
    objects=2_000,
    ways=beside(_insert(_insert_nulls)),
    measures=_call(Required(PLAIN, 10, others=5)),
    rounds=7,
)

INSERT_RETURNING: Final = replace(
    INSERT_ROWS,
    name="insert-returning",
    title="execute(insert(M).returning(M.id, sorted), rows)",
    ways=beside(_insert(_insert_returning)),
    measures=_call(Required(PLAIN, 6, others={"psycopg2": 3, "asyncpg": 0.97})),
)

UPDATE_ROWS: Final = replace(
    INSERT_ROWS,
    name="update-rows",
    title="execute(update(M), rows)",
    ways=beside(_update(_update_rows)),
    measures=_call(Required(PLAIN, 2.5, others=0.97)),
)

INSERT_MAPPINGS: Final = replace(
    INSERT_ROWS,
    name="insert-mappings",
    title="bulk_insert_mappings",
    objects=2_000,
    ways=beside(_insert(_insert_mappings)),
    measures=_call(Required(PLAIN, 3, others=0.97)),
    rounds=15,
)

UPDATE_MAPPINGS: Final = replace(
    INSERT_MAPPINGS,
    name="update-mappings",
    title="bulk_update_mappings",
    ways=beside(_update(_update_mappings)),
    measures=_call(Required(PLAIN, 0.97, others={"psycopg2": 6, "asyncpg": 0.97})),
)
