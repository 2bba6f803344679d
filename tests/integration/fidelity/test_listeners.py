"""Whoever can see, change, replace or refuse a statement, beside stock SQLAlchemy: each way of
writing rows goes where they can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fixtures.sides import Side, Way, both, refusal
from sqlalchemy import BindParameter, Engine, ForeignKey, Insert, create_engine, event, select
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg, PGDialect_psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles, deregister
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import assign_ids, bulk_insert, bulk_upsert, register, reserve_ids
from sqla_seqreserve.errors import ConfigurationError

DRIVERS = ("psycopg", "psycopg2", "asyncpg")
EACH_DRIVER = pytest.mark.parametrize("driver", DRIVERS)


class Base(DeclarativeBase):
    pass


class Secret(Base):
    __tablename__ = "secret"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    word: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="new")


class Node(Base):
    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    children: Mapped[list[Node]] = relationship()


WAYS = (
    Way("one row", rows=1),
    Way("few rows", rows=3),
    Way("many rows", rows=300),
    Way("copy", {"copy_min_rows": 1}),
    Way("copy of one row", {"copy_min_rows": 1}, rows=1),
    Way("keys first", {"reserve": "always"}, rows=3),
    Way("keys kept", {"prefetch": 5}, rows=3),
    Way("reserve", {"mode": "reserve"}),
    Way("bulk_insert", as_mappings=True, rows=300),
    Way("bulk_insert of few", rows=3, as_mappings=True),
    Way("bulk_upsert", rows=300, as_mappings=True, upserts=True),
    Way("bulk_upsert of few", rows=3, as_mappings=True, upserts=True),
)


def target_of(side: Side) -> Any:
    return getattr(side.engine, "sync_engine", side.engine)


def masked(value: Any) -> Any:
    """The value with the secret taken out, at any depth."""
    if isinstance(value, dict):
        return {key: masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(masked, value))
    return "*" if value == "hush" else value


def refuse(engine: Any) -> None:
    @event.listens_for(engine, "before_execute")
    def frozen(_c: Any, clause: Any, _many: Any, _one: Any, _options: Any) -> None:
        if isinstance(clause, Insert) and clause.table.name == "secret":
            raise RuntimeError("secret is frozen")


def mask(engine: Any) -> None:
    @event.listens_for(engine, "before_execute", retval=True)
    def masks(_c: Any, clause: Any, many: Any, one: Any, _options: Any) -> Any:
        if isinstance(clause, Insert) and clause.table.name == "secret":
            return clause, masked(many), masked(one)
        return clause, many, one


def mask_parameters(engine: Any) -> None:
    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def masks(_c: Any, _cursor: Any, sql: str, parameters: Any, _ctx: Any, _many: bool) -> Any:
        return sql, masked(parameters)


def mask_by_name(engine: Any) -> None:
    @event.listens_for(engine, "before_cursor_execute", retval=True, named=True)
    def masks(**named: Any) -> Any:
        return named["statement"], masked(named["parameters"])


def comment(engine: Any) -> None:
    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def tag(_c: Any, _cursor: Any, sql: str, parameters: Any, _ctx: Any, _many: bool) -> Any:
        return f"{sql} -- from the shop", parameters


def execute(engine: Any) -> None:
    @event.listens_for(engine, "do_execute")
    def executes(cursor: Any, sql: str, parameters: Any, _context: Any) -> bool:
        cursor.execute(sql, masked(parameters))
        return True

    @event.listens_for(engine, "do_executemany")
    def executes_many(cursor: Any, sql: str, parameters: Any, _context: Any) -> bool:
        cursor.executemany(sql, masked(parameters))
        return True


LISTENERS = (refuse, mask, mask_parameters, mask_by_name, comment, execute)


def save(side: Side) -> Any:
    """Write rows in the side's way; what is said, and what is stored."""

    def write(session: Session) -> Any:
        rows = [{"number": n, "word": "hush"} for n in range(side.way.rows)]
        if side.way.upserts:
            rows = [{"id": row["number"] + 1, **row} for row in rows]
        keys = side.write(session, Secret, rows)
        session.commit()
        return keys

    try:
        said = side.run(write)
    except (DBAPIError, RuntimeError) as error:
        said = refusal(error)
    return said, side.rows("SELECT id, number, word, state FROM secret ORDER BY id")


