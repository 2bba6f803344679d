"""``insert(M)`` with rows of which some have no value for a column: one statement where NULL says
the same, and as many as plain SQLAlchemy's where it does not.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from fixtures.seeds import seed
from fixtures.sides import ASYNC_DRIVERS, SYNC_DRIVERS, Way, both, told_and_left
from sqlalchemy import (
    JSON,
    Engine,
    Enum,
    ForeignKey,
    Integer,
    String,
    TypeDecorator,
    create_engine,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    composite,
    mapped_column,
    sessionmaker,
)

from sqla_seqreserve import register
from sqla_seqreserve._sqlalchemy.persistence import IN_ORDER

DRIVERS = (*SYNC_DRIVERS, *ASYNC_DRIVERS)
WAYS = (Way("default settings"), Way("from one row", {"copy_min_rows": 1}))


class Base(DeclarativeBase):
    pass


class Shouted(TypeDecorator[str]):
    """A type of the application's to which None is a word."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str:
        return "NOTHING" if value is None else value.upper()


class Sheet(Base):
    """Columns that may be NULL, and what may fill them."""

    __tablename__ = "sheet"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int | None]
    word: Mapped[str | None]
    renamed: Mapped[str | None] = mapped_column("other name")
    declared: Mapped[str | None] = mapped_column(server_default="declared")
    made: Mapped[str | None] = mapped_column(default=lambda: "made")
    filled: Mapped[str | None]
    document: Mapped[Any] = mapped_column(JSON, nullable=True)
    sparse: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)
    shouted: Mapped[str | None] = mapped_column(Shouted)


class Kind(Base):
    __tablename__ = "kind"
    id: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str | None]
    word: Mapped[str | None]
    version: Mapped[int] = mapped_column(Integer)
    __mapper_args__: ClassVar[Any] = {
        "polymorphic_on": "type",
        "polymorphic_identity": "kind",
        "version_id_col": version,
    }


class Following(Base):
    """Each row is numbered by those before it."""

    __tablename__ = "following"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str | None]
    place: Mapped[int] = mapped_column(default=text("(SELECT count(*) FROM following)"))


@dataclasses.dataclass
class Span:
    first: int | None
    last: int | None


class Spanning(Base):
    """Has columns that are given as one attribute."""

    __tablename__ = "spanning"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str | None]
    first: Mapped[int | None] = mapped_column(default=1)
    last: Mapped[int | None] = mapped_column(server_default="9")
    span: Mapped[Span] = composite("first", "last")


class Varying(Base):
    """Has types that are others on PostgreSQL."""

    __tablename__ = "varying"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str | None]
    document: Mapped[Any] = mapped_column(
        JSON(none_as_null=True).with_variant(JSONB(), "postgresql"), nullable=True
    )
    shouted: Mapped[str | None] = mapped_column(String().with_variant(Shouted(), "postgresql"))


class Looking(Base):
    """A default looks at what its row gives."""

    __tablename__ = "looking"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str | None]
    seen: Mapped[bool] = mapped_column(
        default=lambda context: "word" in context.get_current_parameters()
    )


class Node(Base):
    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    word: Mapped[str | None]


class Other(Base):
    __tablename__ = "other"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    word: Mapped[str | None]


class Choosing(Base):
    __tablename__ = "choosing"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str | None]
    choice: Mapped[str] = mapped_column(Enum("yes", "no", name="choice", validate_strings=True))


# Of which the model does not know.
FILLED = (
    "CREATE DOMAIN greeting AS text DEFAULT 'hello'",
    "ALTER TABLE sheet ALTER filled SET DEFAULT 'filled'",
    'ALTER TABLE sheet ALTER "other name" TYPE greeting',
)
TRIGGER = (
    """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.word := coalesce(NEW.word, 'triggered'); RETURN NEW; END $$""",
    "CREATE TRIGGER note BEFORE INSERT ON sheet FOR EACH ROW EXECUTE FUNCTION note()",
)
COUNTING = (
    """CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO kind (type, word, version) VALUES ('kind', 'statement', 1);
    RETURN NULL; END $$""",
    "CREATE TRIGGER tell AFTER INSERT ON sheet FOR EACH STATEMENT EXECUTE FUNCTION tell()",
)
TABLES = ("sheet", "kind")


def rows(drawn: int, count: int = 150) -> list[dict[str, Any]]:
    """Rows each of which gives some columns, leaves others out and has NULL for others."""
    values = random.Random(drawn)
    keys = ("word", "renamed", "declared", "made", "filled", "document", "sparse", "shouted")

    def row(number: int) -> dict[str, Any]:
        found: dict[str, Any] = {"number": number}
        for key in keys:
            draw = values.random()
            if draw < 0.4:
                found[key] = f"{key} {number}"
            elif draw < 0.7:
                found[key] = None
        return found

    return [row(number) for number in range(count)]


def compared(
    urls: tuple[str, str],
    driver: str,
    act: Callable[[Session], Any],
    *ddl: str,
    way: Way = WAYS[0],
    tables: tuple[str, ...] = TABLES,
) -> None:
    both(
        urls,
        Base,
        lambda side: told_and_left(side, act, tables),
        way=way,
        driver=driver,
        ddl=ddl,
    )


