"""COMMIT in the message of the flush that ``commit()`` began: counted on the wire, and compared
with plain SQLAlchemy wherever something can happen between the flush and its COMMIT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, ClassVar

import psycopg
import pytest
from fixtures.sides import Side, Way, both, refusal
from sqlalchemy import (
    DateTime,
    Engine,
    ForeignKey,
    Identity,
    UniqueConstraint,
    create_engine,
    event,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    sessionmaker,
)

from sqla_seqreserve import FlushReport, register
from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.testing import Wire, round_trips


class Base(DeclarativeBase):
    pass


# A schema is named, so that ids are kept on every PostgreSQL.
class Author(Base):
    __tablename__ = "author"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("number", deferrable=True, initially="DEFERRED"),
        {"schema": "public"},
    )
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str]
    number: Mapped[int | None]
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "book"
    __table_args__: ClassVar[Any] = {"schema": "public"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    title: Mapped[str | None] = mapped_column(unique=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("public.author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


class Note(Base):
    __tablename__ = "note"
    __table_args__: ClassVar[Any] = {"schema": "public"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    words: Mapped[str]


class Dated(Base):
    __tablename__ = "dated"
    __table_args__: ClassVar[Any] = {"schema": "public"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(True), server_default=func.now())
    state: Mapped[str] = mapped_column(server_default="new")
    word: Mapped[str | None]


def dated() -> list[Any]:
    return [Dated(word="a")]


def one() -> list[Any]:
    return [Author(name="one")]


def family() -> list[Any]:
    return [Author(name="parent", books=[Book(title=None), Book(title=None)])]


def three_classes() -> list[Any]:
    several = [Author(name=str(n)) for n in range(16)]
    books = [Book(title=None, author=author) for author in several]
    return [*several, *books, *(Note(words=str(n)) for n in range(18))]


# Round trips


@pytest.fixture
def wire(engine: Engine, database_url: str) -> Iterator[Wire]:
    Base.metadata.create_all(engine)
    # Not on the same machine: there the work of a statement counts for more than its round trip.
    with round_trips(database_url, round_trip_time=0.002) as wire:
        yield wire


def counted(wire: Wire, act: Callable[[Session], object], settings: dict[str, Any] | None) -> Any:
    """The fourth time of an act on an engine, each in a session of its own; ``None``: plain."""
    engine = create_engine(wire.url)
    for _ in range(4):
        with Session(engine) as session:
            if settings is not None:
                register(session, **settings)
            session.connection()
            with wire.counting() as count:
                act(session)
    engine.dispose()
    return count


def saving(objects: Callable[[], list[Any]]) -> Callable[[Session], None]:
    def save(session: Session) -> None:
        session.add_all(objects())
        session.commit()

    return save


def reading(session: Session) -> None:
    session.get(Author, 1)
    session.commit()


def reading_and_writing(session: Session) -> None:
    author = session.get(Author, 1)
    if author is None:
        author = Author(id=1, name="first")
        session.add(author)
    author.name += "."
    session.add(Note(words="changed"))
    session.commit()


@pytest.mark.parametrize(
    ("act", "settings", "plain", "expected"),
    [
        (saving(one), {}, 3, 1),
        (saving(one), {"prefetch": 200}, 3, 1),
        (saving(dated), {}, 3, 1),
        (saving(one), {"commit": "apart"}, 3, 2),
        (saving(family), {}, 4, 2),
        (saving(three_classes), {}, 5, 2),
        (saving(three_classes), {"prefetch": 200}, 5, 1),
        (saving(three_classes), {"commit": "apart"}, 5, 3),
        (reading, {}, 3, 2),
        (reading_and_writing, {}, 5, 3),
    ],
)
def test_a_save_takes_so_many_round_trips(
    wire: Wire, act: Any, settings: dict[str, Any], plain: int, expected: int
) -> None:
    """COMMIT takes no round trip of its own where it may travel along, and one where it may not or
    should not.
    """
    stock = counted(wire, act, None)
    assert stock.round_trips == plain, stock
    ours = counted(wire, act, settings)
    assert ours.round_trips == expected, ours


# What can happen between the flush and its COMMIT

SHAPES = {"one": one, "family": family, "three classes": three_classes}
WAYS = {"along": Way("along"), "kept": Way("kept", {"prefetch": 200})}
TABLES = ("public.author", "public.book", "public.note")


def left(session: Session, objects: list[Any]) -> list[Any]:
    """The state of each object, and what the session thinks of itself."""
    found: list[Any] = []
    for item in objects:
        state = inspect(item)
        flags = (state.transient, state.pending, state.persistent, state.deleted, state.detached)
        found.append((type(item).__name__, flags, state.identity is None, item in session))
    return [*found, session.is_active, session.in_transaction(), len(session.new)]


def trial(
    shape: Callable[[], list[Any]],
    prepare: Callable[[Session, list[Any], list[Any]], Any] | None = None,
    *,
    warm: int = 3,
    between: tuple[str, ...] = (),
    before: Callable[[Session], object] | None = None,
    commit: Callable[[Session], object] = Session.commit,
) -> Callable[[Side], Any]:
    """Saves until all is known, then once more while something happens; returns what was heard,
    said and left.

    :param prepare: gets the session, its objects, and a list for what is heard.
    :param between: statements that another session executes before the last save.
    """

    def run(side: Side) -> Any:
        for _ in range(warm):
            side.run(saving(shape))
        side.execute(*between)
        heard: list[Any] = []

        def save(session: Session) -> Any:
            objects = shape()
            if before is not None:
                before(session)
            session.add_all(objects)
            remove = prepare(session, objects, heard) if prepare is not None else None
            said: Any = None
            try:
                commit(session)
            except (SQLAlchemyError, RuntimeError, psycopg.Error) as error:
                said = refusal(error), str(error).splitlines()[0]
                if isinstance(error, SQLAlchemyError):
                    said = refusal(error), getattr(error, "statement", None) is None
            after = left(session, objects)
            if callable(remove):
                remove()
            try:
                session.rollback()
                again = left(session, objects)
                read = [getattr(item, "id", None) is None for item in objects if item in session]
            except SQLAlchemyError as error:
                return said, after, refusal(error)
            return said, after, again, read

        outcome = side.run(save)
        rows = [side.rows(f"SELECT count(*) FROM {table}") for table in TABLES]
        return outcome, heard, rows

    return run


def travelled(urls: tuple[str, str], way: Way, run: Any, driver: str = "psycopg") -> bool:
    """Both sides' outcome, which is the same; and whether the last COMMIT of ours travelled."""
    committed: list[bool] = []

    def watched(side: Side) -> Any:
        found = run(side)
        if side.registered:
            committed.append(bool(side.reports) and side.reports[-1].committed)
        return found

    both(urls, Base, watched, way=way, driver=driver)
    return committed[-1]


