"""Rows of ``insert(M)`` that give the same columns are collected without a look at each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fixtures.sides import ASYNC_DRIVERS, SYNC_DRIVERS, Side, Way, both, told_and_left
from fixtures.uniform import MANY, Located, Point
from sqlalchemy import JSON, func, insert
from sqlalchemy.ext.hybrid import hybrid_property
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
    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int | None] = mapped_column(default=7)
    document: Mapped[Any] = mapped_column(JSON, nullable=True)

    @hybrid_property
    def halved(self) -> int:
        return (self.count or 0) // 2

    @halved.inplace.update_expression
    @classmethod
    def _set_halved(cls, value: int) -> list[tuple[Any, Any]]:
        return [(cls.count, value * 2)]


class Plain(Columns, Base):
    __tablename__ = "plain"


class Item(Columns, Base):
    __tablename__ = "item"
    kind: Mapped[str] = mapped_column(server_default="plain")
    __mapper_args__: Any = {"polymorphic_on": kind, "polymorphic_identity": "plain"}


class Special(Item):
    __mapper_args__: Any = {"polymorphic_identity": "special"}


class Versioned(Base):
    __tablename__ = "versioned"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str]
    version: Mapped[int] = mapped_column()
    __mapper_args__: Any = {"version_id_col": version}


Row = Callable[[int], Mapping[str, Any]]
ROWS: Mapping[str, Row] = {
    "an attribute of another name than its column": lambda i: {"word": f"w{i}", "count": i},
    "the key of a column": lambda i: {"w": f"w{i}", "count": i},
    "a key that is no attribute": lambda i: {"word": "w", "unknown": i},
    "a composite": lambda i: {"word": "w", "at": Point(i, -i)},
    "a hybrid": lambda i: {"word": "w", "halved": i},
    "some nulls": lambda i: {"word": None if i % 3 else "w", "count": None if i % 40 == 39 else i},
    "nulls alone": lambda i: {"word": "w", "count": None, "x": i},
    "JSON of nothing": lambda i: {"document": None, "x": i},
    "other columns in one row": lambda i: {"x": i} if i % 40 != 30 else {"y": i},
    "the same columns in another order": lambda i: {"x": i, "y": 1} if i % 2 else {"y": 1, "x": i},
    "nothing": lambda i: {},
    "keys": lambda i: {"id": 1000 - i, "x": i},
    "a mapping that is not a plain dict": lambda i: OrderedDict(x=i, word="w"),
    "an SQL expression": lambda i: {"x": func.abs(-i)},
    "a value that its type refuses": lambda i: {"word": i, "x": i},
    "a value that the server refuses": lambda i: {"x": i if i < 70 else 2**40},
}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "by default": {},
    "with NULL": {"render_nulls": True},
    "loading again": {"populate_existing": True},
}


@EVERY
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("model", [Plain, Item, Special])
@pytest.mark.parametrize("options", OPTIONS)
def test_rows_are_those_of_plain_sqlalchemy(
    twin_urls: tuple[str, str], driver: str, name: str, model: type[Any], options: str
) -> None:
    """What is stored, returned and refused is plain SQLAlchemy's, and the caller keeps its rows."""

    def act(session: Session) -> Any:
        rows = [dict(ROWS[name](i)) if i % 2 else ROWS[name](i) for i in range(2 * MANY)]
        before = list(map(dict, rows))
        given, returning = OPTIONS[options], insert(model).returning(model.x, model.count, model)
        session.execute(insert(model), rows[:MANY], execution_options=given)
        returned = session.execute(returning, rows[MANY:], execution_options=given)
        found = [(x, count, type(one).__name__, one.word) for x, count, one in returned]
        session.commit()
        assert rows == before
        return found

    def trial(side: Side) -> Any:
        return told_and_left(side, act, ["plain", "item"])

    both(twin_urls, Base, trial, way=Way("default settings"), driver=driver)


@EVERY
def test_a_version_is_counted(twin_urls: tuple[str, str], driver: str) -> None:
    """Rows of a class that counts versions get their first version."""

    def act(session: Session) -> Any:
        rows = [{"word": str(i)} for i in range(MANY)]
        session.execute(insert(Versioned), rows)
        found = session.scalars(insert(Versioned).returning(Versioned.version), rows).all()
        session.commit()
        return found

    def trial(side: Side) -> Any:
        return told_and_left(side, act, ["versioned"])

    both(twin_urls, Base, trial, way=Way("default settings"), driver=driver)
