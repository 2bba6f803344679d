"""bulk_insert with the roles and in the transactions in which plain SQLAlchemy can insert."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.bulk_keys import Base, ByAlways, ByIdentity, Natural
from fixtures.run_names import of_this_run
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from sqla_seqreserve import bulk_insert
from sqla_seqreserve.testing import record_statements


@pytest.fixture
def tables(engine: Engine) -> Engine:
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def role(tables: Engine) -> Iterator[str]:
    name = of_this_run("bulk_writer")
    with tables.begin() as connection:
        connection.execute(text(f"CREATE ROLE {name}"))
    yield name
    with tables.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {name}"))
        connection.execute(text(f"DROP ROLE {name}"))


@pytest.mark.parametrize(
    "grant",
    [
        "INSERT, SELECT ON by_identity",
        "INSERT (tag, stars), SELECT ON by_identity",
    ],
)
def test_whoever_may_insert_in_plain_may_here(tables: Engine, role: str, grant: str) -> None:
    """A role without a privilege on the sequence, or on the whole table, inserts by INSERT, which
    returns the keys.
    """
    with Session(tables) as session:
        session.execute(text(f"GRANT {grant} TO {role}"))
        session.execute(text(f"SET LOCAL ROLE {role}"))
        ids = bulk_insert(session, ByIdentity, [{"tag": "a"}, {"tag": "b"}])
        found = {row.id: row.tag for row in session.scalars(select(ByIdentity))}
        assert [found[key] for key in ids] == ["a", "b"]


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("begun", [False, True], ids=["first", "begun"])
def test_every_isolation_level(tables: Engine, level: str, begun: bool) -> None:
    """COPY is used only where the facts of the table can be compared; the ids are right in any
    case.
    """
    engine = tables.execution_options(isolation_level=level)
    with Session(engine) as session:
        bulk_insert(session, ByAlways, [{"tag": "warm"}])
        session.rollback()
        if begun:
            session.scalar(select(func.count()).select_from(ByAlways))
        with record_statements(tables) as sent:
            ids = bulk_insert(session, ByAlways, [{"tag": "a"}, {"tag": "b"}])
        copied = any(str(statement).startswith("COPY") for statement in sent)
        assert copied == (level == "READ COMMITTED" or not begun)
        found = {row.number: row.tag for row in session.scalars(select(ByAlways))}
        assert [found[key] for key in ids] == ["a", "b"]


def test_autocommit(tables: Engine) -> None:
    """Without a transaction no lock can be held, so rows go by INSERT."""
    with Session(tables.execution_options(isolation_level="AUTOCOMMIT")) as session:
        with record_statements(tables) as sent:
            ids = bulk_insert(session, ByIdentity, [{"tag": "a"}, {"tag": "b"}], chunk_rows=1)
        assert not any(str(statement).startswith("COPY") for statement in sent)
        found = {row.id: row.tag for row in session.scalars(select(ByIdentity))}
        assert [found[key] for key in ids] == ["a", "b"]


@pytest.mark.parametrize("stars", [2.0, "4"])
def test_always_identity_and_a_value_that_copy_refuses(tables: Engine, stars: Any) -> None:
    """Rows that go by INSERT into a GENERATED ALWAYS identity are numbered by it, and their keys
    are returned.
    """
    with Session(tables) as session:
        rows: list[dict[str, Any]] = [{"tag": f"t{n}"} for n in range(10)]
        rows[4]["stars"] = stars
        ids = bulk_insert(session, ByAlways, rows)
        found = {row.number: row.tag for row in session.scalars(select(ByAlways))}
        assert [found[key] for key in ids] == [f"t{n}" for n in range(10)]


def test_keys_that_rows_give_are_compared_with_the_table_too(tables: Engine) -> None:
    """A column that was altered since the last call is written with its new type, even if no id is
    reserved.
    """
    with Session(tables) as session, session.begin():
        bulk_insert(session, Natural, [{"code": "a", "tag": "a", "stars": 7}])
    with tables.begin() as connection:
        connection.execute(text("ALTER TABLE natural_key ALTER stars TYPE double precision"))
    with Session(tables) as session, session.begin():
        bulk_insert(session, Natural, [{"code": "b", "tag": "b", "stars": 7}])
        assert session.scalars(select(Natural.stars)).all() == [7, 7]
