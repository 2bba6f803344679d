"""The sources of a check: a base, a registry, metadata, tables, classes, a database."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.checked import connection as connection
from fixtures.checked import run, serial
from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    ForeignKey,
    Identity,
    Sequence,
    String,
    create_engine,
)
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve.errors import (
    ConfigurationError,
    SequenceNotFoundError,
    UnmappedClassError,
    UnsupportedDatabaseError,
)
from sqla_seqreserve.health import SequenceHealthMixin, check_sequences, repair_sequences


def test_schemas_narrow_a_check_of_the_database(connection: Connection) -> None:
    """A check of a database covers every schema except the system's, or only the named ones."""
    run(
        connection,
        "CREATE TABLE a (id serial)",
        "CREATE SCHEMA other",
        "CREATE TABLE other.b (id serial)",
        "CREATE SEQUENCE other.alone",
    )

    def found(schemas: list[str] | None) -> list[tuple[str | None, str | None]]:
        entries = check_sequences(connection, None, schemas=schemas).sequences
        return [(entry.table, entry.sequence) for entry in entries]

    b = [("other.b", "other.b_id_seq"), (None, "other.alone")]
    assert found(None) == [("a", "a_id_seq"), *b]
    assert found(["other"]) == b
    assert found([]) == []


@pytest.mark.parametrize("work", [check_sequences, repair_sequences])
def test_a_schema_that_does_not_exist_is_refused(connection: Connection, work: Any) -> None:
    """A misspelt schema is no empty one, which would look healthy."""
    run(connection, "CREATE TABLE a (id serial)", 'CREATE SCHEMA "Odd 100%"')
    assert work(connection, None, schemas=["Odd 100%"]).to_dict()["version"] == 1
    with pytest.raises(ConfigurationError, match=r"has no schema pubic, typo"):
        work(connection, None, schemas=["public", "typo", "pubic"])


class Base(DeclarativeBase):
    pass


# RUF012: __mapper_args__ is SQLAlchemy's way.
class Person(SequenceHealthMixin, Base):
    __tablename__ = "person"
    number: Mapped[int] = mapped_column("person_no", BigInteger, Identity(), primary_key=True)
    kind: Mapped[str] = mapped_column(String)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Manager(Person):
    __tablename__ = "manager"
    number: Mapped[int] = mapped_column(ForeignKey("person.person_no"), primary_key=True)
    __mapper_args__ = {"polymorphic_identity": "manager"}


class Intern(Person):
    __mapper_args__ = {"polymorphic_identity": "intern"}


class Label(SequenceHealthMixin, Base):
    __tablename__ = "label"
    name: Mapped[str] = mapped_column(primary_key=True)


@pytest.mark.parametrize("source", [Base, Base.registry, Base.metadata, Manager, [Person, Intern]])
def test_every_kind_of_source_is_understood(engine: Engine, source: Any) -> None:
    """A base, registry, MetaData or classes, also inheriting ones, give each sequence once."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Manager(kind="manager"))
        session.flush()
        (entry,) = check_sequences(session, source).sequences
    assert (entry.table, entry.column, entry.status) == ("person", "person_no", "OK")
    assert entry.table_max_id == 1


def test_the_mixin_answers_for_its_class(engine: Engine) -> None:
    """Classes check and repair themselves, joined children through their parent's sequence."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Manager(number=15, kind="manager"))
        session.flush()
        assert Intern.sequence_health(session).gap == 15
        assert Manager.repair_sequence(session, dry_run=True).action == "WOULD_REPAIR"
        assert Manager.sequence_health(session).gap == 15
        assert Manager.repair_sequence(session).action == "REPAIRED"
        assert Person.sequence_health(session).next_value == 16
        with pytest.raises(SequenceNotFoundError, match="Label"):
            Label.sequence_health(session)


class OfTickets(DeclarativeBase):
    pass


class Ticket(SequenceHealthMixin, OfTickets):
    __tablename__ = "tickets"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    a_number: Mapped[int] = mapped_column(Sequence("ticket_numbers"))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "any"}


class Complaint(Ticket):
    __tablename__ = "a_complaint"
    id: Mapped[int] = mapped_column(ForeignKey(Ticket.id), primary_key=True)
    file_no: Mapped[int] = mapped_column(Sequence("file_numbers"))
    __mapper_args__ = {"polymorphic_identity": "complaint"}


@pytest.mark.parametrize("cls", [Ticket, Complaint])
def test_the_mixin_answers_for_the_key(engine: Engine, cls: type[Ticket]) -> None:
    """If sequences fill other columns too, a class answers for that of its key."""
    OfTickets.metadata.create_all(engine)
    with Session(engine) as session:
        assert cls.sequence_health(session).sequence == "tickets_id_seq"
        assert cls.repair_sequence(session).sequence == "tickets_id_seq"


def test_each_class_is_checked_where_its_session_keeps_it(engine: Engine) -> None:
    """A session with several binds is asked for the bind of each class."""
    Base.metadata.create_all(engine)
    nowhere = create_engine("sqlite://")
    with Session(nowhere, binds={Person: engine}) as session:
        assert check_sequences(session, Person).healthy
        with pytest.raises(UnsupportedDatabaseError, match="sqlite"):
            check_sequences(session, None)
    nowhere.dispose()


async def test_an_async_session_checks_and_repairs(database_url: str) -> None:
    """Check and repair work inside run_sync."""
    engine = create_async_engine(database_url)
    async with AsyncSession(engine) as session:
        await session.run_sync(lambda s: Base.metadata.create_all(s.connection()))
        session.add(Person(number=12, kind="person"))
        await session.flush()
        assert (await session.run_sync(Person.sequence_health)).gap == 12
        assert (await session.run_sync(Person.repair_sequence)).action == "REPAIRED"
        session.add(Person(kind="person"))
        await session.flush()
        assert (await session.run_sync(Person.sequence_health)).status == "OK"
    await engine.dispose()


def test_a_source_that_is_none_is_refused(connection: Connection) -> None:
    """Unmapped classes, other objects and misplaced schemas raise clear errors."""
    with pytest.raises(UnmappedClassError, match="int"):
        check_sequences(connection, int)
    with pytest.raises(UnmappedClassError, match="expected a declarative base"):
        check_sequences(connection, 7)
    with pytest.raises(ConfigurationError, match="schemas"):
        check_sequences(connection, Base, schemas=["public"])
    with pytest.raises(ConfigurationError, match="run_sync"):
        check_sequences(connection.engine, Base)  # type: ignore[arg-type]  # the point of the test


def test_a_check_is_logged_once(connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
    """Each check logs one structured line: INFO when healthy, WARNING when not."""
    run(connection, "CREATE TABLE t (id serial)")
    with caplog.at_level("INFO", "sqla_seqreserve"):
        check_sequences(connection, serial("t"))
        run(connection, "INSERT INTO t VALUES (12)")
        check_sequences(connection, serial("t"))
    good, bad = caplog.records
    assert (good.levelname, good.event, good.healthy) == ("INFO", "sequences_checked", True)
    assert (bad.levelname, bad.unhealthy_sequences, bad.largest_gap) == (
        "WARNING", ["t_id_seq"], 12,
    )  # fmt: skip
