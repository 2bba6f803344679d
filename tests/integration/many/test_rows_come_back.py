"""INSERTs of many rows that SQLAlchemy sends in pages of ``VALUES``: those that return values, and
all of them on psycopg2.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import pytest
from fixtures.sides import ASYNC_DRIVERS, SYNC_DRIVERS, Side, Way, both, refusal, told_and_left
from sqlalchemy import (
    CheckConstraint,
    Computed,
    Engine,
    FetchedValue,
    ForeignKey,
    Identity,
    Numeric,
    SmallInteger,
    bindparam,
    create_engine,
    event,
    func,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import register
from sqla_seqreserve._sqlalchemy.persistence import IN_ORDER
from sqla_seqreserve.testing import round_trips

pytestmark = pytest.mark.skipif(
    not IN_ORDER, reason="the pages of SQLAlchemy before 2.0.10 are in no certain order"
)

DRIVERS = (*SYNC_DRIVERS, *ASYNC_DRIVERS)
MANY = 60
EVERY = pytest.mark.parametrize("driver", DRIVERS)
WAYS = pytest.mark.parametrize(
    "way", [Way("from one row", {"copy_min_rows": 1}), Way("default settings")], ids=str
)


class Base(DeclarativeBase):
    pass


class Part(Base):
    __tablename__ = "part"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int | None]
    name: Mapped[str | None] = mapped_column(unique=True)
    price: Mapped[Decimal | None] = mapped_column(Numeric(9, 2))
    made: Mapped[str] = mapped_column(server_default="here")
    twice: Mapped[int | None] = mapped_column(Computed("number * 2"))
    filled: Mapped[int | None] = mapped_column(default=lambda: 7)


class Tree(Base):
    """Rows that refer to each other."""

    __tablename__ = "tree"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("tree.id"))


class Token(Base):
    """A key that Python makes."""

    __tablename__ = "token"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    number: Mapped[int]


class Marked(Base):
    """A trigger fills one of its columns."""

    __tablename__ = "marked"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    mark: Mapped[str | None] = mapped_column(server_default=FetchedValue())


class Quoted(Base):
    """Names that need quotes, and a key that the server always gives."""

    __tablename__ = "a table"
    id: Mapped[int] = mapped_column("The Id", Identity(always=True), primary_key=True)
    number: Mapped[int] = mapped_column("a number")


class Down(Base):
    """Keys that decrease."""

    __tablename__ = "down"
    id: Mapped[int] = mapped_column(Identity(start=-1, increment=-1), primary_key=True)
    number: Mapped[int] = mapped_column("a number")


class Apart(Base):
    """A table in partitions."""

    __tablename__ = "apart"
    __table_args__: Any = {"postgresql_partition_by": "LIST (part)"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    part: Mapped[int] = mapped_column(primary_key=True)


class Small(Base):
    """A key that soon has no value left."""

    __tablename__ = "small"
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    number: Mapped[int] = mapped_column(CheckConstraint("number <> 249"))


DDL = (
    "CREATE TABLE apart_0 PARTITION OF apart FOR VALUES IN (0)",
    "CREATE TABLE apart_1 PARTITION OF apart FOR VALUES IN (1)",
    "ALTER SEQUENCE small_id_seq AS bigint",
)

MARKING = (
    """CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.mark := 'm' || NEW.number; RETURN NEW; END $$""",
    "CREATE TRIGGER mark BEFORE INSERT ON marked FOR EACH ROW EXECUTE FUNCTION mark()",
)

Act = Callable[[Session], Any]


def rows(count: int = MANY) -> list[dict[str, Any]]:
    return [
        {"number": -i, "name": f"n'{{}}\"\\{i}" if i % 3 else None, "price": Decimal(i) / 8}
        for i in range(count)
    ]


def many(start: int = 0) -> list[dict[str, Any]]:
    """Rows for COPY."""
    return [{"number": i, "name": f"n{start + i}", "price": Decimal(i) / 8} for i in range(250)]


def compared(urls: tuple[str, str], driver: str, way: Way, act: Act, *ddl: str) -> Any:
    """The act's result and rows, which must be the same on both sides."""

    def trial(side: Side) -> Any:
        return told_and_left(side, act, ["part", "tree", "marked", "(SELECT number FROM token)"])

    return both(urls, Base, trial, way=way, driver=driver, ddl=ddl)


