"""Defaults that depend on the order of rows, or on a row's other values, have the values that plain
SQLAlchemy writes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from fixtures.sides import WAYS, Side, Way, both
from sqlalchemy import ForeignKey, Identity, Sequence, func, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    orm_insert_sentinel,
    relationship,
)

DRIVERS = ["psycopg", "psycopg2", "asyncpg"]
SETTINGS = [WAYS[2], WAYS[3], Way("default", rows=300), Way("always", {"reserve": "always"})]
BULK = WAYS[6]

turns = itertools.count()


class Base(DeclarativeBase):
    pass


POSITIONS = Sequence("positions", metadata=Base.metadata)


class Step(Base):
    """A position and an event number that the server counts, and a column that the server fills."""

    __tablename__ = "step"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    position: Mapped[int] = mapped_column(server_default=POSITIONS.next_value())
    event: Mapped[int] = mapped_column(Identity())
    state: Mapped[str | None] = mapped_column(server_default="new")


def rows_before(context: Any) -> Any:
    return context.connection.scalar(select(func.count()).select_from(Looking.__table__))


class Looking(Base):
    __tablename__ = "looking"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    seen: Mapped[int] = mapped_column(default=rows_before)
    state: Mapped[str | None] = mapped_column(server_default="new")
    parts: Mapped[list[Part]] = relationship()


class Part(Base):
    """Its default queries the rows of another table."""

    __tablename__ = "part"
    id: Mapped[int] = mapped_column(primary_key=True)
    looking_id: Mapped[int | None] = mapped_column(ForeignKey("looking.id"))
    seen: Mapped[int] = mapped_column(default=rows_before)


class Summed(Base):
    """Defaults that get all values that their row is given, before and after a constant one."""

    __tablename__ = "summed"
    id: Mapped[int] = mapped_column(primary_key=True)
    first: Mapped[str] = mapped_column(default=lambda c: repr(c.get_current_parameters()))
    name: Mapped[str | None]
    size: Mapped[int | None]
    state: Mapped[str | None] = mapped_column(server_default="new")
    kind: Mapped[int] = mapped_column(default=7)
    last: Mapped[str] = mapped_column(default=lambda c: repr(c.current_parameters))
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Turn(Base):
    """Two defaults that use one counter in turns."""

    __tablename__ = "turn"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    one: Mapped[int] = mapped_column(default=lambda: next(turns))
    two: Mapped[int] = mapped_column(default=lambda: next(turns))


class Marked(Base):
    __tablename__ = "marked"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    state: Mapped[str | None] = mapped_column(server_default="new")
    mark: Mapped[int | None] = orm_insert_sentinel()


def alternating(rows: int) -> list[dict[str, Any]]:
    """Rows, every other of which gives the column that the server fills."""
    return [{"name": str(n), **({"state": "old"} if n % 2 else {})} for n in range(rows)]


def alike(rows: int) -> list[dict[str, Any]]:
    return [{"name": str(n)} for n in range(rows)]


def with_keys(rows: int) -> list[dict[str, Any]]:
    """Rows, the first half of which give their keys."""
    return [{"name": str(n), **({"id": 1000 + n} if n < rows // 2 else {})} for n in range(rows)]


def contents(side: Side, model: type[Any]) -> list[tuple[Any, ...]]:
    return side.rows(f"SELECT * FROM {model.__tablename__} ORDER BY name::int")


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", [*SETTINGS, BULK], ids=str)
@pytest.mark.parametrize("rows_of", [alternating, alike, with_keys])
@pytest.mark.parametrize("model", [Step, Looking, Summed, Turn, Marked])
def test_defaults_of_rows(
    twin_urls: tuple[str, str],
    model: type[Any],
    rows_of: Callable[[int], list[dict[str, Any]]],
    way: Way,
    driver: str,
) -> None:
    """Rows get the same numbers and defaults in the order of ``add()``, whatever each row gives."""
    rows = rows_of(way.rows)
    if model is Turn:
        rows = [{k: v for k, v in row.items() if k != "state"} for row in rows]
    if way is BULK and model is Summed:
        rows = [{**row, "size": 1} for row in rows]
    if way is BULK and rows_of is not alike:
        pytest.skip("plain SQLAlchemy groups mappings otherwise than objects")

    def trial(side: Side) -> Any:
        global turns
        turns = itertools.count()

        def writing(session: Session) -> None:
            side.write(session, model, rows)
            session.commit()

        side.run(writing)
        found = contents(side, model)
        if way.name == "always":
            # A reserved key is a value that the row is given.
            return len(found) if model in {Looking, Summed, Marked} else found
        return found

    both(twin_urls, Base, trial, way=way, driver=driver)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", SETTINGS, ids=str)
def test_a_default_that_looks_at_another_table(
    twin_urls: tuple[str, str], way: Way, driver: str
) -> None:
    """A default that queries a table sees the rows that the same flush has inserted into it."""

    def trial(side: Side) -> Any:
        def writing(session: Session) -> None:
            session.add_all(Looking(name=str(n), parts=[Part()]) for n in range(way.rows))
            session.commit()

        side.run(writing)
        return side.rows("SELECT seen, count(*) FROM part GROUP BY 1"), contents(side, Looking)

    both(twin_urls, Base, trial, way=way, driver=driver)


@pytest.mark.parametrize("model", [Step, Looking, Summed])
def test_rows_that_give_the_same_columns_go_by_copy(
    twin_urls: tuple[str, str], model: type[Any]
) -> None:
    """If all rows give the same columns, such defaults do not prevent COPY."""

    def trial(side: Side) -> Any:
        side.run(lambda session: (side.write(session, model, alike(20)), session.commit()))
        if side.registered:
            assert side.writers() == {("copy", None)}

    both(twin_urls, Base, trial)


def test_two_objects_that_look_at_the_table(twin_urls: tuple[str, str]) -> None:
    """If each row needs an INSERT of its own, its default sees the row before."""

    def trial(side: Side) -> Any:
        side.run(lambda session: (side.write(session, Looking, alternating(4)), session.commit()))
        return side.rows("SELECT seen FROM looking ORDER BY name::int")

    assert both(twin_urls, Base, trial) == [(0,), (1,), (2,), (3,)]
