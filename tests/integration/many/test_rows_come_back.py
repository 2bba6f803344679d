"""INSERTs of many rows that SQLAlchemy sends in pages of ``VALUES``: those that return values, and
all of them on psycopg2.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from fixtures.parts import (
    DDL,
    EVERY,
    MANY,
    MARKING,
    WAYS,
    Act,
    Apart,
    Down,
    Marked,
    Part,
    Quoted,
    Small,
    Token,
    Tree,
    compared,
)
from fixtures.sides import Way, refusal
from sqlalchemy import bindparam, func, insert, literal, select, text
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from sqla_seqreserve._sqlalchemy.persistence import IN_ORDER

pytestmark = pytest.mark.skipif(
    not IN_ORDER, reason="the pages of SQLAlchemy before 2.0.10 are in no certain order"
)


def rows(count: int = MANY) -> list[dict[str, Any]]:
    return [
        {"number": -i, "name": f"n'{{}}\"\\{i}" if i % 3 else None, "price": Decimal(i) / 8}
        for i in range(count)
    ]


def many(start: int = 0) -> list[dict[str, Any]]:
    """Rows for COPY."""
    return [{"number": i, "name": f"n{start + i}", "price": Decimal(i) / 8} for i in range(250)]


def act_keys(session: Session) -> Any:
    found = session.execute(insert(Part).returning(Part.id, **IN_ORDER), rows())
    return list(found.keys()), [tuple(row) for row in found]


def act_columns(session: Session) -> Any:
    statement = insert(Part).returning(Part.number, Part.made, Part.twice.label("two"), Part.id)
    found = session.execute(statement, rows(), execution_options={"render_nulls": True})
    return [dict(row) for row in found.mappings()]


def act_objects(session: Session) -> Any:
    found = session.scalars(insert(Part).returning(Part, **IN_ORDER), rows())
    parts = found.all()
    assert all(part in session for part in parts)
    return [(p.id, p.number, p.name, p.made, p.twice, p.filled) for p in parts]


def act_core(session: Session) -> Any:
    table = Part.__table__
    found = session.execute(insert(table).returning(table.c.id, table.c.made), rows())
    return [tuple(row) for row in found]


def act_expressions(session: Session) -> Any:
    table = Part.__table__
    statement = insert(table).values(number=bindparam("n") + 1).returning(table.c.number + 5)
    found = [tuple(row) for row in session.execute(statement, [{"n": i} for i in range(MANY)])]
    counted = select(func.count()).select_from(Part).scalar_subquery()
    statement = insert(Part).returning(Part.id, counted, literal("x%(y)s"), func.upper(Part.made))
    return found, [tuple(row) for row in session.execute(statement, rows())]


def act_conflict(session: Session) -> Any:
    session.execute(insert(Part), rows()[:9])
    statement = pg_insert(Part).on_conflict_do_nothing().returning(Part.number)
    return [tuple(row) for row in session.execute(statement, rows())]


def act_tree(session: Session) -> Any:
    given = [{"id": i, "parent_id": i - 1 if i else None} for i in range(MANY)]
    options = {"render_nulls": True}
    return list(session.scalars(insert(Tree).returning(Tree.id), given, execution_options=options))


def act_made_keys(session: Session) -> Any:
    statement = insert(Token).returning(Token.number, Token.id, **IN_ORDER)
    found = session.execute(statement, [{"number": i} for i in range(MANY)])
    return [row.number for row in found]


def act_marked(session: Session) -> Any:
    statement = insert(Marked).returning(Marked.mark)
    return list(session.scalars(statement, [{"number": i} for i in range(MANY)]))


def act_without(session: Session) -> Any:
    session.execute(insert(Part), rows(250), execution_options={"render_nulls": True})
    session.execute(insert(Part.__table__), [{"number": i} for i in range(250)])
    session.bulk_insert_mappings(Part, [{"number": i} for i in range(250)])
    session.bulk_insert_mappings(Part, [{"number": i} for i in range(250)], return_defaults=True)
    session.bulk_save_objects([Part(number=i) for i in range(250)])
    return len(session.scalars(select(Part)).all())


def act_keys_of_many(session: Session) -> Any:
    plain = session.scalars(insert(Part).returning(Part.id), many())
    found = session.execute(insert(Part).returning(Part.id, **IN_ORDER), many(1000))
    named = session.execute(insert(Part).returning(Part.id.label("a b"), Part.id), many(2000))
    table = Part.__table__
    core = session.execute(insert(table).returning(table.c.id), [{"number": i} for i in range(250)])
    return (
        sorted(plain),
        (found.all(), list(found.keys())),
        (sorted(named.mappings().all(), key=str), list(named.keys())),
        (sorted(core), core.rowcount),
    )


def act_other_keys(session: Session) -> Any:
    rows = [{"number": i} for i in range(250)]
    statement = insert(Quoted).returning(Quoted.id, **IN_ORDER)
    down = session.scalars(insert(Down).returning(Down.id), rows)
    kept = session.scalars(insert(Apart).returning(Apart.id), [{"part": i % 2} for i in range(250)])
    return session.scalars(statement, rows).all(), sorted(down), sorted(kept)


def act_given_keys(session: Session) -> Any:
    rows = [{"id": 5000 - i, "number": i} for i in range(250)]
    found = session.scalars(insert(Part).returning(Part.id, **IN_ORDER), rows).all()
    unsorted = session.scalars(
        insert(Part).returning(Part.id), [{**row, "id": row["id"] + 1000} for row in rows]
    )
    return found, sorted(unsorted)


def act_mapped_keys(session: Session) -> Any:
    parts = [Part(number=i) for i in range(250)]
    session.bulk_save_objects(parts, return_defaults=True)
    given: list[dict[str, Any]] = [{"number": i} for i in range(250)]
    session.bulk_insert_mappings(Part, given, return_defaults=True)
    return [part.id for part in parts], given


ACTS: Mapping[str, Act] = {
    name.removeprefix("act_"): act for name, act in globals().items() if name.startswith("act_")
}


@EVERY
@WAYS
@pytest.mark.parametrize("name", ACTS)
def test_what_comes_back(twin_urls: tuple[str, str], driver: str, way: Way, name: str) -> None:
    """The returned and the stored rows are plain SQLAlchemy's, in its order."""

    def act(session: Session) -> Any:
        found = ACTS[name](session)
        session.commit()
        return found

    compared(twin_urls, driver, way, act, *DDL, *MARKING)