def act_keys(session: Session) -> Any:
    found = session.execute(insert(Part).returning(Part.id, **IN_ORDER), rows())
    return list(found.keys()), [tuple(row) for row in found]


def act_columns(session: Session) -> Any:
    statement = insert(Part).returning(Part.number, Part.made, Part.twice.label("two"), Part.id)
    found = session.execute(statement, rows(), execution_options={"render_nulls": True})
    return [dict(row) for row in found.mappings()]


def act_objects(session: Session) -> Any:
    found = session.scalars(insert(Part).returning(Part, **IN_ORDER), rows())
    parts = found.all()
    assert all(part in session for part in parts)
    return [(p.id, p.number, p.name, p.made, p.twice, p.filled) for p in parts]


def act_core(session: Session) -> Any:
    table = Part.__table__
    found = session.execute(insert(table).returning(table.c.id, table.c.made), rows())
    return [tuple(row) for row in found]


def act_expressions(session: Session) -> Any:
    table = Part.__table__
    statement = insert(table).values(number=bindparam("n") + 1).returning(table.c.number + 5)
    found = [tuple(row) for row in session.execute(statement, [{"n": i} for i in range(MANY)])]
    counted = select(func.count()).select_from(Part).scalar_subquery()
    statement = insert(Part).returning(Part.id, counted, literal("x%(y)s"), func.upper(Part.made))
    return found, [tuple(row) for row in session.execute(statement, rows())]


def act_conflict(session: Session) -> Any:
    session.execute(insert(Part), rows()[:9])
    statement = pg_insert(Part).on_conflict_do_nothing().returning(Part.number)
    return [tuple(row) for row in session.execute(statement, rows())]


def act_tree(session: Session) -> Any:
    given = [{"id": i, "parent_id": i - 1 if i else None} for i in range(MANY)]
    options = {"render_nulls": True}
    return list(session.scalars(insert(Tree).returning(Tree.id), given, execution_options=options))


def act_made_keys(session: Session) -> Any:
    statement = insert(Token).returning(Token.number, Token.id, **IN_ORDER)
    found = session.execute(statement, [{"number": i} for i in range(MANY)])
    return [row.number for row in found]


def act_marked(session: Session) -> Any:
    statement = insert(Marked).returning(Marked.mark)
    return list(session.scalars(statement, [{"number": i} for i in range(MANY)]))


def act_without(session: Session) -> Any:
    session.execute(insert(Part), rows(250), execution_options={"render_nulls": True})
    session.execute(insert(Part.__table__), [{"number": i} for i in range(250)])
    session.bulk_insert_mappings(Part, [{"number": i} for i in range(250)])
    session.bulk_insert_mappings(Part, [{"number": i} for i in range(250)], return_defaults=True)
    session.bulk_save_objects([Part(number=i) for i in range(250)])
    return len(session.scalars(select(Part)).all())


def act_keys_of_many(session: Session) -> Any:
    plain = session.scalars(insert(Part).returning(Part.id), many())
    found = session.execute(insert(Part).returning(Part.id, **IN_ORDER), many(1000))
    named = session.execute(insert(Part).returning(Part.id.label("a b"), Part.id), many(2000))
    table = Part.__table__
    core = session.execute(insert(table).returning(table.c.id), [{"number": i} for i in range(250)])
    return (
        sorted(plain),
        (found.all(), list(found.keys())),
        (sorted(named.mappings().all(), key=str), list(named.keys())),
        (sorted(core), core.rowcount),
    )


def act_other_keys(session: Session) -> Any:
    rows = [{"number": i} for i in range(250)]
    statement = insert(Quoted).returning(Quoted.id, **IN_ORDER)
    down = session.scalars(insert(Down).returning(Down.id), rows)
    kept = session.scalars(insert(Apart).returning(Apart.id), [{"part": i % 2} for i in range(250)])
    return session.scalars(statement, rows).all(), sorted(down), sorted(kept)


