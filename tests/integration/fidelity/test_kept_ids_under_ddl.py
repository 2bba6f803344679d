"""``prefetch``: kept ids are used only as long as the facts hold by which they were taken. After
another session alters a table, the flush saves as plain SQLAlchemy.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from fixtures.sides import DRIVERS, Side, Way, both, refusal
from sqlalchemy import Engine, ForeignKey, Identity, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


# With a schema in its name, ids are kept on every version of PostgreSQL.
class Author(Base):
    __tablename__ = "author"
    __table_args__: ClassVar[Any] = {"schema": "public"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str | None]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("public.author.id"))
    parent: Mapped[Author | None] = relationship(remote_side="Author.id")
    books: Mapped[list[Book]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "book"
    __table_args__: ClassVar[Any] = {"schema": "public"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    title: Mapped[str | None]
    author_id: Mapped[int] = mapped_column(ForeignKey("public.author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


FUNCTION = """
    CREATE FUNCTION public.renumber() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN NEW.id := 1000 + nextval('public.{0}_id_seq'); RETURN NEW; END$$"""
TRIGGER = """CREATE TRIGGER renumber BEFORE INSERT ON public.{0}
    FOR EACH ROW EXECUTE FUNCTION public.renumber()"""

CHANGES = {
    "a trigger": (FUNCTION, TRIGGER),
    "GENERATED ALWAYS": ("ALTER TABLE public.{0} ALTER id SET GENERATED ALWAYS",),
    "another sequence": (
        "ALTER TABLE public.{0} ALTER id DROP IDENTITY",
        "CREATE SEQUENCE public.{0}_other START 5000",
        "ALTER TABLE public.{0} ALTER id SET DEFAULT nextval('public.{0}_other')",
    ),
    "bigint": ("ALTER TABLE public.{0} ALTER id TYPE bigint",),
    "made anew": (
        "CREATE TABLE public.{0}_new (LIKE public.{0} INCLUDING ALL)",
        "DROP TABLE public.{0} CASCADE",
        "ALTER TABLE public.{0}_new RENAME TO {0}",
    ),
    "a column": ("ALTER TABLE public.{0} ADD COLUMN more text DEFAULT 'more'",),
}

WAYS = (
    Way("prefetch", {"prefetch": 20}),
    Way("prefetch and reserve always", {"prefetch": 20, "reserve": "always"}),
    Way("prefetch and mode reserve", {"prefetch": 20, "mode": "reserve"}),
    Way("prefetch and copy", {"prefetch": 20, "copy_min_rows": 1}),
)


def library(prefix: str) -> list[Any]:
    one = Author(name=f"{prefix} one", books=[Book(title=f"{prefix} a"), Book(title=f"{prefix} b")])
    return [one, Author(name=f"{prefix} two")]


def tree(prefix: str) -> list[Any]:
    root = Author(name=f"{prefix} root")
    return [Author(name=f"{prefix} leaf", parent=root), root]


def single(prefix: str) -> list[Any]:
    return [Author(name=f"{prefix} alone")]


SHAPES = {"one object": single, "two classes": library, "a tree": tree}

STORED = """
    SELECT a.name, p.name, b.title FROM public.author a
    LEFT JOIN public.author p ON p.id = a.parent_id LEFT JOIN public.book b ON b.author_id = a.id
    ORDER BY 1, 2, 3"""


def altered_between(
    shape: Any, table: str, change: str, *, opened: bool = False, prepare: Any = None
) -> Any:
    """A trial that saves, alters a table in another session, and saves twice more."""

    def trial(side: Side) -> Any:
        def save(prefix: str) -> Any:
            def saving(session: Session) -> Any:
                if prepare is not None:
                    prepare(session)
                if opened:
                    session.execute(text("CREATE TEMP TABLE IF NOT EXISTS mine (n int)"))
                    session.execute(text("INSERT INTO mine VALUES (1)"))
                objects = shape(prefix)
                session.add_all(objects)
                try:
                    session.flush()
                except SQLAlchemyError as error:
                    return refusal(error)
                found = [
                    session.scalar(
                        text("SELECT name FROM public.author WHERE id = :id"), {"id": one.id}
                    )
                    for one in objects
                ]
                mine = session.scalar(text("SELECT count(*) FROM mine")) if opened else None
                session.commit()
                return found, mine

            return side.run(saving)

        said = [save("before"), save("kept")]
        side.execute(*(statement.format(table) for statement in CHANGES[change]))
        said += [save("after"), save("later")]
        # Whether rows were written and below which parent; a session's own temporary table stays.
        return said, side.rows(STORED)

    return trial


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("opened", [False, True], ids=["new transaction", "open transaction"])
@pytest.mark.parametrize("change", ["a trigger", "GENERATED ALWAYS"])
@pytest.mark.parametrize("way", WAYS[:2], ids=str)
def test_a_table_that_was_altered(
    twin_urls: tuple[str, str], way: Way, change: str, opened: bool, driver: str
) -> None:
    """After another session alters a table, rows have the keys of their objects, on every driver,
    and earlier rows stay.
    """
    trial = altered_between(library, "author", change, opened=opened)
    both(twin_urls, Base, trial, way=way, driver=driver)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("table", ["author", "book"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_objects_of_every_shape(
    twin_urls: tuple[str, str], way: Way, change: str, table: str, shape: str
) -> None:
    """After another session alters a table, one object, several classes and trees are saved with
    the keys of their rows.
    """
    both(twin_urls, Base, altered_between(SHAPES[shape], table, change), way=way)


def saved_beside(side: Side, act: Any) -> Any:
    """The result of a session's act with kept ids, after a table got a trigger."""

    def saving(session: Session) -> Any:
        session.add_all(library("before"))
        session.commit()

    def acting(session: Session) -> Any:
        try:
            said = act(session)
            session.commit()
        except SQLAlchemyError as error:
            session.rollback()
            return refusal(error)
        return said

    side.run(saving)
    side.run(saving)
    for change in CHANGES["a trigger"]:
        side.execute(change.format("author"))
    return side.run(acting), side.rows(STORED)


