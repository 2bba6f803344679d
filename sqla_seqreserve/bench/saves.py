"""The saves at a point of the grid: new objects, or objects that were loaded and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from .data import payment_values
from .models import Base, Charge, Contract, Instalment, Payment, Refund, Reminder
from .place import Place
from .sessions import Sessions
from .ways.clock import Clock

__all__ = ["SAVES", "Kind", "Save", "Saves", "insert_rows"]

Kind: TypeAlias = Literal["new", "related", "changed"]
"""New objects of unrelated classes, new parents with children and grandchildren, or changed
objects.
"""


Save: TypeAlias = Callable[[Sessions, int, Sequence[type[Base]]], float]
"""Saves this many rows of these classes; returns the seconds."""


@dataclass(frozen=True, slots=True)
class Saves:
    """One kind of save.

    :param title: names what the time measures.
    :param save: returns the seconds of a save of this many rows of these classes.
    :param fill: puts this many rows of each class into the emptied tables.
    :param measure: SQL over a table; its value grows by one with each row that is written.
    """

    title: str
    models: Sequence[type[Base]]
    save: Save
    fill: Callable[[Place, int, Sequence[type[Base]]], object]
    measure: str

    def empty(self, place: Place, rows: int) -> None:
        """Empty the tables, and insert the rows that exist before the first save."""
        names = ", ".join(model.__tablename__ for model in self.models)
        with place.engine.begin() as connection:
            connection.exec_driver_sql(f"TRUNCATE {names}")
        self.fill(place, rows, self.models)

    def written(self, place: Place) -> int:
        """The number of rows written so far; only its growth matters."""
        counts = " + ".join(
            f"(SELECT coalesce({self.measure}, 0) FROM {model.__tablename__})"  # noqa: S608  # names of ours
            for model in self.models
        )
        with place.engine.connect() as connection:
            return int(connection.execute(text(f"SELECT {counts}")).scalar_one())


# New objects


def _save_new(sessions: Sessions, rows: int, models: Sequence[type[Base]]) -> float:
    objects = _make(rows, models)

    def work(session: Session) -> None:
        session.add_all(objects)
        session.commit()

    return sessions.timed(work)


def _make(rows: int, models: Sequence[type[Base]]) -> list[Base]:
    """This many objects, spread over the classes as evenly as possible; a child has a parent."""
    made: list[list[Any]] = []
    for model, share in zip(models, _shares(rows, len(models)), strict=True):
        above = made[-1] if made else []
        if model is Instalment:
            made.append([Instalment(**row, contract=above[n]) for n, row in enumerate(share)])
        elif model is Reminder:
            made.append([Reminder(**row, instalment=above[n]) for n, row in enumerate(share)])
        else:
            made.append([model(**row) for row in share])
    return [object_ for objects in made for object_ in objects]


def _shares(rows: int, tables: int) -> Iterator[Sequence[Mapping[str, Any]]]:
    values = [payment_values(number) for number in range(rows)]
    return (values[first::tables] for first in range(tables))


def _nothing(place: Place, rows: int, models: Sequence[type[Base]]) -> None:
    """New objects need no existing rows."""


def insert_rows(sessions: Sessions, rows: int, models: Sequence[type[Base]]) -> float:
    """SQLAlchemy's own bulk INSERT of this many rows of the first class."""
    values = [payment_values(number) for number in range(rows)]

    def work(session: Session) -> None:
        # Without it, rows with and without a NULL need separate statements.
        session.execute(insert(models[0]), values, execution_options={"render_nulls": True})
        session.commit()

    return sessions.timed(work)


# Changed objects


def _save_changed(sessions: Sessions, rows: int, models: Sequence[type[Base]]) -> float:
    def work(session: Session) -> float:
        kept = []
        for model, share in zip(models, _shares(rows, len(models)), strict=True):
            statement = select(model).order_by(*model.__table__.primary_key).limit(len(share))
            for each in session.scalars(statement):
                _change(each)
                kept.append(each)
        clock = Clock()
        session.flush()
        seconds = clock.seconds()
        session.commit()
        return seconds

    return sessions.run(work)


def _change(object_: Any) -> None:
    object_.portfolio += 1
    object_.amount += Decimal("0.01")


def _fill(place: Place, rows: int, models: Sequence[type[Base]]) -> None:
    names = ", ".join(model.__tablename__ for model in models)
    with Session(place.engine) as session:
        for model in models:
            session.execute(
                insert(model),
                [payment_values(number) for number in range(rows)],
                execution_options={"render_nulls": True},
            )
        session.commit()
    with place.engine.begin() as connection:
        # As in an application, the planner has statistics of the tables.
        connection.exec_driver_sql(f"ANALYZE {names}")


_INDEPENDENT: Final = (Payment, Refund, Charge)
_ADDED: Final = "new session, add_all, commit"

SAVES: Final[Mapping[Kind, Saves]] = {
    "new": Saves(_ADDED, _INDEPENDENT, _save_new, _nothing, "count(*)"),
    "related": Saves(_ADDED, (Contract, Instalment, Reminder), _save_new, _nothing, "count(*)"),
    "changed": Saves(
        "flush of changed objects", _INDEPENDENT, _save_changed, _fill, "sum(portfolio)"
    ),
}
"""The kinds of the grid."""
