"""``insert(M)`` with rows of which some have no value for a column, compared with plain SQLAlchemy:
the stored and the returned rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from fixtures.seeds import seed
from fixtures.sheets import (
    COUNTING,
    FILLED,
    TRIGGER,
    Base,
    Choosing,
    Kind,
    Looking,
    Node,
    Other,
    Sheet,
    Span,
    Spanning,
    Varying,
)
from fixtures.sides import ASYNC_DRIVERS, SYNC_DRIVERS, Way, both, told_and_left
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from sqla_seqreserve._sqlalchemy.persistence import IN_ORDER

DRIVERS = (*SYNC_DRIVERS, *ASYNC_DRIVERS)
WAYS = (Way("default settings"), Way("from one row", {"copy_min_rows": 1}))
TABLES = ("sheet", "kind")


def rows(drawn: int, count: int = 150) -> list[dict[str, Any]]:
    """Rows that each give some columns, omit others, and have NULL for others."""
    values = random.Random(drawn)
    keys = ("word", "renamed", "declared", "made", "filled", "document", "sparse", "shouted")

    def row(number: int) -> dict[str, Any]:
        found: dict[str, Any] = {"number": number}
        for key in keys:
            draw = values.random()
            if draw < 0.4:
                found[key] = f"{key} {number}"
            elif draw < 0.7:
                found[key] = None
        return found

    return [row(number) for number in range(count)]


def compared(
    urls: tuple[str, str],
    driver: str,
    act: Callable[[Session], Any],
    *ddl: str,
    way: Way = WAYS[0],
    tables: tuple[str, ...] = TABLES,
) -> None:
    both(
        urls,
        Base,
        lambda side: told_and_left(side, act, tables),
        way=way,
        driver=driver,
        ddl=ddl,
    )


@pytest.mark.parametrize("ddl", [(), FILLED, TRIGGER, COUNTING], ids=["", "filled", "row", "each"])
@pytest.mark.parametrize("returns", [False, True], ids=["", "returning"])
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("driver", DRIVERS)
def test_every_row_is_what_plain_sqlalchemy_writes(
    twin_urls: tuple[str, str],
    driver: str,
    way: Way,
    returns: bool,
    ddl: tuple[str, ...],
) -> None:
    """Defaults of model and database fill the values that a row omits, JSON's null and a type's own
    None are unchanged, and rows keep their order.
    """

    drawn = seed()

    def act(session: Session) -> Any:
        given = rows(drawn)
        found: Any = None
        if returns:
            statement = insert(Sheet).returning(Sheet.id, Sheet.number, **IN_ORDER)
            found = [tuple(row) for row in session.execute(statement, given)]
        else:
            session.execute(insert(Sheet), given)
        session.execute(insert(Kind), [{"word": str(i) if i % 2 else None} for i in range(40)])
        session.commit()
        assert given == rows(drawn)
        return found

    compared(twin_urls, driver, act, *ddl, way=way)


def act_of_each_kind(session: Session) -> None:
    words = ["w" if i % 2 else None for i in range(40)]
    spans = (Span(1, None), Span(None, 2), Span(3, 4))
    given = [{"word": word, "span": spans[i % 3]} for i, word in enumerate(words)]
    session.execute(insert(Spanning), given)
    session.execute(insert(Varying), [{"word": "w", "document": word} for word in words])
    session.execute(insert(Varying), [{"word": "w", "shouted": word} for word in words])
    session.execute(insert(Looking), [{"word": word} for word in words])
    session.commit()


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_a_row_does_not_give_is_not_given_by_a_detour(
    twin_urls: tuple[str, str], driver: str
) -> None:
    """A value that a row omits stays omitted with composite attributes, with type variants of the
    database, and with defaults that look at the row.
    """
    compared(twin_urls, driver, act_of_each_kind, tables=("spanning", "varying", "looking"))


@pytest.mark.parametrize("returns", [False, True], ids=["", "returning"])
@pytest.mark.parametrize("driver", SYNC_DRIVERS)
def test_a_row_cannot_refer_to_one_after_it(
    twin_urls: tuple[str, str], driver: str, returns: bool
) -> None:
    def act(session: Session) -> Any:
        given = [
            {"id": i, "parent_id": min(i + 1, 39), "word": "w" if i % 2 else None}
            for i in range(40)
        ]
        statement = insert(Node).returning(Node.id) if returns else insert(Node)
        try:
            session.execute(statement, given)
        except IntegrityError as error:
            session.rollback()
            return type(error.orig)
        session.commit()
        return None

    def trial(side: Any) -> Any:
        found, _, rows = told_and_left(side, act, ("node",))
        return found, rows

    both(twin_urls, Base, trial, way=WAYS[0], driver=driver)


@pytest.mark.parametrize("returns", [False, True], ids=["", "returning"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_rows_before_a_value_that_its_type_refuses_are_there(
    twin_urls: tuple[str, str], driver: str, returns: bool
) -> None:
    def act(session: Session) -> Any:
        given = [
            {"word": "w" if i % 2 else None, "choice": "yes" if i != 30 else "perhaps"}
            for i in range(40)
        ]
        statement = insert(Choosing).returning(Choosing.id) if returns else insert(Choosing)
        with pytest.raises(StatementError) as raised:
            session.execute(statement, given)
        session.commit()
        return type(raised.value), raised.value.params

    compared(twin_urls, driver, act, tables=("choosing",))


@pytest.mark.parametrize("of_statement", [False, True], ids=["execution", "statement"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_map_of_the_statement_leads_to_another_table(
    twin_urls: tuple[str, str], driver: str, of_statement: bool
) -> None:
    ddl = (
        "CREATE SCHEMA tenant",
        "CREATE TABLE tenant.other (LIKE other INCLUDING ALL)",
        "ALTER TABLE tenant.other ALTER word SET DEFAULT 'of the tenant'",
    )
    options: Any = {"schema_translate_map": {None: "tenant"}}

    def act(session: Session) -> Any:
        given = [{"id": i, "word": "w" if i % 2 else None} for i in range(40)]
        if of_statement:
            session.execute(insert(Other).execution_options(**options), given)
        else:
            session.execute(insert(Other), given, execution_options=options)
        found = session.execute(text("SELECT id, word FROM tenant.other ORDER BY id"))
        return [tuple(row) for row in found]

    compared(twin_urls, driver, act, *ddl, tables=())


@pytest.mark.parametrize("rows", [[[("word", "w")], {"number": 1}] * 20, [(1, 2)] * 20])
def test_rows_may_be_whatever_makes_a_dict(twin_urls: tuple[str, str], rows: list[Any]) -> None:
    def act(session: Session) -> Any:
        try:
            session.execute(insert(Sheet), rows)
        except TypeError as error:
            return str(error)
        session.commit()
        return None

    compared(twin_urls, "psycopg", act)