@EACH_DRIVER
@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_whoever_changes_or_refuses_a_statement_is_heeded(
    twin_urls: tuple[str, str], way: Way, listener: Callable[[Any], None], driver: str
) -> None:
    """Whatever an engine's listener makes of an INSERT is stored, on each way and driver."""

    def trial(side: Side) -> Any:
        listener(target_of(side))
        return save(side)

    said, stored = both(twin_urls, Base, trial, way=way, driver=driver)
    if listener is refuse:
        assert (said[0], stored) == ("RuntimeError", [])
    else:
        word = "hush" if listener is comment else "*"
        assert [row[2] for row in stored] == [word] * way.rows
        # No id was taken for nothing.
        assert said == list(range(1, way.rows + 1))


@EACH_DRIVER
@pytest.mark.parametrize("listener", [mask, mask_parameters, execute])
def test_a_tree_is_written_in_an_order_that_its_keys_allow(
    twin_urls: tuple[str, str], listener: Callable[[Any], None], driver: str
) -> None:
    """A child that was added before its parent is inserted after it."""

    def trial(side: Side) -> Any:
        listener(target_of(side))

        def write(session: Session) -> None:
            root = Node(name="hush")
            leaves = [Node(name=f"leaf {n}") for n in range(30)]
            session.add_all(leaves)
            session.add(root)
            root.children = leaves
            session.commit()

        side.run(write)
        return side.rows("SELECT count(*), count(parent_id), count(DISTINCT parent_id) FROM node")

    assert both(twin_urls, Base, trial, way=WAYS[3], driver=driver) == [(31, 30, 1)]


@EACH_DRIVER
def test_children_of_a_message_are_not_commented_out(
    twin_urls: tuple[str, str], driver: str
) -> None:
    """A comment that a listener puts behind a statement reaches no further than this statement."""

    def trial(side: Side) -> Any:
        comment(target_of(side))

        def write(session: Session) -> None:
            session.add(Node(name="root", children=[Node(name=f"{n}") for n in range(3)]))
            session.add_all([Secret(number=n, word="a") for n in range(3)])
            session.commit()

        side.run(write)
        return side.rows("SELECT (SELECT count(*) FROM node), (SELECT count(*) FROM secret)")

    for way in (WAYS[1], WAYS[5]):
        assert both(twin_urls, Base, trial, way=way, driver=driver) == [(4, 3)]


@EACH_DRIVER
@pytest.mark.parametrize("way", [WAYS[1], WAYS[2], WAYS[3], WAYS[8]], ids=str)
def test_who_listens_to_after_execute_sees_every_row(
    twin_urls: tuple[str, str], way: Way, driver: str
) -> None:
    """The INSERTs that after_execute is told of hold all rows that were written."""

    def trial(side: Side) -> Any:
        seen: list[int] = []

        @event.listens_for(target_of(side), "after_execute")
        def sees(_c: Any, clause: Any, many: Any, _one: Any, _options: Any, _result: Any) -> None:
            if isinstance(clause, Insert):
                seen.append(len(many) or 1)

        return save(side), sum(seen)

    _, rows = both(twin_urls, Base, trial, way=way, driver=driver)
    assert rows == way.rows


@pytest.fixture(params=[(), ("postgresql",)], ids=["any", "postgresql"])
def compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """An application's INSERT, which passes over a row that is there."""

    @compiles(Insert, *request.param)
    def over(insert: Any, compiler: Any, **options: Any) -> str:
        text: str = compiler.visit_insert(insert, **options)
        if "RETURNING" in text or "ON CONFLICT" in text:
            return text
        return f"{text} ON CONFLICT DO NOTHING"

    yield
    deregister(Insert)


@EACH_DRIVER
@pytest.mark.parametrize("way", [WAYS[2], WAYS[3], WAYS[8]], ids=str)
@pytest.mark.usefixtures("compiled")
def test_an_insert_that_the_application_compiles(
    twin_urls: tuple[str, str], way: Way, driver: str
) -> None:
    """@compiles(Insert) makes the statements that write rows with keys of their own."""

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
    """@compiles(Insert) for another database leaves COPY to this one, and is noticed at once where
    it is for this.
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
def test_a_value_that_the_application_compiles(twin_urls: tuple[str, str], driver: str) -> None:
    """@compiles(BindParameter) writes the values of rows."""

    def trial(side: Side) -> Any:
        @compiles(BindParameter, "postgresql")
        def upper(element: Any, compiler: Any, **options: Any) -> str:
            text = compiler.visit_bindparam(element, **options)
            return f"upper({text})" if element.key == "word" else text

        try:
            return save(side)
        finally:
            deregister(BindParameter)

    _, stored = both(twin_urls, Base, trial, way=WAYS[3], driver=driver)
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
    """What a dialect or a compiler of the application's makes of an INSERT is stored; one that
    touches no statement leaves COPY as it is.
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