@pytest.mark.parametrize("ddl", [(), FILLED, TRIGGER, COUNTING], ids=["", "filled", "row", "each"])
@pytest.mark.parametrize("returns", [False, True], ids=["", "returning"])
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("driver", DRIVERS)
def test_every_row_is_what_plain_sqlalchemy_writes(
    twin_urls: tuple[str, str],
    driver: str,
    way: Way,
    returns: bool,
    ddl: tuple[str, ...],
) -> None:
    """Defaults of the model and of the database fill what a row does not give, JSON's null and a
    type's own None are what they were, and rows keep their order.
    """

    drawn = seed()

    def act(session: Session) -> Any:
        given = rows(drawn)
        found: Any = None
        if returns:
            statement = insert(Sheet).returning(Sheet.id, Sheet.number, **IN_ORDER)
            found = [tuple(row) for row in session.execute(statement, given)]
        else:
            session.execute(insert(Sheet), given)
        session.execute(insert(Kind), [{"word": str(i) if i % 2 else None} for i in range(40)])
        session.commit()
        assert given == rows(drawn)
        return found

    compared(twin_urls, driver, act, *ddl, way=way)


def act_of_each_kind(session: Session) -> None:
    words = ["w" if i % 2 else None for i in range(40)]
    spans = (Span(1, None), Span(None, 2), Span(3, 4))
    given = [{"word": word, "span": spans[i % 3]} for i, word in enumerate(words)]
    session.execute(insert(Spanning), given)
    session.execute(insert(Varying), [{"word": "w", "document": word} for word in words])
    session.execute(insert(Varying), [{"word": "w", "shouted": word} for word in words])
    session.execute(insert(Looking), [{"word": word} for word in words])
    session.commit()


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_a_row_does_not_give_is_not_given_by_a_detour(
    twin_urls: tuple[str, str], driver: str
) -> None:
    """By an attribute of several columns, by the type that a database has instead, or to a default
    that looks.
    """
    compared(twin_urls, driver, act_of_each_kind, tables=("spanning", "varying", "looking"))


@pytest.mark.parametrize("returns", [False, True], ids=["", "returning"])
@pytest.mark.parametrize("driver", SYNC_DRIVERS)
def test_a_row_cannot_refer_to_one_after_it(
    twin_urls: tuple[str, str], driver: str, returns: bool
) -> None:
    def act(session: Session) -> Any:
        given = [
            {"id": i, "parent_id": min(i + 1, 39), "word": "w" if i % 2 else None}
            for i in range(40)
        ]
        statement = insert(Node).returning(Node.id) if returns else insert(Node)
        try:
            session.execute(statement, given)
        except IntegrityError as error:
            session.rollback()
            return type(error.orig)
        session.commit()
        return None

    def trial(side: Any) -> Any:
        found, _, rows = told_and_left(side, act, ("node",))
        return found, rows

    both(twin_urls, Base, trial, way=WAYS[0], driver=driver)


