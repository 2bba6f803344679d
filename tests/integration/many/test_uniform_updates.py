"""Rows of ``update(M)`` that give the same columns are collected without a look at each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fixtures.sides import ASYNC_DRIVERS, SYNC_DRIVERS, Side, Way, both, told_and_left
from fixtures.uniform import MANY, Located, Point
from sqlalchemy import event, func, insert, inspect, select, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
)

EVERY = pytest.mark.parametrize("driver", [*SYNC_DRIVERS, *ASYNC_DRIVERS])


class Base(DeclarativeBase):
    pass


class Columns(Located):
    number: Mapped[int] = mapped_column("Number of", primary_key=True, key="n")
    count: Mapped[int | None] = mapped_column(onupdate=7)
    seen: Mapped[int | None] = mapped_column(onupdate=func.length("three"))


class Plain(Columns, Base):
    __tablename__ = "plain"


class Pair(Columns, Base):
    __tablename__ = "pair"
    other: Mapped[int] = mapped_column(primary_key=True, default=3)


class Item(Columns, Base):
    __tablename__ = "item"
    kind: Mapped[str] = mapped_column(server_default="item")
    __mapper_args__: Any = {"polymorphic_on": kind, "polymorphic_identity": "item"}


class Special(Item):
    __mapper_args__: Any = {"polymorphic_identity": "special"}


class Versioned(Columns, Base):
    __tablename__ = "versioned"
    version: Mapped[int] = mapped_column(default=1)
    __mapper_args__: Any = {"version_id_col": version}


TABLES = ["plain", "pair", "item", "versioned"]
Row = Callable[[int], Mapping[str, Any]]
ROWS: Mapping[str, Row] = {
    "an attribute of another name than its column": lambda i: {"word": f"w{i}", "count": i},
    "the key of a column": lambda i: {"w": f"w{i}", "count": i},
    "a key that is no attribute": lambda i: {"word": "w", "unknown": i},
    "a composite": lambda i: {"at": Point(i, -i)},
    "some nulls": lambda i: {"word": None if i % 3 else "w", "x": i},
    "other columns in one row": lambda i: {"x": i} if i != 30 else {"y": i},
    "the same columns in another order": lambda i: {"x": i, "y": 1} if i % 2 else {"y": 1, "x": i},
    "the key alone": lambda i: {},
    "a row that is not there": lambda i: {"number": i if i != 30 else 1000, "x": i},
    "the same key twice": lambda i: {"number": i if i != 30 else 31, "x": i},
    "no key in one row": lambda i: {"number": i if i != 30 else None, "x": i},
    "a mapping that is not a plain dict": lambda i: OrderedDict(x=i, word="w"),
    "an SQL expression": lambda i: {"x": func.abs(-i)},
    "a value that its type refuses": lambda i: {"word": i, "x": i},
    "a value that the server refuses": lambda i: {"x": i if i < 30 else 2**40},
    "a key that cannot be hashed": lambda i: {"number": [i], "x": i},
}
STATEMENTS: Mapping[str, Callable[[Any], Any]] = {
    "rows alone": lambda model: update(model),
    "a value besides": lambda model: update(model).values(y=func.abs(-5)),
    "an ordered value besides": lambda model: update(model).ordered_values((model.y, 5)),
    "a condition besides": lambda model: update(model).where(model.x != 5),
}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "by default": {},
    "without looking at objects": {"synchronize_session": None},
    "loading again": {"populate_existing": True},
}


def stored(session: Session, model: type[Any]) -> list[dict[str, Any]]:
    """Insert the rows that are to be updated; return what finds each of them."""
    session.execute(insert(model), [{"number": i, "x": 5 * i} for i in range(1, MANY)])
    session.flush()
    return [{"number": i} | ({"other": 3} if model is Pair else {}) for i in range(1, MANY)]


def of_objects(objects: list[Any]) -> Any:
    """What an object holds without loading, and what of it is changed."""
    return [
        (
            sorted((key, value) for key, value in vars(one).items() if type(value) in (int, str)),
            sorted(inspect(one).unmodified),
        )
        for one in objects
    ]


@EVERY
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("model", [Plain, Pair, Special, Versioned])
@pytest.mark.parametrize(
    ("kind", "options"),
    [*((kind, "by default") for kind in STATEMENTS), *(("rows alone", name) for name in OPTIONS)],
)
def test_rows_are_those_of_plain_sqlalchemy(
    twin_urls: tuple[str, str], driver: str, name: str, model: type[Any], kind: str, options: str
) -> None:
    """What rows of update() store, refuse and change in held objects is plain SQLAlchemy's."""

    def act(session: Session) -> Any:
        keys = stored(session, model)
        rows = [
            key | {"version": 1} | dict(ROWS[name](key["number"]))
            if model is Versioned
            else type(given := ROWS[name](key["number"]))({**key, **given})
            for key in keys
        ]
        before = list(map(dict, rows))
        held = list(session.scalars(select(model).where(model.number % 7 == 0)))
        with session.no_autoflush:
            held[0].x = 99
            try:
                result = session.execute(
                    STATEMENTS[kind](model), rows, execution_options=dict(OPTIONS[options])
                )
            except TypeError as error:
                return str(error)
            found = type(result).__name__, of_objects(held)
        session.commit()
        assert rows == before
        return found

    def trial(side: Side) -> Any:
        return told_and_left(side, act, TABLES)

    both(twin_urls, Base, trial, way=Way("default settings"), driver=driver)


@EVERY
def test_listeners_hear_of_held_objects(twin_urls: tuple[str, str], driver: str) -> None:
    """``refresh`` is called for the objects of updated rows that the session holds, and others of
    the same key in another class stay as they are.
    """

    def act(session: Session) -> Any:
        stored(session, Item)
        heard: list[Any] = []

        def refreshed(target: Any, context: object, names: Any) -> None:
            heard.append((target.number, sorted(names)))

        for model in (Plain, Pair):
            stored(session, model)
        held = [
            one
            for model in (Plain, Pair)
            for one in session.scalars(select(model).order_by(model.number))
        ]
        event.listen(Plain, "refresh", refreshed)
        try:
            session.execute(update(Plain), [{"number": i, "x": -i} for i in range(1, MANY)])
        finally:
            event.remove(Plain, "refresh", refreshed)
        return heard, of_objects(held)

    def trial(side: Side) -> Any:
        return told_and_left(side, act, TABLES)

    both(twin_urls, Base, trial, way=Way("default settings"), driver=driver)
