"""Dumpers and adapters that the user registered with the driver are used in COPY as in INSERT."""

from __future__ import annotations

import datetime as dt
from typing import Any

from fixtures.twins import Twins, written
from psycopg.types.datetime import DateDumper
from sqlalchemy import event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.sql import quoted_name

from sqla_seqreserve import register
from sqla_seqreserve._ids import catalogue
from sqla_seqreserve._ids.table_names import table_name
from sqla_seqreserve._rows.division import divide
from sqla_seqreserve._rows.plan import insert_plan


class InfinityDumper(DateDumper):
    """Writes the last day as infinity, as in psycopg's documentation."""

    def dump(self, obj: Any) -> Any:
        return b"infinity" if obj == dt.date.max else super().dump(obj)


class Base(DeclarativeBase):
    pass


class Stay(Base):
    __tablename__ = "stay"
    id: Mapped[int] = mapped_column(primary_key=True)
    until: Mapped[dt.date]


_calls: list[int] = []


def _counted() -> Any:
    _calls.append(1)
    # COPY refuses a number for a text, and with INSERT the server casts it.
    return 7


class Asked(Base):
    __tablename__ = "asked"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default=_counted)


class OtherBase(DeclarativeBase):
    pass


class Folded(OtherBase):
    __tablename__ = quoted_name("Qq", quote=False)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def test_a_dumper_of_the_connection_decides(twins: Twins) -> None:
    """A date that the user's dumper writes as infinity is infinity in the database."""
    for engine in (twins.plain, twins.ours):
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
            Base.metadata.create_all(connection)

        def adapt(driver: Any, _record: Any, _proxy: Any) -> None:
            driver.adapters.register_dumper(dt.date, InfinityDumper)

        event.listen(engine, "checkout", adapt)
        with Session(engine) as session:
            reasons: list[str | None] = []
            if engine is twins.ours:
                registration = register(session, copy_min_rows=1)
                registration.on_flush(
                    lambda report, seen=reasons: seen.extend(e.reason for e in report.entries)
                )
            session.add_all([Stay(until=dt.date.max), Stay(until=dt.date(2024, 1, 1))])
            session.flush()
            found = session.scalars(text("SELECT until::text FROM stay ORDER BY id")).all()
            assert found == ["infinity", "2024-01-01"]
            if engine is twins.ours:
                assert reasons == [
                    "until holds date, for which the application has an adapter of its own"
                ]


def test_a_batch_that_copy_refuses_holds_what_was_computed(twins: Twins) -> None:
    """A default is called once per row, and its value is written, whether COPY or INSERT writes the
    row.
    """
    _calls.clear()
    with twins.ours.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
        Base.metadata.create_all(connection)
        mapper, table = Asked.__mapper__, Asked.__table__
        name = table_name(connection, table)
        facts = catalogue.table_facts(connection, [name])[name]
        assert facts is not None
        plan = insert_plan(mapper, table, facts, connection.dialect)
        [batch] = divide(plan, [{"id": number} for number in range(20)], connection).batches
    assert len(_calls) == 20
    assert batch.copy_reason is not None
    assert batch.values[batch.columns.index("name")] == [7] * 20


def test_a_name_that_is_never_quoted_leads_where_plain_goes(twins: Twins) -> None:
    """Rows of a table whose unquoted name PostgreSQL folds are not written into a table with the
    quoted name.
    """

    def scenario(session: Session) -> None:
        session.add_all([Folded(name=f"f{i}") for i in range(9)])
        session.flush()

    ddl = ('CREATE TABLE "Qq" (id serial PRIMARY KEY, name text NOT NULL)',)
    outcome = twins.compare(OtherBase, scenario, ddl=ddl)
    assert {writer for _, writer, _ in written(outcome)} == {"copy"}
    assert len(outcome.rows["public.qq"]) == 9