EACH = [
    pytest.param(way, shape, id=f"{way}-{shape}".replace(" ", "-"))
    for way in WAYS
    for shape in SHAPES
]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
@pytest.mark.parametrize(("way", "shape"), EACH)
def test_a_save_leaves_what_plain_sqlalchemy_leaves(
    twin_urls: tuple[str, str], driver: str, way: str, shape: str
) -> None:
    """With nobody in between the COMMIT travels, and objects, session and rows are as ever."""
    run = trial(SHAPES[shape])
    committed = travelled(twin_urls, WAYS[way], run, driver)
    # Near the server a family's INSERTs may go one after the other.
    assert committed or (way, shape) == ("along", "family")


def session_listener(name: str, act: str) -> Callable[[Session, list[Any], list[Any]], Any]:
    """What listens to an event of the session: takes notes, and acts."""

    def prepare(session: Session, objects: list[Any], heard: list[Any]) -> Any:
        done = False

        def listener(*_args: Any) -> None:
            nonlocal done
            heard.append((name, len(session.new), session.in_transaction()))
            if done:
                return
            done = True
            if act == "raise":
                raise RuntimeError(name)
            if act == "execute":
                session.execute(text("INSERT INTO public.note (words) VALUES ('heard')"))
            if act == "add":
                session.add(Note(words="added"))
            if act == "flush":
                session.flush()
                raise RuntimeError(f"{name} after a flush")

        event.listen(session, name, listener)
        return lambda: event.remove(session, name, listener)

    return prepare


