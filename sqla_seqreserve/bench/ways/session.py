"""The ways of SQLAlchemy's session: ``add_all()`` with and without this package, and its bulk
statements.

The bulk statements run with ``render_nulls``, which makes plain SQLAlchemy fastest: without it,
SQLAlchemy sends a separate statement for each run of rows in which the same columns are ``None``.
With a column that is ``None`` in some rows, as here, that takes ten to twenty times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from ..data import payments
from ..models import Payment, PaymentOfSequence
from ..place import Place
from ..sessions import Sessions
from ..work import OURS, PLAIN, Way
from .clock import Clock

__all__ = [
    "add_and_commit",
    "add_in_ours",
    "add_in_plain",
    "add_payments",
    "add_ways",
    "add_with_ids_ahead",
    "insert_mappings",
    "insert_returning_ids",
    "insert_returning_objects",
]


def add_and_commit(sessions: Sessions, make: Callable[[], Sequence[object]]) -> Mapping[str, float]:
    """Make the objects, add and commit them; time all of it, and the flush by itself."""

    def work(session: Session) -> Mapping[str, float]:
        clock = Clock()
        session.add_all(make())
        flush = Clock()
        session.flush()
        flushed = flush.seconds()
        session.commit()
        return {"commit": clock.seconds(), "flush": flushed}

    return sessions.run(work)


def add_ways(make: Callable[[int], Sequence[object]]) -> tuple[Way, Way]:
    """This package and plain SQLAlchemy, with the objects that ``make`` returns for a number."""

    def ours(place: Place, objects: int) -> Mapping[str, float]:
        return add_and_commit(place.ours, lambda: make(objects))

    def plain(place: Place, objects: int) -> Mapping[str, float]:
        return add_and_commit(place.plain, lambda: make(objects))

    return Way(OURS, ours), Way(PLAIN, plain)


def add_payments(
    sessions: Sessions, model: type[Payment | PaymentOfSequence], objects: int
) -> Mapping[str, float]:
    """The same for payments."""
    values = payments(objects)
    return add_and_commit(sessions, lambda: [model(**row) for row in values])


def add_in_ours(place: Place, objects: int) -> Mapping[str, float]:
    """Ours."""
    return add_payments(place.ours, Payment, objects)


def add_with_ids_ahead(place: Place, objects: int) -> Mapping[str, float]:
    """Ours with ``prefetch=100``."""
    return add_payments(place.keep(_sessions_with_ids_ahead), Payment, objects)


def _sessions_with_ids_ahead(place: Place) -> Sessions:
    return place.registered(prefetch=100)


def add_in_plain(place: Place, objects: int) -> Mapping[str, float]:
    """Plain SQLAlchemy."""
    return add_payments(place.plain, Payment, objects)


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

    def work(session: Session) -> Mapping[str, float]:
        clock = Clock()
        result: Any = session.execute(statement, values, execution_options={"render_nulls": True})
        kept = None
        if fetch == "rows":
            kept = result.all()
        elif fetch == "scalars":
            kept = result.scalars().all()
        session.commit()
        seconds = clock.seconds()
        # Held until the clock has stopped: freeing the objects is not part of any way's work.
        del kept
        return {"commit": seconds}

    return place.plain.run(work)