def act_given_keys(session: Session) -> Any:
    rows = [{"id": 5000 - i, "number": i} for i in range(250)]
    found = session.scalars(insert(Part).returning(Part.id, **IN_ORDER), rows).all()
    unsorted = session.scalars(
        insert(Part).returning(Part.id), [{**row, "id": row["id"] + 1000} for row in rows]
    )
    return found, sorted(unsorted)


def act_mapped_keys(session: Session) -> Any:
    parts = [Part(number=i) for i in range(250)]
    session.bulk_save_objects(parts, return_defaults=True)
    given: list[dict[str, Any]] = [{"number": i} for i in range(250)]
    session.bulk_insert_mappings(Part, given, return_defaults=True)
    return [part.id for part in parts], given


ACTS: Mapping[str, Act] = {
    name.removeprefix("act_"): act for name, act in globals().items() if name.startswith("act_")
}


@EVERY
@WAYS
@pytest.mark.parametrize("name", ACTS)
def test_what_comes_back(twin_urls: tuple[str, str], driver: str, way: Way, name: str) -> None:
    """The returned and the stored rows are plain SQLAlchemy's, in its order."""

    def act(session: Session) -> Any:
        found = ACTS[name](session)
        session.commit()
        return found

    compared(twin_urls, driver, way, act, *DDL, *MARKING)


@EVERY
def test_a_refused_row(twin_urls: tuple[str, str], driver: str) -> None:
    """If the server refuses a row, the error is plain SQLAlchemy's, and no row is stored."""

    def act(session: Session) -> Any:
        statement = insert(Part).returning(Part.id)
        try:
            session.execute(statement, [{"name": f"n{i % 50}"} for i in range(MANY)])
        except DBAPIError as error:
            session.rollback()
            return refusal(error), error.statement is not None, session.scalars(select(Part)).all()

    compared(twin_urls, driver, Way("default settings"), act)


@pytest.mark.parametrize("problem", ["the key", "a check", "a value"])
@EVERY
def test_a_refused_row_of_copy(twin_urls: tuple[str, str], driver: str, problem: str) -> None:
    """Where COPY writes the rows whose keys come back, a refusal is plain SQLAlchemy's too, and the
    session goes on after its rollback.
    """

    def act(session: Session) -> Any:
        rows: list[dict[str, Any]] = [{"number": i} for i in range(249)]
        if problem == "the key":
            session.execute(text("SELECT setval('small_id_seq', 32600)"))
            session.commit()
        if problem == "a check":
            rows += rows
            rows[300]["number"] = 249
        if problem == "a value":
            rows[100]["number"] = 2**40
        try:
            session.scalars(insert(Small).returning(Small.id), rows).all()
        except DBAPIError as error:
            session.rollback()
            left = session.scalars(select(Small.number)).all()
            session.scalars(insert(Small).returning(Small.number), [{"number": 7}]).all()
            return refusal(error), left
        return None

    found = compared(twin_urls, driver, Way("default settings"), act, *DDL)
    assert found is not None


@pytest.mark.parametrize("option", ["stream_results", "yield_per"])
@EVERY
@WAYS
def test_a_streamed_result(twin_urls: tuple[str, str], driver: str, way: Way, option: str) -> None:
    """With an option that streams the result, the keys, or the error of a driver that cannot stream
    them, are plain SQLAlchemy's.
    """

    def act(session: Session) -> Any:
        given = [{"number": i} for i in range(250)]
        statement = insert(Part).returning(Part.id).execution_options(**{option: 10})
        return sorted(session.scalars(statement, given))

    compared(twin_urls, driver, way, act)


@pytest.mark.parametrize("option", ["stream_results", "yield_per"])
@WAYS
def test_objects_on_a_streaming_connection(
    twin_urls: tuple[str, str], way: Way, option: str
) -> None:
    """On a connection of asyncpg that streams results, many objects are saved."""

    def act(session: Session) -> Any:
        session.connection(execution_options={option: 10})
        parts = [Part(number=i) for i in range(250)]
        session.add_all(parts)
        session.flush()
        return [part.id for part in parts]

    assert compared(twin_urls, "asyncpg", way, act)[0] == list(range(1, 251))