SESSION_EVENTS = [
    *((name, act) for name in ("after_flush", "after_flush_postexec") for act in ("raise", "add")),
    ("after_flush", "execute"),
    ("before_commit", "raise"),
    ("before_commit", "flush"),
    ("before_commit", "add"),
    ("pending_to_persistent", "raise"),
    ("after_transaction_end", "note"),
    ("after_transaction_create", "note"),
    ("after_commit", "note"),
    ("after_commit", "raise"),
    ("before_flush", "add"),
    ("before_flush", "raise"),
]


@pytest.mark.parametrize(("name", "act"), SESSION_EVENTS)
@pytest.mark.parametrize(("way", "shape"), [EACH[0], EACH[3], EACH[5]])
def test_a_listener_of_the_session_acts_as_ever(
    twin_urls: tuple[str, str], way: str, shape: str, name: str, act: str
) -> None:
    """Whoever hears of a session between its flush and the COMMIT may still refuse, or write."""
    run = trial(SHAPES[shape], session_listener(name, act))
    travelled(twin_urls, WAYS[way], run)


def engine_listener(name: str, act: str) -> Callable[[Session, list[Any], list[Any]], Any]:
    """What listens to an event of the session's connections, likewise."""

    def prepare(session: Session, objects: list[Any], heard: list[Any]) -> Any:
        engine, count = session.get_bind(), 0

        def listener(*args: Any) -> None:
            nonlocal count
            if name.endswith("cursor_execute"):
                if "pg_attribute" in args[2] or "nextval(" in args[2]:
                    return
                heard.append((name, args[2].partition("(")[0]))
            else:
                heard.append(name)
            count += 1
            if act == "raise" or (act == "raise on the second" and count == 2):
                raise RuntimeError(name)

        event.listen(engine, name, listener)
        return lambda: event.remove(engine, name, listener)

    return prepare


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("commit", "note"),
        ("commit", "raise"),
        ("rollback", "note"),
        ("begin", "note"),
        ("before_cursor_execute", "note"),
        ("before_cursor_execute", "raise"),
        ("before_cursor_execute", "raise on the second"),
        ("after_cursor_execute", "note"),
        ("after_cursor_execute", "raise"),
        ("after_cursor_execute", "raise on the second"),
    ],
)
@pytest.mark.parametrize(("way", "shape"), [EACH[0], EACH[3], EACH[4]])
def test_a_listener_of_the_engine_acts_as_ever(
    twin_urls: tuple[str, str], way: str, shape: str, name: str, act: str
) -> None:
    """Whoever hears of a statement, or of the COMMIT, may still refuse it, and hears of it once."""
    run = trial(SHAPES[shape], engine_listener(name, act))
    travelled(twin_urls, WAYS[way], run)


def of_mapper(name: str, act: str) -> Callable[[Session, list[Any], list[Any]], Any]:
    """What listens to an event of a mapper or of its objects, likewise."""

    def prepare(session: Session, objects: list[Any], heard: list[Any]) -> Any:
        def listener(*args: Any) -> None:
            heard.append(name)
            if act == "raise":
                raise RuntimeError(name)
            if act == "execute":
                args[1].execute(text("INSERT INTO public.note (words) VALUES ('heard')"))
            if act == "add" and heard.count(name) == 1:
                session.add(Note(words="added"))

        event.listen(Author, name, listener)
        return lambda: event.remove(Author, name, listener)

    return prepare


@pytest.mark.filterwarnings("ignore:Usage of the 'Session.add")
@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("after_insert", "raise"),
        ("after_insert", "execute"),
        ("before_insert", "raise"),
        ("before_insert", "execute"),
        ("before_insert", "add"),
        ("refresh_flush", "raise"),
        ("expire", "note"),
    ],
)
@pytest.mark.parametrize(("way", "shape"), [EACH[0], EACH[3], EACH[4]])
def test_a_listener_of_a_class_acts_as_ever(
    twin_urls: tuple[str, str], way: str, shape: str, name: str, act: str
) -> None:
    """Whoever hears of an object that is inserted may still refuse it, or write beside it."""
    run = trial(SHAPES[shape], of_mapper(name, act))
    travelled(twin_urls, WAYS[way], run)


