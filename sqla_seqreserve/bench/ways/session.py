"""What SQLAlchemy's session offers: ``add_all()`` for either session, and its bulk statements.

The bulk statements run with ``render_nulls``, stock at its best: without it, SQLAlchemy sends a
statement of its own for each run of rows that have the same columns not ``None``. With a column
that is ``None`` here and there, as in these rows, that takes ten to twenty times as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session, sessionmaker

from sqla_seqreserve import register

from ..data import payments
from ..models import Payment, PaymentOfSequence
from ..work import Place
from .clock import Clock

__all__ = [
    "add_and_commit",
    "add_in_ours",
    "add_in_stock",
    "add_with_ids_ahead",
    "insert_mappings",
    "insert_returning_ids",
    "insert_returning_objects",
]


def add_and_commit(
    sessions: sessionmaker[Session], model: type[Payment | PaymentOfSequence], objects: int
) -> Mapping[str, float]:
    """Make the objects, add and commit them: all of it timed, and the flush by itself."""
    values = payments(objects)
    with sessions() as session:
        clock = Clock()
        session.add_all([model(**row) for row in values])
        flush = Clock()
        session.flush()
        flushed = flush.seconds()
        session.commit()
        return {"commit": clock.seconds(), "flush": flushed}


def add_in_ours(place: Place, objects: int) -> Mapping[str, float]:
    """Ours."""
    return add_and_commit(place.ours, Payment, objects)


def add_with_ids_ahead(place: Place, objects: int) -> Mapping[str, float]:
    """Ours with ``prefetch=100``."""
    return add_and_commit(place.keep(_sessions_with_ids_ahead), Payment, objects)


def _sessions_with_ids_ahead(place: Place) -> sessionmaker[Session]:
    sessions = sessionmaker(place.engine)
    registration = register(sessions, prefetch=100)
    place.closing.callback(registration.unregister)
    return sessions


def add_in_stock(place: Place, objects: int) -> Mapping[str, float]:
    """Stock SQLAlchemy."""
    return add_and_commit(place.stock, Payment, objects)


def insert_mappings(place: Place, objects: int) -> Mapping[str, float]:
    """``session.execute(insert(M), rows)``: no keys come back."""
    return _execute(place, objects, insert(Payment), None)


def insert_returning_ids(place: Place, objects: int) -> Mapping[str, float]:
    """The same with the keys, in the order of the rows."""
    statement = insert(Payment).returning(Payment.id, sort_by_parameter_order=True)
    return _execute(place, objects, statement, "rows")


def insert_returning_objects(place: Place, objects: int) -> Mapping[str, float]:
    """The same with persistent objects."""
    return _execute(place, objects, insert(Payment).returning(Payment), "scalars")


def _execute(place: Place, objects: int, statement: Any, fetch: str | None) -> Mapping[str, float]:
    values = payments(objects)
    with place.stock() as session:
        clock = Clock()
        result: Any = session.execute(statement, values, execution_options={"render_nulls": True})
        kept = None
        if fetch == "rows":
            kept = result.all()
        elif fetch == "scalars":
            kept = result.scalars().all()
        session.commit()
        seconds = clock.seconds()
        # Held until the clock has stopped: to free the objects is nobody's work here.
        del kept
        return {"commit": seconds}
