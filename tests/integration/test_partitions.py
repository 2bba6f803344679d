"""Mapped partitions, which PostgreSQL 17 and newer number by the identity of their topmost
parent.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import BigInteger, Connection, Engine, Identity, Sequence, create_engine, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sqla_seqreserve import (
    bulk_insert,
    bulk_upsert,
    check_sequences,
    register,
    repair_sequences,
    reserve_ids,
)
from sqla_seqreserve.health import SequenceHealth
from sqla_seqreserve.testing import record_statements

DRIVERS = ["psycopg", "psycopg2"]


class Base(DeclarativeBase):
    pass


class Parent(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    part: Mapped[int] = mapped_column(primary_key=True)


class Born(Base):
    """A partition that was created as one."""

    __tablename__ = "born"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    part: Mapped[int]


class Attached(Base):
    """A partition that was first a table with a sequence of its own."""

    __tablename__ = "attached"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    part: Mapped[int]
    code: Mapped[int | None]


TABLES = """
CREATE TABLE parent (
    id bigint GENERATED {kind} AS IDENTITY, part int, code int, PRIMARY KEY (id, part)
) PARTITION BY LIST (part);
CREATE TABLE born PARTITION OF parent FOR VALUES IN (1);
CREATE SEQUENCE own_s;
CREATE TABLE attached (
    part int NOT NULL, id bigint NOT NULL DEFAULT nextval('own_s'), code int UNIQUE
);
ALTER SEQUENCE own_s OWNED BY attached.id;
ALTER TABLE parent ATTACH PARTITION attached FOR VALUES IN (2);
INSERT INTO parent (part) SELECT 2 FROM generate_series(1, 20);
"""


@pytest.fixture(params=["BY DEFAULT", "ALWAYS"])
def partitioned(request: pytest.FixtureRequest, engine: Engine) -> Engine:
    with engine.begin() as connection:
        if connection.scalar(text("SHOW server_version_num")) < "170000":
            pytest.skip("partitions have identities of their own before PostgreSQL 17")
        for statement in TABLES.format(kind=request.param).split(";"):
            if statement.strip():
                connection.execute(text(statement))
    return engine


def scalar(engine: Engine, sql: str) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text(sql)) or 0)


def saved(factory: sessionmaker[Session], model: Callable[..., object], count: int) -> list[int]:
    objects = [model(part=1 if model is Born else 2) for _ in range(count)]
    with factory.begin() as session:
        session.add_all(objects)
        session.flush()
        return [item.id for item in objects]  # type: ignore[attr-defined]  # both have it


@pytest.mark.parametrize("model", [Born, Attached])
@pytest.mark.parametrize("count", [1, 3, 1_500])
def test_a_partition_is_numbered_as_the_server_numbers_it(
    partitioned: Engine, model: Callable[..., object], count: int
) -> None:
    """Keys of a partition's rows come from the topmost parent's identity, as in plain
    SQLAlchemy.
    """
    plain, ours = sessionmaker(partitioned), sessionmaker(partitioned)
    register(ours)
    first = saved(plain, model, count)
    second = saved(ours, model, count)
    third = saved(plain, model, count)
    assert first == list(range(21, 21 + count))
    assert min(second) > max(first)
    assert min(third) > max(second)
    assert len({*first, *second, *third}) == 3 * count
    assert scalar(partitioned, "SELECT last_value + is_called::int FROM own_s") == 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_ids_of_a_partition_are_those_of_its_parent(
    partitioned: Engine, database_url: str, driver: str
) -> None:
    """reserve_ids takes a partition's ids from the sequence that INSERT would use."""
    engine = create_engine(database_url.replace("+psycopg", f"+{driver}"))
    with Session(engine) as session:
        assert list(reserve_ids(session, Attached, 3)) == [21, 22, 23]
        assert list(reserve_ids(session, Born, 2)) == [24, 25]
        assert list(reserve_ids(session, Parent, 1)) == [26]
    engine.dispose()


async def test_an_async_session_numbers_a_partition_alike(
    partitioned: Engine, database_url: str
) -> None:
    """On asyncpg too, keys of a partition's rows come from the topmost parent's identity."""
    engine = create_async_engine(database_url.replace("+psycopg", "+asyncpg"))
    factory = async_sessionmaker(engine)
    register(factory)
    objects = [Attached(part=2) for _ in range(300)]
    try:
        async with factory.begin() as session:
            session.add_all(objects)
            await session.flush()
            assert min(item.id for item in objects) > 20
    finally:
        await engine.dispose()


def test_many_rows_of_a_partition_go_by_copy(partitioned: Engine) -> None:
    """explain() names the parent's sequence for a partition, and COPY writes many rows."""
    factory = sessionmaker(partitioned)
    registration = register(factory)
    (explained,) = registration.explain(partitioned, [Attached])
    assert explained.sequence == "public.parent_id_seq"
    with record_statements(partitioned) as statements:
        saved(factory, Attached, 3_000)
    assert any(statement.sql.startswith("COPY attached") for statement in statements)