NO_ROWS = (
    "CREATE FUNCTION no_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TRIGGER no_row BEFORE INSERT ON public.author FOR EACH ROW EXECUTE FUNCTION no_row()",
)
LATE = (
    "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN RAISE check_violation USING MESSAGE = ''late''; END'",
    "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON public.author DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION late()",
)
REFUSALS = {
    "a trigger that discards rows": NO_ROWS,
    "a constraint trigger at the end": LATE,
    "a check": ("ALTER TABLE public.author ADD CHECK (name = '') NOT VALID",),
    "a rule": ("CREATE RULE nothing AS ON INSERT TO public.author DO INSTEAD NOTHING",),
    "a table that is gone": ("DROP TABLE public.author CASCADE",),
    "another column": ("ALTER TABLE public.author ADD COLUMN more int DEFAULT 5",),
    "a column that is gone": ("ALTER TABLE public.author DROP COLUMN number",),
}


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
@pytest.mark.parametrize("change", REFUSALS)
@pytest.mark.parametrize(("way", "shape"), [EACH[0], EACH[3], EACH[4]])
def test_what_the_database_refuses_is_refused_as_ever(
    twin_urls: tuple[str, str], driver: str, way: str, shape: str, change: str
) -> None:
    """An error comes from where it comes in plain SQLAlchemy, and nothing of the save is there;
    what was altered since it was looked at is noticed in the message itself.
    """
    saves = trial(SHAPES[shape], between=REFUSALS[change])

    def run(side: Side) -> Any:
        try:
            return saves(side)
        except SQLAlchemyError as error:
            # The table cannot be counted.
            return refusal(error)

    travelled(twin_urls, WAYS[way], run, driver)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE public.dated ALTER at SET DEFAULT 'infinity'",
        "ALTER TABLE public.dated ALTER at SET DEFAULT clock_timestamp() + '9999 years'",
        "ALTER TABLE public.dated ALTER state DROP NOT NULL, ALTER state SET DEFAULT NULL",
        "ALTER TABLE public.dated ALTER state SET DEFAULT 'old'",
        "ALTER TABLE public.dated ALTER id DROP IDENTITY, ALTER id SET DEFAULT 7",
    ],
)
def test_a_default_that_nobody_can_read_is_refused_as_ever(
    twin_urls: tuple[str, str], change: str
) -> None:
    """What comes back of a row is looked at before the COMMIT where it may be refused."""
    run = trial(dated, between=(change,))

    def counted_too(side: Side) -> Any:
        return run(side), side.rows("SELECT state FROM public.dated")

    travelled(twin_urls, WAYS["along"], counted_too)


def numbered(number: int) -> Callable[[], list[Any]]:
    return lambda: [Author(name="numbered", number=number)]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
@pytest.mark.parametrize("way", WAYS)
def test_a_deferred_constraint_is_heard_of_from_commit(
    twin_urls: tuple[str, str], driver: str, way: str
) -> None:
    """The error is that of the COMMIT, of no statement, when the objects are persistent already;
    the session goes on after a rollback, and the connection after it.
    """

    def run(side: Side) -> Any:
        numbers = iter(range(100))
        shape = lambda: [Author(name="a", number=next(numbers))]  # noqa: E731  # short
        for _ in range(3):
            side.run(saving(shape))
        outcomes = [trial(numbered(number), warm=0)(side) for number in (1, 50, 50)]
        side.run(saving(one))
        with side.beside() as connection:
            count = connection.scalar(text("SELECT count(*) FROM public.author"))
        return outcomes, count

    assert travelled(twin_urls, WAYS[way], run, driver)


def read_first(session: Session) -> None:
    session.execute(text("SELECT 1"))


def savepoint(session: Session) -> None:
    session.begin_nested()


