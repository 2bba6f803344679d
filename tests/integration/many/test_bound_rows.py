"""Many rows are bound to a statement as SQLAlchemy binds them, for every driver: the same
parameters, names and order, and the same errors.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from fixtures.places import EVERY, compared
from fixtures.sides import Side, Way, both, refusal, told_and_left
from sqlalchemy import (
    Column,
    Insert,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    TypeDecorator,
    bindparam,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

COUNT = 12
"""More rows than SQLAlchemy binds for us."""


class Shouted(TypeDecorator[str]):
    """A type whose bind processor counts its calls, and refuses a word."""

    impl = String
    cache_ok = True
    asked = itertools.count()

    def process_bind_param(self, value: str | None, dialect: object) -> str | None:
        if value == "bad":
            raise ValueError(value)
        return value and f"{value.upper()} {next(self.asked)}"


class Base(DeclarativeBase):
    pass


class Note(Base):
    """Values of which some are processed, and a Python default."""

    __tablename__ = "place"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(Shouted)
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    day: Mapped[dt.date | None]
    other: Mapped[str | None] = mapped_column("od%d (name)")


class Stamped(Base):
    """Python defaults, which SQLAlchemy calls for each row."""

    __tablename__ = "stamped"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int | None] = mapped_column(
        default=lambda: next(COUNTER), onupdate=lambda: next(COUNTER)
    )
    value: Mapped[int | None]


COUNTER = itertools.count()

NOTE: Any = Note.__table__
STAMPED: Any = Stamped.__table__


def rows(**other: Callable[[int], Any]) -> list[dict[str, Any]]:
    made: dict[str, Callable[[int], Any]] = {
        "id": lambda i: i,
        "name": lambda i: None if i % 5 == 0 else f"n{i}",
        "price": lambda i: Decimal(i) / 4,
        "day": lambda i: dt.date(2026, 1, i),
        **other,
    }
    return [{key: make(i) for key, make in made.items()} for i in range(1, COUNT + 1)]


class Number(int):
    """A number of the application's."""


class Answers(dict[str, Any]):
    """A row that has an answer to everything."""

    def __missing__(self, key: str) -> Any:
        return len(key)


def written(session: Session) -> None:
    session.execute(insert(NOTE), rows())


def executed(statement: Any, given: list[dict[str, Any]]) -> Callable[[Session], Any]:
    def work(session: Session) -> Any:
        written(session)
        result = session.execute(statement, given)
        came_back = isinstance(statement, Insert) and statement._returning
        return [tuple(row) for row in result] if came_back else None

    return work


BY_ID = (
    update(NOTE)
    .where(NOTE.c.id == bindparam("found"))
    .values(name=bindparam("given"), price=NOTE.c.price + bindparam("more", type_=Numeric))
)

