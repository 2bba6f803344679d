"""How names are resolved: schemas, search_path, schema_translate_map, and names that need
quoting.
"""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, Identity, Sequence, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import FlushReport, register, reserve_ids
from sqla_seqreserve.testing import record_statements


class Base(DeclarativeBase):
    pass


class Local(Base):
    """A table in the schema that search_path or the translate map gives."""

    __tablename__ = "local"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    word: Mapped[str | None]


class Declared(Base):
    """Like Local, with a sequence whose name has no schema."""

    __tablename__ = "declared"
    id: Mapped[int] = mapped_column(Sequence("declared_seq"), primary_key=True)


class Remote(Base):
    """A table in a schema of its own, with a sequence in another schema."""

    __tablename__ = "remote"
    __table_args__ = {"schema": "Far Away"}  # declarative's own name
    id: Mapped[int] = mapped_column(Sequence("remote_seq", schema="counters"), primary_key=True)


class Percent(Base):
    __tablename__ = "100% sure"
    id: Mapped[int] = mapped_column("% id", Identity(), primary_key=True)
    share: Mapped[int | None] = mapped_column("share %")


# The sequences start at different numbers, so that every id shows which sequence it came from.
SCHEMAS = {"alpha": 1_000, "beta": 2_000}


@pytest.fixture
def schemas(engine: Engine) -> Engine:
    """The same two tables in two schemas, with sequences that start far apart; public has none."""
    with engine.begin() as connection:
        for schema, start in SCHEMAS.items():
            connection.execute(text(f"CREATE SCHEMA {schema}"))
            connection.execute(text(f"SET LOCAL search_path TO {schema}"))
            Base.metadata.create_all(connection, [Local.__table__, Declared.__table__])
            connection.execute(text(f"ALTER TABLE local ALTER id RESTART {start}"))
            connection.execute(text(f"ALTER SEQUENCE declared_seq RESTART {start}"))
    return engine


def owner(number: int) -> str:
    return next(schema for schema, start in SCHEMAS.items() if start <= number < start + 1_000)


def written(engine: Engine, table: str) -> dict[str, list[int]]:
    with engine.connect() as connection:
        return {
            schema: list(connection.scalars(text(f"SELECT id FROM {schema}.{table} ORDER BY id")))
            for schema in SCHEMAS
        }


@pytest.mark.parametrize("model", [Local, Declared])
def test_search_path_may_change_on_one_engine(schemas: Engine, model: type[Base]) -> None:
    """The ids and rows of a transaction follow its search_path, whenever it changes; what was
    looked up for one schema is not used for another.
    """
    taken: list[int] = []
    with schemas.connect() as connection:
        for schema in ["alpha", "beta", "alpha", "alpha", "beta"]:
            connection.execute(text(f"SET search_path TO {schema}"))
            with Session(connection) as session:
                register(session, copy_min_rows=1)
                ids = reserve_ids(session, model, 3)
                objects = [model(), model()]
                session.add_all(objects)
                session.commit()
                keys = [item.id for item in objects]  # type: ignore[attr-defined]  # both have it
            assert {owner(number) for number in [*ids, *keys]} == {schema}
            taken += [*ids, *keys]
        connection.execute(text("RESET search_path"))
        connection.commit()
    assert len(set(taken)) == len(taken) == 25
    rows = written(schemas, model.__tablename__)
    assert {schema: len(found) for schema, found in rows.items()} == {"alpha": 6, "beta": 4}


@pytest.mark.parametrize("model", [Local, Declared])
def test_schema_translate_map_is_applied(schemas: Engine, model: type[Base]) -> None:
    """Sessions on engines with different schema_translate_maps reserve and write in their own
    schemas, in turn.
    """
    sessions = {
        schema: Session(schemas.execution_options(schema_translate_map={None: schema}))
        for schema in SCHEMAS
    }
    for _ in range(2):
        for schema, session in sessions.items():
            reports: list[FlushReport] = []
            register(session, copy_min_rows=1).on_flush(reports.append)
            objects = [model() for _ in range(3)]
            session.add_all(objects)
            session.flush()
            ids = [*reserve_ids(session, model, 3)]
            ids += [item.id for item in objects]  # type: ignore[attr-defined]  # both have it
            assert {owner(number) for number in ids} == {schema}
            assert reports[0].entries[0].writer == "copy"
            session.commit()
    for session in sessions.values():
        session.close()
    rows = written(schemas, model.__tablename__)
    assert {schema: len(found) for schema, found in rows.items()} == {"alpha": 6, "beta": 6}


def test_a_second_use_of_a_schema_costs_one_round_trip(schemas: Engine) -> None:
    """What was looked up for a translated schema is kept, so the next use takes one statement."""
    engines = [schemas.execution_options(schema_translate_map={None: schema}) for schema in SCHEMAS]
    for _ in range(2):
        with record_statements(schemas) as statements:
            for engine in engines:
                with Session(engine) as session:
                    reserve_ids(session, Local, 3)
    assert len(statements) == 2


def test_a_table_and_its_sequence_have_schemas(engine: Engine) -> None:
    """A flush and reserve_ids work on a table whose schema needs quoting and whose sequence is in
    another schema.
    """
    with engine.begin() as connection:
        connection.execute(text('CREATE SCHEMA "Far Away"'))
        connection.execute(text("CREATE SCHEMA counters"))
        Base.metadata.create_all(connection, [Remote.__table__])
    with Session(engine) as session:
        [explanation] = register(session, copy_min_rows=1).explain(engine, [Remote])
        assert (explanation.path, explanation.sequence) == ("copy", "counters.remote_seq")
        things = [Remote() for _ in range(3)]
        session.add_all(things)
        session.flush()
        assert [*reserve_ids(session, Remote, 2)] > [thing.id for thing in things]


def test_percent_signs_are_only_characters(engine: Engine) -> None:
    """Names with a percent sign work in reservations, by COPY and by INSERT."""
    Base.metadata.create_all(engine, [Percent.__table__])
    for copy_min_rows in (1, 1_000):
        with Session(engine) as session:
            reports: list[FlushReport] = []
            register(session, reserve="always", copy_min_rows=copy_min_rows).on_flush(
                reports.append
            )
            session.add_all([Percent(share=share) for share in range(3)])
            session.commit()
            [entry] = reports[0].entries
            assert entry.reserved == 3
            assert entry.writer == ("copy" if copy_min_rows == 1 else "insert")
    with engine.connect() as connection:
        shares = connection.scalars(text('SELECT "share %" FROM "100% sure" ORDER BY "% id"'))
        assert list(shares) == [0, 1, 2, 0, 1, 2]


def test_two_databases_never_share_what_was_looked_up(
    engine: Engine, clone_database, database_url: str
) -> None:
    """A session with two binds reserves for each class in the database of its table."""
    Base.metadata.create_all(engine, [Local.__table__, Declared.__table__])
    engine.dispose()
    other = create_engine(clone_database(database_url))
    with other.begin() as connection:
        connection.execute(text("ALTER TABLE local ALTER id RESTART 5000"))
    try:
        with Session(binds={Local: other, Declared: engine}) as session:
            ids = reserve_ids(session, {Local: 2, Declared: 2})
            assert ids[Local][0] == 5000
            assert ids[Declared][0] == 1
        with Session(engine) as session:
            assert reserve_ids(session, Local, 1)[0] == 1
    finally:
        other.dispose()
