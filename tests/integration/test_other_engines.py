"""Servers that are not PostgreSQL: sessions work as without register(), and the reports name the
server.

None of these servers runs here. PostgreSQL answers in their place: either ``search_path`` leads to
another ``version()``, or the dialect has another name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, func, make_url, select, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import FlushReport, bulk_insert, register, reserve_ids
from sqla_seqreserve.errors import UnsupportedDatabaseError
from sqla_seqreserve.testing import record_statements

YUGABYTE = "PostgreSQL 11.2-YB-2.20.1.0-b0 on x86_64-pc-linux-gnu"
SETTINGS: list[dict[str, Any]] = [
    {},
    {"copy_min_rows": 1},
    {"reserve": "always", "prefetch": 50},
    {"mode": "reserve"},
    {"on_drift": "repair"},
]


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(server_default="w")


class CockroachDialect(PGDialect_psycopg):
    """A dialect with the name of CockroachDB's own."""

    name = "cockroachdb"
    supports_statement_cache = True


registry.register("cockroachdb.psycopg", __name__, "CockroachDialect")


@pytest.fixture(params=["YugabyteDB", "cockroachdb"])
def other(request: pytest.FixtureRequest, engine: Engine, database_url: str) -> Iterator[Engine]:
    """An engine whose server seems to be a YugabyteDB or a CockroachDB."""
    Base.metadata.create_all(engine)
    url: URL = make_url(database_url)
    if request.param == "cockroachdb":
        url = url.set(drivername="cockroachdb+psycopg")
    else:
        with engine.begin() as connection:
            connection.execute(text("CREATE SCHEMA other"))
            connection.execute(
                text(
                    "CREATE FUNCTION other.version() RETURNS text LANGUAGE sql "
                    f"AS $$SELECT '{YUGABYTE}'$$"
                )
            )
        url = url.update_query_dict({"options": "-csearch_path=other,pg_catalog,public"})
    other = create_engine(url)
    yield other
    other.dispose()


def save(session: Session) -> None:
    for count in (1, 3, 300):
        session.add_all(Note() for _ in range(count))
        session.commit()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_session_writes_as_plain_does(
    other: Engine, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """After a first flush of many objects the statements are those of an unregistered session, and
    the reports and one log record name the server; few objects are left to SQLAlchemy on any
    server.
    """
    with Session(other) as session, record_statements(other) as plain:
        save(session)
    reports: list[FlushReport] = []
    with caplog.at_level(logging.WARNING), Session(other) as session:
        register(session, **settings).on_flush(reports.append)
        session.add_all(Note() for _ in range(300))
        session.commit()
        with record_statements(other) as ours:
            save(session)
    assert [statement.sql for statement in ours] == [statement.sql for statement in plain]
    entries = [report.entries[0] for report in reports]
    assert {entry.writer for entry in entries if entry.rows > 3} == {"orm"}
    for entry in entries:
        if entry.writer == "orm":
            assert other_name(other) in (entry.reason or "")
        else:
            assert (entry.writer, entry.reserved) == ("insert", 0)
    if other.dialect.name == "postgresql":
        [told] = [record for record in caplog.records if "YugabyteDB" in record.getMessage()]
        assert "nothing is gained by register()" in told.getMessage()
    with Session(other) as session:
        assert session.scalar(select(func.count()).select_from(Note)) == 908


def other_name(engine: Engine) -> str:
    return "YugabyteDB" if engine.dialect.name == "postgresql" else "cockroachdb"


def test_what_needs_ids_refuses_with_the_reason(other: Engine) -> None:
    """explain() names the server; reserve_ids() and bulk_insert() raise an error with its name, and
    the session can still be used.
    """
    with Session(other) as session:
        registration = register(session)
        session.add_all(Note() for _ in range(300))
        session.commit()
        [found] = registration.explain(other, [Note])
        assert (found.path, found.sequence) == ("orm", None)
        assert other_name(other) in (found.reason or "")
        assert found.remedy is not None
        with pytest.raises(UnsupportedDatabaseError, match=other_name(other)):
            reserve_ids(session, Note, 3)
        with pytest.raises(UnsupportedDatabaseError, match=other_name(other)):
            bulk_insert(session, Note, [{"word": "a"}])
        session.add(Note())
        session.commit()
