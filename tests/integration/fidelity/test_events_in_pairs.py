"""Engine events come in pairs: "before" of a statement, then its "after" or its error; then those
of the next statement. Agents keep a span open between the two.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fixtures.sides import Side, Way, both, refusal
from sqlalchemy import Column, ForeignKey, Table, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

DRIVERS = ["psycopg", "psycopg2", "psycopg_async", "asyncpg"]
WAYS = [Way("default"), Way("always", {"reserve": "always"}), Way("copy", {"copy_min_rows": 1})]


class Base(DeclarativeBase):
    pass


tagged = Table(
    "tagged",
    Base.metadata,
    Column("book_id", ForeignKey("book.id"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list[Book]] = relationship()


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(unique=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey(Author.id))
    tags: Mapped[list[Tag]] = relationship(secondary=tagged)


def table_of(statement: str) -> str | None:
    """The table that a statement writes to, with what it does there."""
    found = re.search(r"(INSERT INTO|UPDATE|DELETE FROM|COPY) (\w+)", statement)
    if found is None or "LOCK TABLE" in statement:
        return None
    kind = {"COPY": "INSERT INTO"}.get(found[1], found[1])
    return f"{kind} {found[2]}"


@contextmanager
def told(side: Side) -> Iterator[list[tuple[str, str | None]]]:
    """The events of the engine's statements in their order; "begins within" is an error."""
    engine = side.engine.sync_engine if isinstance(side.engine, AsyncEngine) else side.engine
    heard: list[tuple[str, str | None]] = []
    open_: list[Any] = []

    def before(_c: Any, _cursor: Any, statement: str, _p: Any, context: Any, _m: bool) -> None:
        heard.append(("begins within" if open_ else "before", table_of(statement)))
        open_.append(context)

    def after(_c: Any, _cursor: Any, statement: str, _p: Any, context: Any, _m: bool) -> None:
        assert open_.pop() is context
        heard.append(("after", table_of(statement)))

    def failed(context: Any) -> None:
        if context.execution_context is not None:
            assert open_.pop() is context.execution_context
            heard.append(("failed", table_of(context.statement)))

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(engine, "handle_error", failed)
    yield heard
    event.remove(engine, "before_cursor_execute", before)
    event.remove(engine, "after_cursor_execute", after)
    event.remove(engine, "handle_error", failed)
    assert not open_


def authors(count: int, start: int = 0) -> list[Author]:
    return [
        Author(name=f"a{number}", books=[Book(title=f"b{number}")])
        for number in range(start, start + count)
    ]


def new(session: Session) -> None:
    session.add_all(authors(2))
    session.commit()


def new_and_changed(session: Session) -> None:
    """New objects, changed and deleted ones, and links, in one flush."""
    old = authors(3)
    tags = [Tag(name="t0"), Tag(name="t1")]
    old[0].books[0].tags = list(tags)
    session.add_all(old)
    session.commit()
    old[1].name = "changed"
    old[1].books[0].title = "changed"
    old[0].books[0].tags = [tags[1], Tag(name="t2")]
    session.delete(old[2].books[0])
    more = authors(2, 10)
    more[0].books[0].tags = [tags[0], Tag(name="t3")]
    session.add_all(more)
    session.commit()


def new_beside_a_handler(session: Session) -> None:
    """A mapper's event executes a statement of its own while rows are written."""

    def look(_mapper: Any, connection: Any, _target: Any) -> None:
        connection.execute(text("SELECT 1"))

    for name in ("before_insert", "after_insert"):
        event.listen(Book, name, look)
    try:
        session.add_all(authors(2))
        session.commit()
    finally:
        for name in ("before_insert", "after_insert"):
            event.remove(Book, name, look)


def new_beside_an_update(session: Session) -> None:
    """The ORM looks for orphans and sets NULL where a child lost its parent."""
    [first] = authors(1)
    session.add(first)
    session.commit()
    first.books = [Book(title="another")]
    session.add(Tag(name="t"))
    session.commit()


