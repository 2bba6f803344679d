"""Keys from a default that the server computes for each row: which defaults are reserved, and which
are left to the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.run_names import of_this_run
from sqlalchemy import Connection, Engine, create_engine, select, text
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import FlushReport, ReservedIds, bulk_insert, register, reserve_ids
from sqla_seqreserve.errors import SequenceNotFoundError


class Base(DeclarativeBase):
    pass


class Coded(Base):
    __tablename__ = "coded"
    code: Mapped[str] = mapped_column(primary_key=True, server_default=text("''"))
    tag: Mapped[str | None]


@pytest.fixture
def coded(engine: Engine) -> Iterator[Connection]:
    """A database with the table, and a connection to it that commits each statement."""
    Base.metadata.create_all(engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("CREATE SEQUENCE s")
        connection.exec_driver_sql("CREATE SCHEMA app")
        connection.exec_driver_sql(
            "CREATE FUNCTION app.f() RETURNS text LANGUAGE sql AS $$ SELECT 'f' || nextval('s') $$"
        )
        yield connection


def set_default(connection: Connection, expression: str) -> None:
    connection.exec_driver_sql(
        f"ALTER TABLE coded ALTER code SET DEFAULT {expression.replace('%', '%%')}"
    )


def save(engine: Engine, count: int = 12, **settings: Any) -> FlushReport:
    """Save some rows, and check that each row has the key of its object."""
    reports: list[FlushReport] = []
    with Session(engine) as session:
        register(session, **{"copy_min_rows": 1, **settings}).on_flush(reports.append)
        items = [Coded(tag=str(number)) for number in range(count)]
        session.add_all(items)
        session.commit()
        assert {item.code: item.tag for item in items} == {
            code: tag for code, tag in session.execute(select(Coded.code, Coded.tag)) if tag
        }
        session.execute(text("DELETE FROM coded"))
        session.commit()
    return reports[0]


@pytest.mark.parametrize(
    "expression",
    [
        "gen_random_uuid()::text",
        "uuidv7()::text",
        "app.f()",
        "'C-' || nextval('s')",
        "to_char(nextval('s'), 'FM0000')",
        "'50%: ' || nextval('s') || ':x'",
        "lpad(nextval('s')::text, 6, '0')",
        "md5(random()::text || clock_timestamp()::text)",
        "CASE WHEN random() < 2 THEN app.f() ELSE 'never' END",
    ],
)
def test_a_volatile_default_is_evaluated(
    engine: Engine, coded: Connection, expression: str
) -> None:
    """The value of a default that calls a volatile function is reserved, and explain() shows the
    default.
    """
    if "uuidv7" in expression and coded.dialect.server_version_info < (18,):
        pytest.skip("PostgreSQL has uuidv7() from 18 on")
    set_default(coded, expression)
    [entry] = save(engine).entries
    assert (entry.writer, entry.reserved) == ("copy", 12)
    with Session(engine) as session:
        [told] = register(session).explain(engine, [Coded])
    shown = coded.scalar(
        text("SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'coded'::regclass")
    )
    assert (told.path, told.sequence, told.reason) == ("copy", shown, None)


@pytest.mark.parametrize(
    "expression",
    [
        "'x'",
        "current_user || '!'",
        "txid_current()::text || random()",
        "now()::text || app.f()",
        "current_setting('app.code', true) || random()",
        "currval('s')::text",
        "CURRENT_TIMESTAMP::text || app.f()",
        "pg_backend_pid()::text || app.f()",
        r"app.f() || E'\\a'",
    ],
)
def test_other_defaults_are_left_to_the_server(
    engine: Engine, coded: Connection, expression: str
) -> None:
    """No key is reserved for a default that is constant or that depends on the transaction or
    session; a request for ids is refused before anything is written.
    """
    set_default(coded, expression)
    with Session(engine) as session:
        with pytest.raises(SequenceNotFoundError, match="no default of column code that gives"):
            reserve_ids(session, Coded, 2)
        session.execute(text("SELECT nextval('s'), set_config('app.code', 'c', true)"))
        reports: list[FlushReport] = []
        register(session, copy_min_rows=1).on_flush(reports.append)
        session.add(item := Coded(tag="a"))
        session.flush()
        assert reports[0].entries[0].writer != "copy"
        assert session.scalar(select(Coded.code)) == item.code


def test_a_default_that_is_changed_beside_us_is_noticed(engine: Engine, coded: Connection) -> None:
    """If another session changes a default or its function, or search_path changes, reserved keys
    are those that INSERT would give.
    """
    set_default(coded, "app.f()")

    def taken(path: str = "public, app") -> str:
        with Session(engine) as session:
            session.execute(text(f"SET LOCAL search_path = {path}"))
            [code] = reserve_ids(session, Coded, 1)
            return str(code)[0]

    assert taken() == "f"
    set_default(coded, "'D' || nextval('s')")
    assert taken() == "D"
    set_default(coded, "app.f()")
    assert taken() == "f"
    coded.exec_driver_sql(
        "CREATE FUNCTION public.f() RETURNS text LANGUAGE sql AS $$ SELECT 'wrong' $$"
    )
    assert taken() == "f"
    assert taken("app, public") == "f"
    coded.exec_driver_sql(
        "CREATE OR REPLACE FUNCTION app.f() RETURNS text LANGUAGE sql"
        " AS $$ SELECT 'g' || nextval('s') $$"
    )
    assert taken() == "g"
    set_default(coded, "'x'")
    with pytest.raises(SequenceNotFoundError):
        taken()


def test_a_default_that_looks_at_the_table_is_left_to_the_server(
    engine: Engine, coded: Connection
) -> None:
    """A default whose value depends on the rows already in the table is evaluated by INSERT, row by
    row.
    """
    coded.exec_driver_sql(
        "CREATE FUNCTION app.next() RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
        " RETURN (SELECT coalesce(max(code::int), 0) + 1 FROM coded); END $$"
    )
    set_default(coded, "app.next()")
    [entry] = save(engine).entries
    assert (entry.writer, entry.reserved) == ("orm", 0)
    with Session(engine) as session:
        assert bulk_insert(session, Coded, [{"tag": "a"}] * 5) == ReservedIds("12345")
        with pytest.raises(SequenceNotFoundError, match=r"next\(\) gave one value twice"):
            reserve_ids(session, Coded, 5)


def test_a_default_that_gives_null_is_refused_as_by_insert(
    engine: Engine, coded: Connection
) -> None:
    """If a default gives NULL for a key, the database's error is raised."""
    set_default(coded, "nullif('n' || (random() * 0), 'n0')")
    with pytest.raises(IntegrityError, match="null value"):
        save(engine)


