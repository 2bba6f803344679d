"""``insert(M)`` with rows of which some have no value for a column: one statement if NULL means the
same, otherwise as many as plain SQLAlchemy's.
"""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.executed import executed
from fixtures.sheets import (
    COUNTING,
    FILLED,
    LOOKING,
    Base,
    Following,
    Other,
    Sheet,
)
from sqlalchemy import Engine, create_engine, event, insert, select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session, sessionmaker

from sqla_seqreserve import register


def statements_of(url: str, given: list[dict[str, Any]], statement: Any = None) -> int:
    """The INSERTs of one execution by a registered session."""
    inserting = insert(Sheet) if statement is None else statement
    return len(executed(url, "INSERT", lambda session: session.execute(inserting, given)))


ALTERNATING = [{"number": i, "word": "w" if i % 2 else None} for i in range(60)]
DEFAULTED = [{"number": i, "filled": "f" if i % 2 else None} for i in range(60)]


@pytest.mark.parametrize(
    ("given", "ddl", "expected"),
    [
        (ALTERNATING, (), 1),
        ([{k: v for k, v in row.items() if v is not None} for row in ALTERNATING], (), 1),
        (DEFAULTED, (), 1),
        (DEFAULTED, FILLED, 60),
        ([{"number": i, "declared": "f" if i % 2 else None} for i in range(60)], (), 60),
        ([{"number": i, "shouted": "f" if i % 2 else None} for i in range(60)], (), 60),
        (ALTERNATING, COUNTING, 60),
        (ALTERNATING, LOOKING, 60),
        (ALTERNATING[:8], (), 8),
        ([{"number": i, "word": "w" if i < 30 else None} for i in range(60)], (), 2),
    ],
)
def test_one_statement_where_null_says_the_same(
    engine: Engine,
    database_url: str,
    given: list[dict[str, Any]],
    ddl: tuple[str, ...],
    expected: int,
) -> None:
    """Rows with NULL in some columns are one INSERT, unless a default fills the column, or a
    trigger counts statements.
    """
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for each in ddl:
            connection.exec_driver_sql(each)
    assert statements_of(database_url, given) == expected


@pytest.mark.parametrize(
    "statement",
    [
        insert(Sheet).values(word="given"),
        pg_insert(Sheet).on_conflict_do_nothing(),
    ],
    ids=["values", "conflict"],
)
def test_a_statement_that_says_more_is_left_alone(
    engine: Engine, database_url: str, statement: Any
) -> None:
    Base.metadata.create_all(engine)
    assert statements_of(database_url, ALTERNATING, statement) == len(ALTERNATING)


def test_a_default_that_looks_at_the_rows_before_sees_them(
    engine: Engine, database_url: str
) -> None:
    Base.metadata.create_all(engine)
    given = [{"word": "w" if i % 2 else None} for i in range(60)]
    assert statements_of(database_url, given, insert(Following)) == len(given)


def test_a_default_that_comes_in_between_is_seen(engine: Engine, database_url: str) -> None:
    """The remembered facts of the table are compared under the lock that INSERT takes, so a new
    default is noticed.
    """
    Base.metadata.create_all(engine)
    ours = create_engine(database_url)
    sessions = sessionmaker(ours)
    register(sessions)

    def words() -> set[Any]:
        with sessions() as session:
            session.execute(insert(Sheet), DEFAULTED)
            found = {row.filled for row in session.query(Sheet.filled)}
            session.rollback()
        return found

    assert words() == {"f", None}
    with engine.begin() as connection:
        connection.exec_driver_sql(FILLED[1])
    assert words() == {"f", "filled"}
    ours.dispose()


def test_sessions_that_are_not_registered_are_left_alone(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    register(sessionmaker(engine))
    seen = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(*told: Any) -> None:
        seen.append(told[2])

    with Session(engine) as session:
        session.execute(insert(Sheet), ALTERNATING)
        session.rollback()
    assert len(seen) == len(ALTERNATING)


@pytest.mark.parametrize("by_clause", [False, True], ids=["argument", "clause"])
def test_the_table_that_is_looked_at_is_the_one_that_is_written(
    twin_urls: tuple[str, str], by_clause: bool
) -> None:
    """The facts are those of the table that is written: SQLAlchemy inserts rows on the connection
    of the class, whatever the statement says.
    """
    written, other = (create_engine(url) for url in twin_urls)

    class Routed(Session):
        def get_bind(self, mapper: Any = None, **told: Any) -> Any:
            if by_clause and told.get("clause") is not None:
                return other
            return super().get_bind(mapper, **told)

    for each in (written, other):
        Other.metadata.drop_all(each)
        Other.metadata.create_all(each)
    with written.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE other ALTER word SET DEFAULT 'written'")
    sessions = sessionmaker(written, class_=Routed)
    register(sessions)
    given = [{"id": i, "word": "w" if i % 2 else None} for i in range(40)]
    with sessions() as session:
        session.execute(insert(Other), given, bind_arguments={} if by_clause else {"bind": other})
        session.commit()
    with written.connect() as connection:
        words = connection.execute(select(Other.word).distinct()).scalars()
        assert set(words) == {"w", "written"}
    for each in (written, other):
        Other.metadata.drop_all(each)
        each.dispose()