CASES: dict[str, Callable[[Session], Any]] = {
    "insert": executed(insert(NOTE), rows(id=lambda i: i + 100)),
    "insert of a class": executed(insert(Note), rows(id=lambda i: i + 100)),
    "update": executed(
        BY_ID, [{"found": i, "given": f"g{i}", "more": i} for i in range(1, COUNT + 1)]
    ),
    "update of a class": executed(update(Note), rows(price=lambda i: Decimal(-i))),
    "delete": executed(
        delete(NOTE).where(NOTE.c.id == bindparam("found"), NOTE.c.price > bindparam("least")),
        [{"found": i, "least": i / 8} for i in range(1, COUNT + 1)],
    ),
    "one parameter": executed(
        delete(NOTE).where(NOTE.c.id == bindparam("found")),
        [{"found": i} for i in range(1, COUNT + 1)],
    ),
    "more than asked": executed(
        BY_ID,
        [{"found": i, "given": None, "more": 0, "nobody": i} for i in range(1, COUNT + 1)],
    ),
    "a value of the statement": executed(
        update(NOTE).where(NOTE.c.id == bindparam("found")).values(price=5, day=func.now()),
        [{"found": i} for i in range(1, COUNT + 1)],
    ),
    "a value for those that have none": executed(
        update(NOTE)
        .where(NOTE.c.id == bindparam("found"))
        .values(price=bindparam("given", 7, type_=Numeric)),
        [{"found": i} | ({} if i == 11 else {"given": i}) for i in range(1, COUNT + 1)],
    ),
    "a name that is written otherwise": executed(
        insert(NOTE),
        [{"id": i + 100, "od%d (name)": str(i)} for i in range(1, COUNT + 1)],
    ),
    "rows that answer": executed(
        BY_ID, [Answers({"found": i, "given": "x"}) for i in range(1, COUNT + 1)]
    ),
    "rows that make up": executed(
        BY_ID,
        [defaultdict(lambda: 3, {"found": i, "given": "x"}) for i in range(1, COUNT + 1)],
    ),
    "a row without": executed(
        insert(NOTE),
        [{"id": i + 100} | ({} if i == 9 else {"price": i}) for i in range(1, COUNT + 1)],
    ),
    "an odd row without": executed(
        BY_ID,
        [{"found": i, "given": "x"} | ({} if i == 9 else {"more": 1}) for i in range(1, COUNT + 1)],
    ),
    "a value that is refused": executed(
        insert(NOTE), rows(id=lambda i: i + 100, name=lambda i: "bad" if i == 10 else "good")
    ),
    "defaults": executed(insert(STAMPED), [{"id": i, "value": i * i} for i in range(1, COUNT + 1)]),
    "values of an update": executed(
        update(STAMPED).where(STAMPED.c.id == bindparam("found")).values(value=bindparam("given")),
        [{"found": i, "given": 0} for i in range(1, COUNT + 1)],
    ),
    "SQL as text": executed(
        text("UPDATE place SET price = :price + :price, name = :name WHERE id = :id"),
        [{"id": i, "name": f"t{i}", "price": i} for i in range(1, COUNT + 1)],
    ),
    "a parameter that stands in two places": executed(
        update(NOTE)
        .where(NOTE.c.id == bindparam("found"), NOTE.c.id <= bindparam("found"))
        .values(price=bindparam("given", type_=Numeric) - NOTE.c.price, name=bindparam("given")),
        [{"found": i, "given": str(i)} for i in range(1, COUNT + 1)],
    ),
    "a name that is too long": executed(
        delete(NOTE).where(NOTE.c.id == bindparam("found" * 30)),
        [{"found" * 30: i} for i in range(1, COUNT + 1)],
    ),
    "a parameter that is called for": executed(
        update(NOTE)
        .where(NOTE.c.id == bindparam("found"))
        .values(price=bindparam("made", callable_=lambda: next(COUNTER), type_=Integer)),
        [{"found": i} | ({"made": 50} if i % 3 else {}) for i in range(1, COUNT + 1)],
    ),
    "a literal": executed(
        delete(NOTE).where(NOTE.c.id == bindparam("found", literal_execute=True)),
        [{"found": i} for i in range(1, COUNT + 1)],
    ),
    "lists": executed(
        delete(NOTE).where(NOTE.c.id.in_(bindparam("found", expanding=True))),
        [{"found": [i, i + 1]} for i in range(1, COUNT + 1)],
    ),
    "values given beforehand": executed(
        text("UPDATE place SET name = :given WHERE id = :found").params(given="before"),
        [{"found": i} | ({} if i % 3 else {"given": "x"}) for i in range(1, COUNT + 1)],
    ),
    "no values": executed(insert(STAMPED), [{} for _ in range(COUNT)]),
    "a value that is no number": executed(
        insert(NOTE), rows(id=lambda i: i + 100, price=lambda i: "many" if i == 11 else i)
    ),
    "values of subclasses": executed(
        insert(NOTE), rows(id=lambda i: Number(i + 100), price=lambda i: Number(i))
    ),
    "what comes back": executed(
        insert(Note).returning(Note.id, Note.name), rows(id=lambda i: i + 100)
    ),
}


@EVERY
@pytest.mark.parametrize("case", CASES)
def test_parameters_are_bound_as_by_sqlalchemy(
    twin_urls: tuple[str, str], driver: str, case: str
) -> None:
    """Listeners and the driver get the parameters of each row that SQLAlchemy gives them; a value
    is processed, and a default called, once and in the same order.
    """

    def act(session: Session) -> Any:
        Shouted.asked, heard = itertools.count(), []
        global COUNTER
        COUNTER = itertools.count()

        def hear(
            connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
        ) -> None:
            del connection, cursor, statement
            heard.append((many, parameters, context.compiled and context.compiled_parameters))

        connection = session.connection()
        event.listen(connection, "before_cursor_execute", hear)
        try:
            told = CASES[case](session)
        except SQLAlchemyError as error:
            told = refusal(error), str(error).splitlines()[0]
            session.rollback()
        session.commit()
        return repr(told), list(map(repr, heard))

    def trial(side: Side) -> Any:
        return told_and_left(side, act, ("place", "stamped"))

    # By the ways that cost least: where few rows are asked to go together, their INSERT is told as
    # one statement, and not in pages.
    both(twin_urls, Base, trial, way=Way("by cost"), driver=driver)


@EVERY
def test_schemas_are_translated(twin_urls: tuple[str, str], driver: str) -> None:
    """A statement of many rows goes to the schema into which the connection translates
    the table's.
    """
    elsewhere = Table(
        "place", MetaData(schema="nowhere"), Column("id", Integer, primary_key=True),
        Column("price", Numeric),
    )  # fmt: skip

    def act(session: Session) -> Any:
        session.connection(execution_options={"schema_translate_map": {"nowhere": "public"}})
        session.execute(insert(elsewhere), [{"id": i, "price": i} for i in range(1, COUNT + 1)])
        found = session.execute(select(elsewhere).order_by(elsewhere.c.id)).all()
        session.commit()
        return [tuple(row) for row in found]

    compared(twin_urls, driver, act, base=Base)
