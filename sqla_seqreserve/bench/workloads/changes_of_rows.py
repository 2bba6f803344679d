"""``bulk_update``, ``bulk_delete`` and ``bulk_sync``, compared with SQLAlchemy's own statements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import delete, select, true, update
from sqlalchemy.orm import Session

from sqla_seqreserve import bulk_delete, bulk_sync, bulk_update

from ..data import payment_values, payments
from ..models import PAYMENT_COLUMNS, Payment, Receipt
from ..place import Place
from ..ways.clock import Clock
from ..work import Measure, Required, Run, Way, Work
from .one_table import PAYMENTS
from .there import fill, ids_of

__all__ = ["DELETE", "SYNC", "UPDATE"]

_PAGE: Final = 10_000
"""The number of keys in one ``IN (..)`` of SQLAlchemy's: psycopg takes 65,535."""


def _timed(place: Place, work: Callable[[Session], object]) -> Mapping[str, float]:
    def timed(session: Session) -> Mapping[str, float]:
        clock = Clock()
        kept = work(session)
        session.commit()
        seconds = clock.seconds()
        del kept
        return {"commit": seconds}

    return place.plain.run(timed)


def _commit(ours: str, *required: Required) -> tuple[Measure, ...]:
    return (Measure("commit", "", required, ours=ours),)


# Updates


def _update(execute: Callable[[Session, Sequence[dict[str, Any]]], object]) -> Run:
    def run(place: Place, objects: int) -> Mapping[str, float]:
        fill(place, Payment, payments(objects))
        rows = [
            {"id": id_, "portfolio": number, "amount": Decimal(number)}
            for number, id_ in enumerate(ids_of(place, Payment))
        ]
        return _timed(place, lambda session: execute(session, rows))

    return run


_BULK_UPDATE: Final = "sqla-seqreserve bulk_update"
_EXECUTE_UPDATE: Final = "execute(update(M), rows)"

UPDATE: Final = Work(
    "bulk-update",
    "bulk_update",
    100_000,
    (Payment.__tablename__,),
    PAYMENTS,
    (
        Way(_BULK_UPDATE, _update(lambda session, rows: bulk_update(session, Payment, rows))),
        Way(_EXECUTE_UPDATE, _update(lambda session, rows: session.execute(update(Payment), rows))),
    ),
    _commit(_BULK_UPDATE, Required(_EXECUTE_UPDATE, 4)),
    rounds=5,
)


# Deletes


def _delete(execute: Callable[[Session, Sequence[int]], object]) -> Run:
    def run(place: Place, objects: int) -> Mapping[str, float]:
        fill(place, Payment, payments(2 * objects))
        keys = ids_of(place, Payment)[::2]
        return _timed(place, lambda session: execute(session, keys))

    return run


def _delete_in(session: Session, keys: Sequence[int]) -> None:
    for start in range(0, len(keys), _PAGE):
        page = keys[start : start + _PAGE]
        statement = delete(Payment).where(Payment.id.in_(page))
        session.execute(statement, execution_options={"synchronize_session": False})


_BULK_DELETE: Final = "sqla-seqreserve bulk_delete"
_DELETE_IN: Final = "execute(delete(M).where(M.id.in_(page)))"

DELETE: Final = replace(
    UPDATE,
    name="bulk-delete",
    title="bulk_delete",
    ways=(
        Way(_BULK_DELETE, _delete(lambda session, keys: bulk_delete(session, Payment, keys))),
        Way(_DELETE_IN, _delete(_delete_in)),
    ),
    measures=_commit(_BULK_DELETE),
)


# Rows made equal to the given ones


def _sync(execute: Callable[[Session, Sequence[dict[str, Any]]], object]) -> Run:
    """A tenth of the rows differs: half of these were changed, a quarter is new, a quarter gone."""

    def run(place: Place, objects: int) -> Mapping[str, float]:
        given = payments(objects)
        there = [dict(row) for number, row in enumerate(given) if number % 40]
        for row in there:
            if row["number"] % 20 == 1:
                row["portfolio"] += 1
        there += [payment_values(number) for number in range(objects, objects + objects // 40)]
        fill(place, Receipt, there)
        return _timed(place, lambda session: execute(session, given))

    return run


def _sync_ours(session: Session, rows: Sequence[dict[str, Any]]) -> object:
    return bulk_sync(session, Receipt, rows, key="number", scope=true())


def _sync_objects(session: Session, rows: Sequence[dict[str, Any]]) -> object:
    there = {each.number: each for each in session.scalars(select(Receipt))}
    for row in rows:
        found = there.pop(row["number"], None)
        if found is None:
            session.add(Receipt(**row))
            continue
        for name, value in row.items():
            if getattr(found, name) != value:
                setattr(found, name, value)
    for gone in there.values():
        session.delete(gone)
    session.flush()
    return there


_BULK_SYNC: Final = "sqla-seqreserve bulk_sync"
_LOOP: Final = "a loop over the objects"

SYNC: Final = replace(
    UPDATE,
    name="bulk-sync",
    title="bulk_sync, a tenth differs",
    tables=(Receipt.__tablename__,),
    contents=f"SELECT {', '.join(PAYMENT_COLUMNS)} FROM {Receipt.__tablename__}",  # noqa: S608  # names of ours
    ways=(Way(_BULK_SYNC, _sync(_sync_ours)), Way(_LOOP, _sync(_sync_objects))),
    measures=_commit(_BULK_SYNC, Required(_LOOP, 5)),
)