@EVERY
def test_a_refused_row(twin_urls: tuple[str, str], driver: str) -> None:
    """If the server refuses a row, the error is plain SQLAlchemy's, and no row is stored."""

    def act(session: Session) -> Any:
        statement = insert(Part).returning(Part.id)
        try:
            session.execute(statement, [{"name": f"n{i % 50}"} for i in range(MANY)])
        except DBAPIError as error:
            session.rollback()
            return refusal(error), error.statement is not None, session.scalars(select(Part)).all()

    compared(twin_urls, driver, Way("default settings"), act)


@pytest.mark.parametrize("problem", ["the key", "a check", "a value"])
@EVERY
def test_a_refused_row_of_copy(twin_urls: tuple[str, str], driver: str, problem: str) -> None:
    """Where COPY writes the rows whose keys come back, a refusal is plain SQLAlchemy's too, and the
    session goes on after its rollback.
    """

    def act(session: Session) -> Any:
        rows: list[dict[str, Any]] = [{"number": i} for i in range(249)]
        if problem == "the key":
            session.execute(text("SELECT setval('small_id_seq', 32600)"))
            session.commit()
        if problem == "a check":
            rows += rows
            rows[300]["number"] = 249
        if problem == "a value":
            rows[100]["number"] = 2**40
        try:
            session.scalars(insert(Small).returning(Small.id), rows).all()
        except DBAPIError as error:
            session.rollback()
            left = session.scalars(select(Small.number)).all()
            session.scalars(insert(Small).returning(Small.number), [{"number": 7}]).all()
            return refusal(error), left
        return None

    found = compared(twin_urls, driver, Way("default settings"), act, *DDL)
    assert found is not None


@EVERY
def test_a_type_that_was_altered_meanwhile(twin_urls: tuple[str, str], driver: str) -> None:
    """The remembered facts of the table are compared; if they have changed, SQLAlchemy sends its
    pages.
    """

    def act(session: Session) -> Any:
        statement = insert(Part).returning(Part.number, Part.id)
        session.execute(statement, rows())
        session.commit()
        session.execute(text("ALTER TABLE part ALTER made TYPE char(9)"))
        session.execute(text("ALTER TABLE part ADD CHECK (number <> 9)"))
        session.commit()
        given = [{"number": i} for i in range(100, 100 + MANY)]
        found = [tuple(row) for row in session.execute(statement, given)]
        session.commit()
        return found

    compared(twin_urls, driver, Way("default settings"), act)