# Ids without rows


@EACH_DRIVER
@pytest.mark.parametrize("listener", LISTENERS)
def test_ids_are_reserved_whoever_listens(
    twin_urls: tuple[str, str], listener: Callable[[Any], None], driver: str
) -> None:
    """reserve_ids() and assign_ids() bring ids also where somebody else executes statements."""

    def trial(side: Side) -> Any:
        if not side.registered:
            return None
        listener(target_of(side))

        def work(session: Session) -> None:
            assert list(reserve_ids(session, Secret, 3)) == [1, 2, 3]
            both = reserve_ids(session, {Secret: 2, Node: 2})
            assert [list(ids) for ids in both.values()] == [[4, 5], [1, 2]]
            items = [Node(name="a"), Node(name="b")]
            assign_ids(session, items)
            assert [item.id for item in items] == [3, 4]
            session.add_all(items)
            session.commit()

        return side.run(work)

    both(twin_urls, Base, trial, driver=driver)


# Upserts


@EACH_DRIVER
@pytest.mark.parametrize("listener", [mask, mask_parameters, comment, execute])
@pytest.mark.parametrize("rows", [1, 3, 300])
def test_an_upsert_is_the_same_whoever_listens(
    twin_urls: tuple[str, str], rows: int, listener: Callable[[Any], None], driver: str
) -> None:
    """What is inserted, updated and left alone is as without a listener, each row with its key."""
    outcomes = []

    def trial(side: Side) -> None:
        side.execute(
            "INSERT INTO secret (number, word) VALUES (0, 'old'), (1, 'same')",
            "CREATE UNIQUE INDEX partly ON secret (number) WHERE number < 100000",
        )
        if side.registered:
            listener(target_of(side))

        def work(session: Session) -> Any:
            given = [{"number": n, "word": "same" if n == 1 else "hush"} for n in range(rows)]
            where = Secret.word != "same"
            done = bulk_upsert(
                session, Secret, given, conflict=["number"], where=where, returning="ids"
            )
            again = bulk_upsert(session, Secret, given, conflict="partly", update=())
            session.commit()
            found = {
                row.id: row.number for row in session.execute(select(Secret.id, Secret.number))
            }
            counts = [(one.inserted, one.updated, one.unchanged) for one in (done, again)]
            return counts, [found[key] for key in done.ids]

        counts, numbers = side.run(work)
        assert numbers == list(range(rows))
        outcomes.append(counts)
        stored = dict(side.rows("SELECT number, word FROM secret"))
        word = "hush" if listener is comment or not side.registered else "*"
        assert stored == {0: word, 1: "same", **dict.fromkeys(range(2, rows), word)}

    both(twin_urls, Base, trial, driver=driver)
    assert outcomes[0] == outcomes[1]


def test_an_upsert_of_the_same_row_twice_is_refused_whoever_listens(engine: Engine) -> None:
    """Two rows for one are refused, and nothing was written; so is a row that a listener refuses
    after others.
    """
    Base.metadata.create_all(engine)
    mask(engine)
    with Session(engine) as session:
        rows = [{"number": n % 2, "word": "a"} for n in range(3)]
        with pytest.raises(Exception, match="1 of 3 rows are for a row") as refused:
            bulk_upsert(session, Secret, rows, conflict=["number"])
        assert type(refused.value).__name__ == "InvalidRowsError"

        @event.listens_for(engine, "before_execute")
        def late(_c: Any, clause: Any, _many: Any, one: Any, _options: Any) -> None:
            if isinstance(clause, Insert) and one.get("number") == 1:
                raise RuntimeError("not this one")

        with pytest.raises(RuntimeError, match="not this one"):
            bulk_upsert(session, Secret, rows[:2], conflict=["number"])
        assert session.scalars(select(Secret)).all() == []


class Always(Base):
    __tablename__ = "always"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