def test_a_value_that_does_not_fit_is_refused_as_by_insert(
    engine: Engine, coded: Connection
) -> None:
    """If a text is too long for its key column, the database's error is raised; surplus spaces are
    cut by the database, and then no key is reserved.
    """
    coded.exec_driver_sql("ALTER TABLE coded ALTER code TYPE varchar(4)")
    set_default(coded, "'long' || nextval('s')")
    with pytest.raises(DataError, match="too long"):
        save(engine)
    set_default(coded, "nextval('s') || '      '")
    [entry] = save(engine).entries
    assert entry.reserved == 0


def test_prefetch_keeps_none(engine: Engine, coded: Connection) -> None:
    """prefetch takes no values of evaluated defaults in advance, because they depend on the
    moment.
    """
    set_default(coded, "app.f()")
    save(engine, 1, prefetch=50)
    assert coded.scalar(text("SELECT last_value FROM s")) == 1


@pytest.mark.parametrize("kept", ["EXECUTE ON FUNCTION app.f()", "USAGE ON SCHEMA app"])
def test_who_may_insert_in_plain_may_with_us(engine: Engine, coded: Connection, kept: str) -> None:
    """A role without EXECUTE on the default's function is refused as in plain SQLAlchemy; a role
    with EXECUTE but without USAGE on the function's schema can save, as there.
    """
    set_default(coded, "app.f()")
    coded.exec_driver_sql("REVOKE EXECUTE ON FUNCTION app.f() FROM PUBLIC")
    role = of_this_run("evaluating")
    coded.exec_driver_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    coded.exec_driver_sql(f"GRANT ALL ON coded, s TO {role}")
    coded.exec_driver_sql(f"GRANT {kept} TO {role}")
    theirs = create_engine(engine.url.set(username=role, password="x"))
    outcomes = []
    try:
        for registered in (False, True):
            with Session(theirs) as session:
                if registered:
                    register(session, copy_min_rows=1)
                    [told] = register(session).explain(theirs, [Coded])
                    assert "may not use all that the default of code calls" in str(told.reason)
                    assert "GRANT EXECUTE" in str(told.remedy)
                session.add_all([Coded(tag=str(number)) for number in range(9)])
                try:
                    session.commit()
                    outcomes.append("saved")
                except ProgrammingError as error:
                    outcomes.append(error.orig.sqlstate)
        assert outcomes == ["saved" if "EXECUTE" in kept else "42501"] * 2
    finally:
        theirs.dispose()
        coded.exec_driver_sql(f"DROP OWNED BY {role}")
        coded.exec_driver_sql(f"DROP ROLE {role}")