SCENARIOS = [new, new_and_changed, new_beside_a_handler, new_beside_an_update]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize("driver", DRIVERS)
def test_no_statement_begins_within_another(
    twin_urls: tuple[str, str], driver: str, scenario: Any, way: Way
) -> None:
    """Each "before" is followed by the "after" of the same statement, whatever is written."""

    def trial(side: Side) -> Any:
        with told(side) as heard:
            side.run(scenario)
        assert [entry for entry in heard if entry[0] == "begins within"] == []
        return sorted({entry for entry in heard if entry[1] is not None})

    both(twin_urls, Base, trial, way=way, driver=driver)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("refused", ["author", "book", "tag"])
def test_a_refused_statement_is_the_last_that_begins(
    twin_urls: tuple[str, str], driver: str, refused: str
) -> None:
    """Statements behind a refused one are not executed, and fire no events."""

    def trial(side: Side) -> Any:
        side.execute(
            "INSERT INTO author (id, name) VALUES (-1, 'taken')",
            "INSERT INTO book (id, title) VALUES (-1, 'taken')",
            "INSERT INTO tag (id, name) VALUES (-1, 'taken')",
        )

        def name(table: str) -> str:
            return "taken" if table == refused else "free"

        def saving(session: Session) -> Any:
            book = Book(title=name("book"))
            session.add(Author(name=name("author"), books=[book]))
            session.add(Tag(name=name("tag")))
            with pytest.raises(DBAPIError) as raised:
                session.commit()
            return refusal(raised.value)

        with told(side) as heard:
            outcome = side.run(saving)
        return outcome, [entry for entry in heard if entry[1] is not None]

    _, heard = both(twin_urls, Base, trial, way=WAYS[1], driver=driver)
    assert heard[-2:] == [
        ("before", f"INSERT INTO {refused}"),
        ("failed", f"INSERT INTO {refused}"),
    ]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("table", ["author", "book", "tag"])
@pytest.mark.parametrize("when", ["before_cursor_execute", "after_cursor_execute"])
def test_a_listener_that_raises_fails_the_flush(
    twin_urls: tuple[str, str], driver: str, table: str, when: str
) -> None:
    """If a listener raises an error for any statement, the flush raises it, and nothing is
    committed.
    """

    class NotAllowedError(Exception):
        pass

    def trial(side: Side) -> Any:
        engine = side.engine.sync_engine if isinstance(side.engine, AsyncEngine) else side.engine

        heard: list[Any] = []

        def failed(context: Any) -> None:
            heard.append(("failed", table_of(context.statement)))

        def guard(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if table_of(statement) is not None:
                heard.append((when, table_of(statement)))
            if table_of(statement) == f"INSERT INTO {table}":
                raise NotAllowedError(table)

        def saving(session: Session) -> Any:
            session.add(Author(name="a", books=[Book(title="b")]))
            session.add(Tag(name="t"))
            with pytest.raises(NotAllowedError):
                session.commit()
            session.rollback()
            session.add(Tag(name="next"))
            event.remove(engine, when, guard)
            session.commit()

        event.listen(engine, when, guard)
        event.listen(engine, "handle_error", failed)
        side.run(saving)
        event.remove(engine, "handle_error", failed)
        return (
            heard,
            side.rows("SELECT name FROM tag"),
            side.rows("SELECT name FROM author"),
        )

    _, tags, found = both(twin_urls, Base, trial, way=WAYS[1], driver=driver)
    assert (tags, found) == ([("next",)], [])


@pytest.mark.parametrize("driver", DRIVERS)
def test_echo_shows_the_statements_in_their_order(
    twin_urls: tuple[str, str], driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    """echo logs a statement, then its parameters, one statement after the other."""
    caplog.set_level(logging.INFO, logger="sqlalchemy.engine")

    def trial(side: Side) -> Any:
        side.run(lambda session: session.connection())
        caplog.clear()
        side.run(new)
        return [
            table
            for table in map(table_of, (record.getMessage() for record in caplog.records))
            if table is not None
        ]

    assert both(twin_urls, Base, trial, way=WAYS[1], driver=driver) == [
        "INSERT INTO author",
        "INSERT INTO book",
    ]