def test_an_upsert_says_which_listener_keeps_it_from_a_key_that_is_always_generated(
    engine: Engine,
) -> None:
    """A key of GENERATED ALWAYS cannot be given to an INSERT, and the error names the listener."""
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE always ALTER id DROP DEFAULT")
        connection.exec_driver_sql("ALTER TABLE always ALTER id ADD GENERATED ALWAYS AS IDENTITY")
    mask(engine)
    with Session(engine) as session, pytest.raises(ConfigurationError, match="before_execute"):
        bulk_upsert(session, Always, [{"id": 1, "number": 1}], conflict=["id"])


# What is said of it


def test_explain_and_report_name_who_stands_in_the_way(engine: Engine) -> None:
    """The reason is the same in explain(), in the report of few rows and in that of many."""
    Base.metadata.create_all(engine)
    mask(engine)
    told = []
    with Session(engine) as session:
        registration = register(session)
        registration.on_flush(lambda report: told.extend(report.entries))
        for rows in (1, 3, 3000):
            session.add_all([Node(name=f"{n}") for n in range(rows)])
            session.commit()
    [explained] = registration.explain(engine, [Node])
    assert (explained.path, explained.copy_from) == ("orm", None)
    assert explained.remedy is not None
    assert {(entry.writer, entry.reason) for entry in told} == {("orm", explained.reason)}


def test_who_only_listens_leaves_copy_as_it_is(engine: Engine) -> None:
    """A before_cursor_execute listener that returns nothing costs no COPY."""
    Base.metadata.create_all(engine)
    seen: list[str] = []
    event.listen(
        engine, "before_cursor_execute", lambda _c, _cursor, sql, *_: seen.append(sql.split()[0])
    )
    with Session(engine) as session:
        register(session, copy_min_rows=1)
        session.add_all([Node(name=f"{n}") for n in range(9)])
        session.flush()
    assert seen[-1] == "COPY"


def test_an_observer_that_adds_comments_leaves_copy_as_it_is(engine: Engine) -> None:
    """OpenTelemetry's listener is registered as one that may change statements, and does not."""
    pytest.importorskip("opentelemetry.instrumentation.sqlalchemy")
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

    Base.metadata.create_all(engine)
    instrumentor = SQLAlchemyInstrumentor()
    instrumentor.instrument(engine=engine, enable_commenter=True, commenter_options={})
    told = []
    try:
        with Session(engine) as session:
            register(session, copy_min_rows=1).on_flush(
                lambda report: told.append(report.entries[0].writer)
            )
            session.add_all([Node(name=f"{n}") for n in range(9)])
            session.commit()
    finally:
        instrumentor.uninstrument()
    assert told == ["copy"]


def test_an_upsert_that_is_listened_to_locks_rows_in_the_order_of_the_index(engine: Engine) -> None:
    """So that two upserts of the same rows do not dead-lock, as without a listener."""
    Base.metadata.create_all(engine)
    sent: list[int] = []

    @event.listens_for(engine, "before_execute")
    def sees(_c: Any, clause: Any, _many: Any, one: Any, _options: Any) -> None:
        if isinstance(clause, Insert) and clause.table.name == "secret":
            sent.append(one["number"])

    with Session(engine) as session:
        rows = [{"number": n, "word": "a"} for n in (3, 1, 2)]
        done = bulk_upsert(session, Secret, rows, conflict=["number"], returning="objects")
        assert [item.number for item in done.objects] == [3, 1, 2]
    assert sent == [1, 2, 3]


@pytest.mark.parametrize("rows", [3, 300])
def test_an_upsert_of_a_partitioned_table_counts_whoever_listens(engine: Engine, rows: int) -> None:
    """A partitioned table shows no xmin, and what is new is told all the same."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE node (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, "
            "name text NOT NULL, parent_id int) PARTITION BY HASH (id)"
        )
        connection.exec_driver_sql(
            "CREATE TABLE node_1 PARTITION OF node FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
        )
        connection.exec_driver_sql("INSERT INTO node VALUES (2, 'old')")
    mask(engine)
    with Session(engine) as session:
        given = [{"id": n + 1, "name": "new"} for n in range(rows)]
        done = bulk_upsert(session, Node, given, conflict=["id"], returning="ids")
        assert (done.inserted, done.updated, done.unchanged) == (rows - 1, 1, 0)
        assert list(done.ids) == list(range(1, rows + 1))