def in_block(session: Session) -> None:
    """The transaction of a ``with`` block ends as commit() does."""
    transaction = session.get_transaction()
    assert transaction is not None
    with transaction:
        pass


@pytest.mark.parametrize(
    ("before", "commit"),
    [
        (read_first, Session.commit),
        (savepoint, Session.commit),
        (Session.begin, in_block),
        (None, Session.flush),
        (lambda session: session.begin_nested(), Session.flush),
    ],
)
@pytest.mark.parametrize(("way", "shape"), [EACH[0], EACH[3], EACH[5]])
def test_a_transaction_ends_as_ever(
    twin_urls: tuple[str, str], way: str, shape: str, before: Any, commit: Any
) -> None:
    """Transactions that were begun before, savepoints, blocks, and a flush alone, after which
    nothing is committed.
    """
    run = trial(SHAPES[shape], before=before, commit=commit)
    travelled(twin_urls, WAYS[way], run)


# What is asked for, and what is told


def test_explain_says_whether_the_commit_travels(engine: Engine) -> None:
    """It does, or the reason is named: the setting, the driver, a listener of the session or of the
    engine.
    """
    Base.metadata.create_all(engine)
    factory = sessionmaker(engine)
    registration = register(factory)
    assert str(registration.explain(engine, [Note])).endswith(
        "COMMIT: with the last message of a flush"
    )

    def reason(bind: Engine = engine) -> str:
        lines = str(register(factory, **settings).explain(bind, [Note])).partition("COMMIT: ")[2]
        return " ".join(lines.split())

    settings: dict[str, Any] = {"commit": "apart"}
    assert reason() == 'by itself: commit is "apart"'
    settings = {}
    psycopg2 = create_engine(engine.url.set(drivername="postgresql+psycopg2"))
    assert reason(psycopg2) == "by itself: psycopg2 sends COMMIT in a round trip of its own here"
    psycopg2.dispose()

    def listener(*_args: Any) -> None:
        pass

    for target, name in ((factory, "after_flush"), (engine, "after_cursor_execute")):
        event.listen(target, name, listener)
        assert reason() == f"by itself: a listener to {name} may act before the COMMIT"
        event.remove(target, name, listener)
    assert reason() == "with the last message of a flush"


def test_commit_is_along_or_apart(engine: Engine) -> None:
    """Another word is refused when it is registered."""
    with pytest.raises(ConfigurationError, match="commit"):
        register(sessionmaker(engine), commit="with")  # type: ignore[arg-type]  # refused


def test_a_callback_that_fails_after_the_commit_is_logged(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The rows are there, so that the flush cannot fail any more."""
    Base.metadata.create_all(engine)

    def fail(_report: FlushReport) -> None:
        raise RuntimeError("callback")

    with Session(engine) as session:
        register(session, reserve="always").on_flush(fail)
        session.add(Note(words="a"))
        session.commit()
        assert "callback" in caplog.text
        session.add(Note(words="b"))
        with pytest.raises(RuntimeError, match="callback"):
            session.flush()
        session.rollback()
        assert session.scalars(select(Note.words)).all() == ["a"]


def test_the_log_and_the_events_of_a_commit_are_where_they_were(
    twin_urls: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """BEGIN, INSERT and COMMIT are logged once, in this order; so are the session's own events."""

    def run(side: Side) -> Any:
        for _ in range(3):
            side.run(saving(one))
        heard: list[str] = []

        def save(session: Session) -> None:
            for name in ("after_begin", "after_commit"):
                event.listen(session, name, lambda *_, name=name: heard.append(name))
            session.add(Author(name="logged"))
            with caplog.at_level("INFO", "sqlalchemy.engine"):
                caplog.clear()
                session.commit()
            lines = [record.getMessage().split()[0] for record in caplog.records]
            heard.extend(line for line in lines if line.isupper())

        side.run(save)
        return heard

    assert both(twin_urls, Base, run, way=WAYS["along"]) == [
        "after_begin",
        "after_commit",
        "BEGIN",
        "INSERT",
        "COMMIT",
    ]