def changing(session: Session) -> Any:
    """An act that changes and deletes objects beside those that it adds."""
    for author in session.query(Author).order_by(Author.id).limit(2):
        author.name = f"{author.name}, changed"
    session.delete(session.query(Book).order_by(Book.id).limit(1).one())
    added = library("beside")
    session.add_all(added)
    session.flush()
    return [session.get(Author, one.id) is one for one in added]


def within_a_savepoint(session: Session) -> Any:
    """An act whose objects are added in a savepoint, after others."""
    session.execute(text("SELECT 1"))
    with session.begin_nested():
        session.add_all(library("inner"))
        session.flush()
    session.add_all(library("outer"))
    session.flush()
    return session.scalar(text("SELECT count(*) FROM public.author"))


def refused(session: Session) -> Any:
    """An act whose first flush is refused, and whose second one is not."""
    try:
        with session.begin_nested():
            session.add(Book(title="without an author"))
            session.flush()
    except SQLAlchemyError as error:
        said = refusal(error)
    session.add_all(library("then"))
    session.flush()
    return said


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("act", [changing, within_a_savepoint, refused])
@pytest.mark.parametrize("way", WAYS[:2], ids=str)
def test_beside_other_work(twin_urls: tuple[str, str], way: Way, act: Any, driver: str) -> None:
    """After another session alters a table, flushes with changes and deletions, in savepoints and
    after an error save as plain SQLAlchemy.
    """
    both(twin_urls, Base, lambda side: saved_beside(side, act), way=way, driver=driver)


@pytest.mark.parametrize("name", ["before_insert", "after_insert", "before_update"])
@pytest.mark.parametrize("way", WAYS[:2], ids=str)
def test_mapper_events_fire_once(twin_urls: tuple[str, str], way: Way, name: str) -> None:
    """Mapper events fire once for each object, even if the flush starts again."""

    def trial(side: Side) -> Any:
        heard: list[str] = []

        def listen(mapper: Any, connection: Any, target: Author) -> None:
            heard.append(str(target.name))

        event.listen(Author, name, listen)
        try:
            return saved_beside(side, changing), sorted(heard)
        finally:
            event.remove(Author, name, listen)

    both(twin_urls, Base, trial, way=way)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("replaces", [False, True], ids=["cursor events", "before_execute"])
@pytest.mark.parametrize("way", WAYS[:2], ids=str)
def test_engine_events_come_in_pairs(
    twin_urls: tuple[str, str], way: Way, replaces: bool, driver: str
) -> None:
    """Each statement whose beginning is reported to engine listeners is also reported
    at its end.
    """

    def trial(side: Side) -> Any:
        unended: list[str] = []
        assert isinstance(side.engine, Engine)

        @event.listens_for(side.engine, "before_cursor_execute")
        def before(conn: Any, cursor: Any, sql: str, *_: Any) -> None:
            unended.append("one")

        @event.listens_for(side.engine, "after_cursor_execute")
        def after(conn: Any, cursor: Any, sql: str, *_: Any) -> None:
            unended.pop()

        if replaces:

            @event.listens_for(side.engine, "before_execute")
            def replace(conn: Any, element: Any, *_: Any) -> None:
                pass

        return saved_beside(side, changing), unended

    both(twin_urls, Base, trial, way=way, driver=driver)
