"""Flushes and bulk inserts on a real Citus cluster, compared with plain SQLAlchemy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fixtures.cluster import Cluster
from sqlalchemy import BigInteger, Engine, ForeignKey, create_engine, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_insert, bulk_upsert, register, reserve_ids
from sqla_seqreserve.errors import SequenceExhaustedError, SequenceNotFoundError
from sqla_seqreserve.reports import FlushReport

DRIVERS = ("psycopg", "psycopg2")


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(default="o")


class Entry(Base):
    __tablename__ = "entry"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("owner.id"))
    amount: Mapped[int | None]
    made: Mapped[str] = mapped_column(server_default="by default")


@pytest.fixture
def entries(citus: Cluster) -> Cluster:
    citus.run(
        "CREATE TABLE owner (id bigserial PRIMARY KEY, name text NOT NULL)",
        "SELECT create_reference_table('owner')",
        "INSERT INTO owner (id, name) VALUES (0, 'first')",
        "CREATE TABLE entry (id bigserial PRIMARY KEY, owner_id bigint NOT NULL REFERENCES owner,"
        " amount int NOT NULL CHECK (amount >= 0), made text NOT NULL DEFAULT 'by default')",
        "SELECT create_distributed_table('entry', 'id')",
        "INSERT INTO entry (id, owner_id, amount) VALUES (9000000, 0, 1)",
    )
    return citus


@pytest.fixture(params=DRIVERS)
def nodes(request: pytest.FixtureRequest, entries: Cluster) -> Iterator[list[Engine]]:
    """The coordinator and a worker, through each driver."""
    engines = [
        create_engine(url.set(drivername=f"postgresql+{request.param}")) for url in entries.urls[:2]
    ]
    yield engines
    for engine in engines:
        engine.dispose()


BAD: dict[str, dict[str, Any]] = {
    "NOT NULL": {"amount": None},
    "CHECK": {"amount": -1},
    "FOREIGN KEY": {"owner_id": 77},
    "UNIQUE": {"id": 9_000_000},
}


def rows(count: int = 120, bad: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"owner_id": 0, "amount": n} for n in range(count)]
    if bad is not None:
        found[count // 2].update(bad)
    return found


def refusal(engine: Engine, write: Callable[[Session], object], ours: bool) -> tuple[Any, ...]:
    """The error of a refused write, as class, SQLSTATE and statement; the session goes on
    after it.
    """
    with Session(engine) as session:
        if ours:
            register(session, copy_min_rows=1)
        owner = Owner(name="kept")
        session.add(owner)
        session.flush()
        session.begin_nested()
        with pytest.raises(DBAPIError) as caught:
            write(session)
            session.flush()
        session.rollback()
        session.add(Owner())
        session.commit()
    error = caught.value
    code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    return type(error), code, (error.statement or "").split()[:3]


@pytest.mark.parametrize("bad", BAD)
def test_a_refusal_is_what_plain_raises(entries: Cluster, nodes: list[Engine], bad: str) -> None:
    """Class, SQLSTATE and statement of the error are those of SQLAlchemy's INSERT, and the session
    can be used after a rollback.
    """
    for engine in nodes:

        def write(session: Session) -> None:
            session.add_all(Entry(**row) for row in rows(bad=BAD[bad]))

        plain, ours = (refusal(engine, write, ours=ours) for ours in (False, True))
        assert ours == plain
        assert plain[0].__name__ == "IntegrityError"
    with entries.coordinator.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(Entry)) == 1


@pytest.mark.parametrize("bad", ["CHECK", "FOREIGN KEY", "UNIQUE"])
def test_bulk_insert_refuses_so_too(entries: Cluster, nodes: list[Engine], bad: str) -> None:
    """bulk_insert raises the IntegrityError of an INSERT, and writes nothing."""
    for engine in nodes:

        def write(session: Session) -> None:
            bulk_insert(session, Entry, rows(bad=BAD[bad]))

        kind, code, statement = refusal(engine, write, ours=True)
        assert (kind.__name__, code[:2], statement[0]) == ("IntegrityError", "23", "INSERT")
    with entries.coordinator.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(Entry)) == 1


def test_a_reference_table_may_be_written_after(nodes: list[Engine]) -> None:
    """After COPY, and after server defaults were read back, the transaction can write to a
    reference table, and its settings are as before.
    """
    for engine in nodes:
        with Session(engine) as session:
            reports: list[FlushReport] = []
            register(session, copy_min_rows=1).on_flush(reports.append)
            session.execute(text("SET LOCAL citus.enable_ddl_propagation = off"))
            added = [Entry(**row) for row in rows()]
            session.add_all(added)
            session.flush()
            assert reports[0].entries[0].writer == "copy"
            assert {entry.made for entry in added} == {"by default"}
            ids = bulk_insert(session, Entry, rows())
            assert len(set(ids) | {entry.id for entry in added}) == 240
            assert session.scalar(text("SHOW citus.multi_shard_modify_mode")) == "parallel"
            # Citus itself changes the mode of a transaction that writes to a reference table.
            session.execute(update(Owner).where(Owner.id == 0).values(name="second"))
            session.add(Owner())
            session.flush()
            assert session.scalar(text("SHOW citus.enable_ddl_propagation")) == "off"
            session.rollback()


def test_the_way_follows_the_number_of_rows(entries: Cluster) -> None:
    """One row of a distributed table is written as by plain SQLAlchemy, a few with reserved keys,
    because one INSERT of them would open a connection per shard, and many by COPY; explain() gives
    the number and the reason.
    """
    for engine in entries.engines[:2]:
        with Session(engine) as session:
            reports: list[FlushReport] = []
            registration = register(session)
            registration.on_flush(reports.append)
            for count in (1, 10, 20, 400):
                session.add_all(Entry(**row) for row in rows(count))
                session.commit()
            found = [(r.entries[0].writer, r.entries[0].reserved) for r in reports]
            assert found == [("insert", 0), ("insert", 10), ("insert", 20), ("copy", 400)]
            [entry, owner] = registration.explain(engine, [Entry, Owner])
            assert entry.path == owner.path == "copy"
            assert (entry.copy_from or 0) > 40
            assert "Citus distributes the table" in (entry.reason or "")
            assert "Citus distributes the table" in (owner.reason or "")


def test_a_table_that_is_distributed_meanwhile(citus: Cluster) -> None:
    """After a table is distributed, the facts that were read about the plain table are read
    again.
    """
    citus.run(
        "CREATE TABLE owner (id bigserial PRIMARY KEY, name text NOT NULL)",
        "CREATE TABLE entry (id bigserial PRIMARY KEY, owner_id bigint NOT NULL,"
        " amount int NOT NULL, made text NOT NULL DEFAULT 'by default')",
    )
    with Session(citus.coordinator) as session:
        registration = register(session, copy_min_rows=1)
        for distribute in (True, False):
            session.add_all(Entry(**row) for row in rows())
            session.commit()
            if distribute:
                citus.run("SELECT create_distributed_table('entry', 'id')")
        [entry] = registration.explain(session.connection(), [Entry])
        assert "Citus distributes the table" in (entry.reason or "")
        with pytest.raises(DBAPIError) as caught:
            session.add_all(Entry(**row) for row in rows(bad=BAD["NOT NULL"]))
            session.commit()
        assert type(caught.value).__name__ == "IntegrityError"
        session.rollback()
        assert session.scalar(select(func.count()).select_from(Entry)) == 240


def test_few_rows_in_bulk_go_by_insert(entries: Cluster) -> None:
    """bulk_insert sends a few rows to their shards by INSERT and many by COPY, and returns the
    right objects and ids in both cases.
    """
    for engine in entries.engines:
        with Session(engine) as session:
            for count in (1, 10, 200):
                found = bulk_insert(session, Entry, rows(count), returning="objects")
                assert [entry.amount for entry in found] == list(range(count))
                ids = [entry.id for entry in found]
                assert session.scalar(
                    select(func.count()).select_from(Entry).where(Entry.id.in_(ids))
                ) == len(set(ids))
            session.commit()


def test_upsert(entries: Cluster) -> None:
    """bulk_upsert inserts and updates rows of a distributed table."""
    for engine in entries.engines:
        with Session(engine) as session:
            ids = list(bulk_insert(session, Entry, rows(20)))
            given = [{"id": i, "owner_id": 0, "amount": 7} for i in [*ids, max(ids) + 10**9]]
            result = bulk_upsert(session, Entry, given, conflict="id")
            assert (result.inserted, result.updated) == (1, 20)
            session.commit()


class Reading(Base):
    __tablename__ = "reading"
    k: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    value: Mapped[int]


@pytest.mark.parametrize("count", [3, 300])
@pytest.mark.parametrize("returning", ["ids", "objects", None])
@pytest.mark.parametrize("update_columns", [None, ()])
def test_upsert_by_a_composite_key(
    citus: Cluster, count: int, returning: Any, update_columns: Any
) -> None:
    """bulk_upsert inserts and updates rows of a distributed table with a composite key, few or
    many, whatever it returns.
    """
    citus.run(
        "CREATE TABLE reading (k bigint, id bigserial, value int NOT NULL, PRIMARY KEY (k, id))",
        "SELECT create_distributed_table('reading', 'k')",
    )
    for engine in citus.engines[:2]:
        with Session(engine) as session:
            first = max(session.scalar(select(func.max(Reading.k))) or 0, 0) + 1
            given = [{"k": first + n, "id": n + 1, "value": n} for n in range(count)]
            result = bulk_upsert(
                session,
                Reading,
                given,
                conflict=["k", "id"],
                update=update_columns,
                returning=returning,
            )
            assert (result.inserted, result.updated) == (count, 0)
            again = [{**row, "value": row["value"] + 1} for row in given]
            result = bulk_upsert(
                session,
                Reading,
                again,
                conflict=["k", "id"],
                update=update_columns,
                returning=returning,
            )
            assert (result.inserted, result.updated) == (0, 0 if update_columns == () else count)
            found = session.scalars(select(Reading.value).where(Reading.k >= first)).all()
            shift = 0 if update_columns == () else 1
            assert sorted(found) == [n + shift for n in range(count)]
            session.commit()


def test_a_small_sequence_on_a_worker(citus: Cluster) -> None:
    """A sequence that gives no values on a worker raises an error there, which says what to do."""
    citus.run(
        "CREATE TABLE owner (id serial PRIMARY KEY, name text NOT NULL)",
        "SELECT create_reference_table('owner')",
    )
    with Session(citus.coordinator) as session:
        assert len(reserve_ids(session, Owner, 3)) == 3
    with (
        Session(citus.workers[0]) as session,
        pytest.raises(
            SequenceExhaustedError,
            match=r"only the coordinator .* Insert through the coordinator, or make .* bigint",
        ),
    ):
        reserve_ids(session, Owner, 3)


def test_a_local_table_on_a_worker(citus: Cluster) -> None:
    """A table that is on the coordinator alone is missing on a worker, and the error says why."""
    citus.run("CREATE TABLE owner (id serial PRIMARY KEY, name text NOT NULL)")
    with (
        Session(citus.workers[0]) as session,
        pytest.raises(
            SequenceNotFoundError,
            match=r"no such table; this is a node of Citus, .* on the coordinator alone",
        ),
    ):
        reserve_ids(session, Owner, 3)
