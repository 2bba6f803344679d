"""Statements for many rows have the same meaning under every setting of the session, with every
role, schema and driver, and for tables of any name.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from fixtures.places import BODIES, EVERY, PLACE, Place, Priced, compared, filled
from fixtures.sides import refusal
from sqlalchemy import (
    Table,
    bindparam,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.util import await_only


@EVERY
def test_nothing_in_a_column_of_arrays(twin_urls: tuple[str, str], driver: str) -> None:
    """NULL is written to array columns, for all rows and for some."""

    def act(session: Session) -> None:
        places = filled(session)
        for place in places:
            place.tags, place.number = [1, 2], 5
        session.commit()
        for place in places:
            place.tags, place.number = None, 6
        session.commit()

    compared(twin_urls, driver, act)


@EVERY
@pytest.mark.parametrize("style", ["postgres", "sql_standard", "iso_8601", "postgres_verbose"])
def test_interval_styles(twin_urls: tuple[str, str], driver: str, style: str) -> None:
    """A negative interval is stored like the driver's own, whatever the session's IntervalStyle."""

    def act(session: Session) -> None:
        places = filled(session)
        session.execute(text(f"SET LOCAL IntervalStyle = {style}"))
        for place in places:
            place.span = dt.timedelta(days=-place.id, seconds=5, microseconds=7)
        session.commit()

    compared(twin_urls, driver, act)


@EVERY
@pytest.mark.parametrize(
    "rights",
    [
        "SELECT, DELETE",
        "SELECT, UPDATE",
        "SELECT, UPDATE (number)",
        "SELECT (id), UPDATE (number), DELETE",
        "SELECT, INSERT",
        "SELECT",
    ],
)
def test_rights(twin_urls: tuple[str, str], driver: str, rights: str) -> None:
    """A role that may change and delete rows one by one may change and delete many."""

    def act(session: Session) -> Any:
        for i, place in enumerate(filled(session)):
            place.number = i
        session.commit()
        found = []
        for kind in ("update", "delete"):
            session.execute(text("SET ROLE many_least"))
            try:
                keys = [{"a": i} for i in range(1, 5)]
                key = PLACE.c.id == bindparam("a")
                if kind == "update":
                    session.execute(update(PLACE).where(key).values(number=5), keys)
                else:
                    session.execute(delete(PLACE).where(key), keys)
                session.execute(text("RESET ROLE"))
                session.commit()
                found.append("done")
            except SQLAlchemyError as error:
                found.append(refusal(error))
                session.rollback()
        return found

    compared(
        twin_urls,
        driver,
        act,
        "DO $$BEGIN CREATE ROLE many_least; EXCEPTION WHEN duplicate_object THEN NULL; END$$",
        "GRANT USAGE ON SCHEMA public TO many_least",
        f"GRANT {rights} ON place TO many_least",
    )


@EVERY
def test_a_schema_of_the_statement(twin_urls: tuple[str, str], driver: str) -> None:
    """A statement with a ``schema_translate_map`` of its own writes the table that the
    map names.
    """

    def act(session: Session) -> None:
        filled(session)
        session.execute(text("INSERT INTO other.place SELECT * FROM place WHERE id > 3"))
        session.execute(
            update(PLACE).where(PLACE.c.id == bindparam("a")).values(number=bindparam("b")),
            [{"a": i, "b": 7} for i in range(1, 7)],
            execution_options={"schema_translate_map": {None: "other"}},
        )
        session.execute(
            insert(PLACE),
            [{"id": i, "number": 7} for i in range(11, 17)],
            execution_options={"schema_translate_map": {None: "other"}},
        )
        session.commit()

    compared(
        twin_urls,
        driver,
        act,
        "CREATE SCHEMA other",
        "CREATE TABLE other.place (LIKE place)",
        tables=("place", "other.place"),
    )


@EVERY
def test_tables_that_inherit(twin_urls: tuple[str, str], driver: str) -> None:
    """Rows of tables that inherit from another are changed, with their triggers, as one by one."""

    def act(session: Session) -> None:
        filled(session)
        session.execute(text("INSERT INTO inner_place SELECT * FROM ONLY place WHERE id > 2"))
        session.execute(text("DELETE FROM ONLY place WHERE id > 2"))
        session.commit()
        places = session.scalars(select(Place).order_by(Place.id)).all()
        for place in places:
            place.position, place.number = place.id * 10, place.id * 100
        session.commit()

    compared(
        twin_urls,
        driver,
        act,
        "CREATE TABLE inner_place () INHERITS (place)",
        f"""CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN {BODIES["BEFORE"]} END$$""",
        """CREATE TRIGGER look BEFORE UPDATE ON inner_place
        FOR EACH ROW EXECUTE FUNCTION look()""",
    )


ODD = (
    *("where", "values", "number", "c0", "100%", "%(x)s", "a:b", 'a"b', "a'b", "$1", "$x$"),
    *("sqla_seqreserve_sent", "sqla_seqreserve_locked", "a.b", "a b", "WHERE x", "(", "a(b)"),
)


@EVERY
@pytest.mark.parametrize("name", ODD)
def test_odd_names(twin_urls: tuple[str, str], driver: str, name: str) -> None:
    """Tables and columns of any name are written to."""
    from sqlalchemy import Column, Integer, String

    class Own(DeclarativeBase):
        pass

    table: Table = Table(
        name,
        Own.metadata,
        Column("key", Integer, key="key", primary_key=True),
        Column(name if name != "key" else "other", String, key="value"),
        Column(f"{name} 2", Integer, key="value2"),
    )

    def act(session: Session) -> Any:
        session.execute(insert(table), [{"key": i, "value": f"{name}{i}"} for i in range(5)])
        session.execute(
            update(table)
            .where(table.c.key == bindparam("k"))
            .values(value=bindparam("v"), value2=bindparam("w") + 1),
            [{"k": i, "v": f"%(v)s $1 {name}", "w": i} for i in range(5)],
        )
        session.execute(delete(table).where(table.c.key == bindparam("k")), [{"k": 1}, {"k": 3}])
        session.commit()
        return [tuple(row) for row in session.execute(select(table).order_by(table.c.key))]

    compared(twin_urls, driver, act, tables=(), base=Own)


def test_codecs_of_asyncpg_users(twin_urls: tuple[str, str]) -> None:
    """An encoder that the user has set on asyncpg is also used in statements for many rows."""

    def act(session: Session) -> None:
        driver: Any = session.connection().connection.driver_connection
        session.execute(insert(Priced), [{"price": Decimal(i)} for i in (1, 7)])
        for name, encode in (("numeric", lambda _: "7"), ("interval", lambda _: "7 days")):
            await_only(
                driver.set_type_codec(
                    name, encoder=encode, decoder=str, schema="pg_catalog", format="text"
                )
            )
        for place in filled(session):
            place.span = dt.timedelta(place.id)
        session.commit()
        table: Any = Priced.__table__
        session.execute(
            update(table).where(table.c.price == bindparam("p")).values(value=1),
            [{"p": Decimal(i)} for i in range(5)],
        )
        session.commit()

    compared(twin_urls, "asyncpg", act, tables=("place", "priced"))


def test_dumpers_of_psycopg_users(twin_urls: tuple[str, str]) -> None:
    """A dumper that the user has registered with psycopg is also used in statements for
    many rows.
    """
    from psycopg.types.string import StrDumper

    class Loud(StrDumper):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.upper())

    def act(session: Session) -> None:
        driver: Any = session.connection().connection.driver_connection
        driver.adapters.register_dumper(str, Loud)
        for place in filled(session):
            place.name = f"quiet {place.id}"
        session.commit()

    compared(twin_urls, "psycopg", act)


def test_within_a_pipeline_of_the_user(twin_urls: tuple[str, str]) -> None:
    """Within psycopg's pipeline mode a list is inserted, and the row count of an UPDATE is unknown,
    as with plain SQLAlchemy.
    """

    def inserts(session: Session) -> None:
        filled(session)
        driver: Any = session.connection().connection.driver_connection
        with driver.pipeline():
            session.execute(insert(Place), [{"id": i} for i in range(10, 15)])
        session.commit()

    def updates(session: Session) -> None:
        filled(session)
        driver: Any = session.connection().connection.driver_connection
        with driver.pipeline():
            session.execute(update(Place), [{"id": i, "number": 7} for i in range(1, 5)])
        session.commit()

    outcome, _, _ = compared(twin_urls, "psycopg", inserts)
    assert outcome is None
    compared(twin_urls, "psycopg", updates)