@pytest.mark.parametrize("returns", [False, True], ids=["", "returning"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_rows_before_a_value_that_its_type_refuses_are_there(
    twin_urls: tuple[str, str], driver: str, returns: bool
) -> None:
    def act(session: Session) -> Any:
        given = [
            {"word": "w" if i % 2 else None, "choice": "yes" if i != 30 else "perhaps"}
            for i in range(40)
        ]
        statement = insert(Choosing).returning(Choosing.id) if returns else insert(Choosing)
        with pytest.raises(StatementError) as raised:
            session.execute(statement, given)
        session.commit()
        return type(raised.value), raised.value.params

    compared(twin_urls, driver, act, tables=("choosing",))


@pytest.mark.parametrize("of_statement", [False, True], ids=["execution", "statement"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_map_of_the_statement_leads_to_another_table(
    twin_urls: tuple[str, str], driver: str, of_statement: bool
) -> None:
    ddl = (
        "CREATE SCHEMA tenant",
        "CREATE TABLE tenant.other (LIKE other INCLUDING ALL)",
        "ALTER TABLE tenant.other ALTER word SET DEFAULT 'of the tenant'",
    )
    options: Any = {"schema_translate_map": {None: "tenant"}}

    def act(session: Session) -> Any:
        given = [{"id": i, "word": "w" if i % 2 else None} for i in range(40)]
        if of_statement:
            session.execute(insert(Other).execution_options(**options), given)
        else:
            session.execute(insert(Other), given, execution_options=options)
        found = session.execute(text("SELECT id, word FROM tenant.other ORDER BY id"))
        return [tuple(row) for row in found]

    compared(twin_urls, driver, act, *ddl, tables=())


@pytest.mark.parametrize("rows", [[[("word", "w")], {"number": 1}] * 20, [(1, 2)] * 20])
def test_rows_may_be_whatever_makes_a_dict(twin_urls: tuple[str, str], rows: list[Any]) -> None:
    def act(session: Session) -> Any:
        try:
            session.execute(insert(Sheet), rows)
        except TypeError as error:
            return str(error)
        session.commit()
        return None

    compared(twin_urls, "psycopg", act)


def statements_of(url: str, given: list[dict[str, Any]], statement: Any = None) -> int:
    """The INSERTs of one execution by a registered session."""
    engine = create_engine(url)
    sessions = sessionmaker(engine)
    register(sessions)
    seen: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(*told: Any) -> None:
        if told[2].startswith("INSERT"):
            seen.append(told[2])

    with sessions() as session:
        session.execute(insert(Sheet) if statement is None else statement, given)
        session.rollback()
    engine.dispose()
    return len(seen)


ALTERNATING = [{"number": i, "word": "w" if i % 2 else None} for i in range(60)]
DEFAULTED = [{"number": i, "filled": "f" if i % 2 else None} for i in range(60)]


@pytest.mark.parametrize(
    ("given", "ddl", "expected"),
    [
        (ALTERNATING, (), 1),
        ([{k: v for k, v in row.items() if v is not None} for row in ALTERNATING], (), 1),
        (DEFAULTED, (), 1),
        (DEFAULTED, FILLED, 60),
        ([{"number": i, "declared": "f" if i % 2 else None} for i in range(60)], (), 60),
        ([{"number": i, "shouted": "f" if i % 2 else None} for i in range(60)], (), 60),
        (ALTERNATING, COUNTING, 60),
        (ALTERNATING[:8], (), 8),
        ([{"number": i, "word": "w" if i < 30 else None} for i in range(60)], (), 2),
    ],
)
def test_one_statement_where_null_says_the_same(
    engine: Engine,
    database_url: str,
    given: list[dict[str, Any]],
    ddl: tuple[str, ...],
    expected: int,
) -> None:
    """Rows that are NULL here and there are one INSERT, unless somebody fills the column in, or
    counts statements.
    """
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for each in ddl:
            connection.exec_driver_sql(each)
    assert statements_of(database_url, given) == expected


@pytest.mark.parametrize(
    "statement",
    [
        insert(Sheet).values(word="given"),
        pg_insert(Sheet).on_conflict_do_nothing(),
    ],
    ids=["values", "conflict"],
)
def test_a_statement_that_says_more_is_left_alone(
    engine: Engine, database_url: str, statement: Any
) -> None:
    Base.metadata.create_all(engine)
    assert statements_of(database_url, ALTERNATING, statement) == len(ALTERNATING)


def test_a_default_that_looks_at_the_rows_before_sees_them(
    engine: Engine, database_url: str
) -> None:
    Base.metadata.create_all(engine)
    given = [{"word": "w" if i % 2 else None} for i in range(60)]
    assert statements_of(database_url, given, insert(Following)) == len(given)


def test_a_default_that_comes_in_between_is_seen(engine: Engine, database_url: str) -> None:
    """What was known of the table is compared under the lock that INSERT takes."""
    Base.metadata.create_all(engine)
    ours = create_engine(database_url)
    sessions = sessionmaker(ours)
    register(sessions)

    def words() -> set[Any]:
        with sessions() as session:
            session.execute(insert(Sheet), DEFAULTED)
            found = {row.filled for row in session.query(Sheet.filled)}
            session.rollback()
        return found

    assert words() == {"f", None}
    with engine.begin() as connection:
        connection.exec_driver_sql(FILLED[1])
    assert words() == {"f", "filled"}
    ours.dispose()


def test_sessions_that_are_not_registered_are_left_alone(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    register(sessionmaker(engine))
    seen = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(*told: Any) -> None:
        seen.append(told[2])

    with Session(engine) as session:
        session.execute(insert(Sheet), ALTERNATING)
        session.rollback()
    assert len(seen) == len(ALTERNATING)


@pytest.mark.parametrize("by_clause", [False, True], ids=["argument", "clause"])
def test_the_table_that_is_looked_at_is_the_one_that_is_written(
    twin_urls: tuple[str, str], by_clause: bool
) -> None:
    """SQLAlchemy inserts rows by the connection of the class, whatever the statement says."""
    written, other = (create_engine(url) for url in twin_urls)

    class Routed(Session):
        def get_bind(self, mapper: Any = None, **told: Any) -> Any:
            if by_clause and told.get("clause") is not None:
                return other
            return super().get_bind(mapper, **told)

    for each in (written, other):
        Other.metadata.drop_all(each)
        Other.metadata.create_all(each)
    with written.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE other ALTER word SET DEFAULT 'written'")
    sessions = sessionmaker(written, class_=Routed)
    register(sessions)
    given = [{"id": i, "word": "w" if i % 2 else None} for i in range(40)]
    with sessions() as session:
        session.execute(insert(Other), given, bind_arguments={} if by_clause else {"bind": other})
        session.commit()
    with written.connect() as connection:
        words = connection.execute(select(Other.word).distinct()).scalars()
        assert set(words) == {"w", "written"}
    for each in (written, other):
        Other.metadata.drop_all(each)
        each.dispose()