def test_a_partition_that_leaves_is_numbered_anew(partitioned: Engine) -> None:
    """After DETACH the partition has lost the parent's identity, and a flush takes ids from its own
    default.
    """
    factory = sessionmaker(partitioned)
    register(factory)
    saved(factory, Attached, 300)
    with partitioned.begin() as connection:
        connection.execute(text("ALTER TABLE parent DETACH PARTITION attached"))
        connection.execute(text("ALTER TABLE attached ALTER id SET DEFAULT nextval('own_s')"))
        connection.execute(text("SELECT setval('own_s', 10000)"))
    assert min(saved(factory, Attached, 300)) == 10_001


def found(connection: Connection, source: object) -> dict[str | None, SequenceHealth]:
    return {e.sequence: e for e in check_sequences(connection, source).sequences}


@pytest.mark.parametrize("source", [Base, [Born], [Attached], None])
def test_healthy_partitions_are_healthy(partitioned: Engine, source: object) -> None:
    """A partition is checked against the sequence that numbers it; its former sequence is reported
    as unused.
    """
    with partitioned.connect() as connection:
        entries = found(connection, source)
    assert (entries["parent_id_seq"].is_healthy, entries["parent_id_seq"].gap) == (True, 0)
    assert {f.code for f in entries["parent_id_seq"].findings} <= {"IDENTITY_DIFFERS"}
    if source is None:
        assert {f.code for f in entries["own_s"].findings} == {"UNUSED"}
        assert entries["own_s"].status == "OK"
    else:
        assert set(entries) == {"parent_id_seq"}


def test_a_partition_behind_is_repaired_with_its_parent(partitioned: Engine) -> None:
    """A repair of a partition moves the topmost parent's identity beyond the rows of every
    partition.
    """
    with partitioned.begin() as connection:
        connection.execute(text("SELECT setval('parent_id_seq', 1)"))
        assert found(connection, [Attached])["parent_id_seq"].gap == 19
        repair_sequences(connection, [Attached])
    assert scalar(partitioned, "SELECT nextval('parent_id_seq')") == 21
    assert scalar(partitioned, "SELECT last_value + is_called::int FROM own_s") == 1


def test_partitions_of_partitions_follow_the_catalogue(engine: Engine) -> None:
    """A partition of a partition that is attached later keeps its own default, and is numbered by
    it.
    """
    with engine.begin() as connection:
        if connection.scalar(text("SHOW server_version_num")) < "170000":
            pytest.skip("partitions have identities of their own before PostgreSQL 17")
        for statement in (
            "CREATE TABLE parent (id bigint GENERATED BY DEFAULT AS IDENTITY, part int, code int)"
            " PARTITION BY LIST (part)",
            "CREATE TABLE middle (id bigint NOT NULL, part int, code int) PARTITION BY LIST (part)",
            "CREATE SEQUENCE own_s START 500",
            "CREATE TABLE attached (code int, part int,"
            " id bigint NOT NULL DEFAULT nextval('own_s'))",
            "ALTER TABLE middle ATTACH PARTITION attached FOR VALUES IN (2)",
            "ALTER TABLE parent ATTACH PARTITION middle FOR VALUES IN (1, 2)",
            "CREATE TABLE born PARTITION OF middle FOR VALUES IN (1)",
        ):
            connection.execute(text(statement))
    plain, ours = sessionmaker(engine), sessionmaker(engine)
    register(ours)
    for model in (Attached, Born):
        plain_ids, our_ids = saved(plain, model, 2), saved(ours, model, 300)
        assert min(our_ids) == max(plain_ids) + 1
    with engine.connect() as connection:
        entries = found(connection, [Attached, Born])
        # The parent's sequence will reach ids that the partition took from its own.
        assert {name: e.status for name, e in entries.items()} == {
            "own_s": "OK",
            "parent_id_seq": "NEEDS_REPAIR",
        }


def test_a_sequence_of_the_model_that_numbers_no_row_is_said(partitioned: Engine) -> None:
    """If a model names the partition's former sequence, the check says which sequence numbers the
    column, and suggests no remedy that PostgreSQL refuses.
    """

    class Other(DeclarativeBase):
        pass

    class Named(Other):
        __tablename__ = "attached"
        id: Mapped[int] = mapped_column(BigInteger, Sequence("own_s"), primary_key=True)
        part: Mapped[int]

    with partitioned.connect() as connection:
        (entry,) = check_sequences(connection, Named).sequences
    (finding,) = [f for f in entry.findings if f.code == "DEFAULT_ELSEWHERE"]
    assert "numbered by parent_id_seq" in finding.message
    assert "point the default" not in finding.remedy
    assert "NOT_OWNED" not in {f.code for f in entry.findings}


@pytest.mark.parametrize("count", [3, 2_000])
def test_bulk_functions_number_a_partition_alike(partitioned: Engine, count: int) -> None:
    """bulk_insert and bulk_upsert take a partition's ids from its parent's sequence, for few rows
    and for many.
    """
    with Session(partitioned) as session:
        ids = bulk_insert(session, Attached, [{"part": 2}] * count)
        assert min(ids) > 20
        rows = [{"part": 2, "code": code} for code in range(count)]
        for _ in range(2):
            result = bulk_upsert(session, Attached, rows, conflict="code", returning="ids")
            assert min(result.ids) > max(ids)
        session.commit()
    assert scalar(partitioned, "SELECT last_value + is_called::int FROM own_s") == 1
    assert scalar(partitioned, "SELECT count(*) FROM attached") == 20 + 2 * count
