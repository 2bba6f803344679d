"""INSERTs that an application compiles or executes by a compiler or a dialect of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.listeners import EACH_DRIVER, Base, Secret, masked
from fixtures.sides import Side, Way, both
from sqlalchemy import BindParameter, Engine, Insert, create_engine, select
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg, PGDialect_psycopg
from sqlalchemy.ext.compiler import compiles, deregister
from sqlalchemy.orm import Session

from sqla_seqreserve import bulk_insert, register, reserve_ids

WAYS = (
    Way("many rows", rows=300),
    Way("copy", {"copy_min_rows": 1}),
    Way("bulk_insert", as_mappings=True, rows=300),
)


@pytest.fixture(params=[(), ("postgresql",)], ids=["any", "postgresql"])
def compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """An application's INSERT that skips existing rows."""

    @compiles(Insert, *request.param)
    def over(insert: Any, compiler: Any, **options: Any) -> str:
        text: str = compiler.visit_insert(insert, **options)
        if "RETURNING" in text or "ON CONFLICT" in text:
            return text
        return f"{text} ON CONFLICT DO NOTHING"

    yield
    deregister(Insert)


@EACH_DRIVER
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.usefixtures("compiled")
def test_an_insert_that_the_application_compiles(
    twin_urls: tuple[str, str], way: Way, driver: str
) -> None:
    """If an application compiles INSERT with @compiles(Insert), rows that give their keys are
    written with its statements.
    """

    def trial(side: Side) -> Any:
        side.execute("INSERT INTO secret (id, number, word) VALUES (2, 1, 'was there')")

        def write(session: Session) -> None:
            rows = [
                {"id": n + 1, "number": n, "word": "new", "state": "-"} for n in range(way.rows)
            ]
            if way.as_mappings and side.registered:
                bulk_insert(session, Secret, rows, returning=None)
            elif way.as_mappings:
                session.execute(Insert(Secret.__table__), rows)
            else:
                session.add_all([Secret(**row) for row in rows])
            session.commit()

        side.run(write)
        return side.rows("SELECT id, word FROM secret ORDER BY id")

    stored = both(twin_urls, Base, trial, way=way, driver=driver)
    assert (len(stored), stored[1]) == (way.rows, (2, "was there"))


def test_an_insert_that_is_compiled_otherwise_elsewhere(engine: Engine) -> None:
    """@compiles(Insert) for another database leaves rows to COPY; one for PostgreSQL is noticed by
    the next flush.
    """
    Base.metadata.create_all(engine)
    seen = []
    with Session(engine) as session:
        registration = register(session, copy_min_rows=1)
        registration.on_flush(lambda report: seen.append(report.entries[0].writer))
        try:
            for number, name in enumerate(("sqlite", "postgresql")):
                compiles(Insert, name)(
                    lambda element, compiler, **options: compiler.visit_insert(element, **options)
                )
                session.add(Secret(number=number, word="a"))
                session.flush()
        finally:
            deregister(Insert)
        session.add(Secret(number=3, word="a"))
        session.flush()
    assert seen == ["copy", "orm", "copy"]


@EACH_DRIVER
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_value_that_the_application_compiles(
    twin_urls: tuple[str, str], way: Way, driver: str
) -> None:
    """If an application compiles values with @compiles(BindParameter), rows are stored with its
    values.
    """

    @compiles(BindParameter, "postgresql")
    def upper(element: Any, compiler: Any, **options: Any) -> str:
        text: str = compiler.visit_bindparam(element, **options)
        return f"upper({text})" if element.key == "word" else text

    def trial(side: Side) -> Any:
        rows = [{"number": n, "word": "hush"} for n in range(way.rows)]
        side.run(lambda session: (side.write(session, Secret, rows), session.commit()))
        return side.rows("SELECT id, number, word FROM secret ORDER BY id")

    try:
        stored = both(twin_urls, Base, trial, way=way, driver=driver)
    finally:
        deregister(BindParameter)
    assert {row[2] for row in stored} == {"HUSH"}


class _Shouting(PGCompiler_psycopg):
    """An application's compiler."""

    def visit_insert(self, insert_stmt: Any, *arguments: Any, **options: Any) -> str:
        text = super().visit_insert(insert_stmt, *arguments, **options)
        return text.replace("%(word)s::VARCHAR", "upper(%(word)s::VARCHAR)")


class Executing(PGDialect_psycopg):
    """An application's dialect."""

    supports_statement_cache = True

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        cursor.execute(statement, masked(parameters))


class Quiet(PGDialect_psycopg):
    """A dialect that changes nothing of statements."""

    supports_statement_cache = True

    def get_isolation_level(self, dbapi_connection: Any) -> Any:
        return super().get_isolation_level(dbapi_connection)


@pytest.mark.parametrize("settings", [{}, {"reserve": "always"}, {"copy_min_rows": 1}])
def test_a_dialect_of_the_application_executes_and_compiles(
    engine: Engine, settings: dict[str, Any]
) -> None:
    """INSERTs are executed by the application's dialect and compiled by its compiler; a dialect
    that changes no statement leaves rows to COPY.
    """
    Base.metadata.create_all(engine)
    for cls in (Executing, Quiet):
        registry.register(f"postgresql.{cls.__name__.lower()}", __name__, cls.__name__)
    writers = []
    for number, name in enumerate(("executing", "quiet", "psycopg")):
        own = create_engine(engine.url.set(drivername=f"postgresql+{name}"))
        if name == "psycopg":
            own.dialect.statement_compiler = _Shouting
        with Session(own) as session:
            register(session, **settings).on_flush(
                lambda report: writers.append(report.entries[0].writer)
            )
            session.add(Secret(number=number, word="hush"))
            session.commit()
            assert len(reserve_ids(session, Secret, 2)) == 2
            session.rollback()
        own.dispose()
    with Session(engine) as session:
        words = session.scalars(select(Secret.word).order_by(Secret.number)).all()
    assert words == ["*", "hush", "HUSH"]
    assert (writers[0], writers[2]) == ("orm", "orm")
    assert settings != {"copy_min_rows": 1} or writers[1] == "copy"