@EVERY
def test_a_type_that_was_altered_meanwhile(twin_urls: tuple[str, str], driver: str) -> None:
    """The remembered facts of the table are compared; if they have changed, SQLAlchemy sends its
    pages.
    """

    def act(session: Session) -> Any:
        statement = insert(Part).returning(Part.number, Part.id)
        session.execute(statement, rows())
        session.commit()
        session.execute(text("ALTER TABLE part ALTER made TYPE char(9)"))
        session.execute(text("ALTER TABLE part ADD CHECK (number <> 9)"))
        session.commit()
        given = [{"number": i} for i in range(100, 100 + MANY)]
        found = [tuple(row) for row in session.execute(statement, given)]
        session.commit()
        return found

    compared(twin_urls, driver, Way("default settings"), act)


@pytest.mark.parametrize(
    ("driver", "statement", "plain", "ours"),
    [
        # Of 5,000 rows in an open transaction. Pages hold 1,000 rows.
        ("psycopg", insert(Part).returning(Part.id), 5, 3),
        ("psycopg", insert(Part).returning(Part.number, **IN_ORDER), 5, 1),
        ("psycopg2", insert(Part).returning(Part.id, **IN_ORDER), 5, 3),
        ("psycopg2", insert(Part).returning(Part, **IN_ORDER), 5, 1),
        ("psycopg2", insert(Part), 5, 3),
    ],
)
def test_round_trips(
    engine: Engine, database_url: str, driver: str, statement: Any, plain: int, ours: int
) -> None:
    """All rows travel at once: in one round trip if values are returned, in three by COPY."""
    Base.metadata.create_all(engine)
    found = []
    with round_trips(database_url) as wire:
        for registered in (False, True):
            beside = create_engine(wire.url.set(drivername=f"postgresql+{driver}"))
            for time in (1, 2):
                with Session(beside) as session:
                    if registered:
                        register(session)
                    session.execute(text("SELECT 1"))
                    # The first is not counted, which takes 20 ms a message.
                    with contextlib.nullcontext() if time < 2 else wire.counting() as count:
                        session.execute(statement, [{"price": Decimal(i)} for i in range(5_000)])
                    session.rollback()
            assert count is not None
            found.append(count.round_trips)
            beside.dispose()
    assert found == [plain, ours]


@pytest.mark.parametrize("driver", SYNC_DRIVERS)
def test_listeners_hear_of_a_pair(engine: Engine, database_url: str, driver: str) -> None:
    """Listeners are called before and after the statement, with the parameters of every row; a
    statement that one returns is used for each page.
    """
    Base.metadata.create_all(engine)
    beside = create_engine(engine.url.set(drivername=f"postgresql+{driver}"))
    heard: list[tuple[str, int]] = []

    @event.listens_for(beside, "before_cursor_execute")
    def before(*arguments: Any) -> None:
        if arguments[2].startswith("INSERT"):
            heard.append(("before", len(arguments[3])))

    @event.listens_for(beside, "after_cursor_execute")
    def after(*arguments: Any) -> None:
        if arguments[2].startswith("INSERT"):
            heard.append(("after", len(arguments[3])))

    def insert_many() -> list[int | None]:
        with Session(beside) as session:
            register(session)
            given = [{"number": i} for i in range(MANY)]
            return list(session.scalars(insert(Part).returning(Part.number), given))

    assert insert_many() == list(range(MANY))
    assert heard == [("before", MANY), ("after", MANY)]

    @event.listens_for(beside, "before_cursor_execute", retval=True)
    def negative(*arguments: Any) -> Any:
        parameters = arguments[3]
        if arguments[2].startswith("INSERT"):
            parameters = dict.fromkeys(parameters, -1)
        return arguments[2], parameters

    assert set(insert_many()) == {-1}
    beside.dispose()
