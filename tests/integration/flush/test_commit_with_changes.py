"""COMMIT in the message of changed and deleted objects, whose rows the server counts before it,
compared with plain SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from fixtures.sides import Side, Way, both, refusal
from sqlalchemy import (
    Column,
    ForeignKey,
    Identity,
    Table,
    UniqueConstraint,
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


book_tag = Table(
    "book_tag",
    Base.metadata,
    Column("book_id", ForeignKey("public.book.id"), primary_key=True),
    Column("tag_id", ForeignKey("public.tag.id"), primary_key=True),
    schema="public",
)


class Book(Base):
    __tablename__ = "book"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("number", deferrable=True, initially="DEFERRED"),
        {"schema": "public"},
    )
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    number: Mapped[int]
    title: Mapped[str]
    tags: Mapped[list[Tag]] = relationship(secondary=book_tag)


class Tag(Base):
    __tablename__ = "tag"
    __table_args__: ClassVar[Any] = {"schema": "public"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    word: Mapped[str]


class Page(Base):
    """Has a version counter."""

    __tablename__ = "page"
    __table_args__: ClassVar[Any] = {"schema": "public"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    text: Mapped[str]
    version: Mapped[int] = mapped_column()
    __mapper_args__: ClassVar[Any] = {"version_id_col": version}


TABLES = ("public.book", "public.tag", "public.page", "public.book_tag")


pytestmark = pytest.mark.usefixtures("commits_pay")


def filled(side: Side) -> None:
    def fill(session: Session) -> None:
        tags = [Tag(id=i, word=f"t{i}") for i in range(1, 4)]
        books = [Book(id=i, number=i, title=f"b{i}", tags=tags) for i in range(1, 5)]
        session.add_all([*books, *(Page(id=i, text=f"p{i}") for i in range(1, 4))])
        session.commit()

    side.run(fill)
    side.execute("ALTER TABLE public.book ALTER id RESTART WITH 10")


def change(session: Session, books: Any, pages: Any) -> None:
    books[0].title = "changed"


def change_several(session: Session, books: Any, pages: Any) -> None:
    for book in books:
        book.title += "!"
    pages[1].text = "changed"


def by_expression(session: Session, books: Any, pages: Any) -> None:
    books[1].number = Book.number + 100


def version(session: Session, books: Any, pages: Any) -> None:
    pages[0].text = "changed"


def delete(session: Session, books: Any, pages: Any) -> None:
    session.delete(pages[2])


def unlink(session: Session, books: Any, pages: Any) -> None:
    books[2].tags.pop()
    del books[3].tags[0]


def all_together(session: Session, books: Any, pages: Any) -> None:
    books[0].title = "changed"
    books[1].tags.clear()
    session.delete(books[3])
    session.delete(pages[0])
    pages[1].text = "changed"
    session.add(Tag(id=20, word="new"))


def taken_number(session: Session, books: Any, pages: Any) -> None:
    """The deferred constraint refuses the COMMIT."""
    books[0].number = 2


ACTS = {
    act.__name__: act
    for act in (
        change,
        change_several,
        by_expression,
        version,
        delete,
        unlink,
        all_together,
        taken_number,
    )
}

NO_ROW = "CREATE FUNCTION no_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
FAILING = (
    "CREATE FUNCTION failing() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN PERFORM 1 / 0; RETURN NULL; END'"
)

BEFORE: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "a trigger discards changes": (
        NO_ROW,
        "CREATE TRIGGER no_row BEFORE UPDATE ON public.book FOR EACH ROW EXECUTE FUNCTION no_row()",
    ),
    "a trigger discards what is deleted": (
        NO_ROW,
        "CREATE TRIGGER no_row BEFORE DELETE ON public.page FOR EACH ROW EXECUTE FUNCTION no_row()",
        "CREATE TRIGGER no_row BEFORE DELETE ON public.book_tag FOR EACH ROW"
        " EXECUTE FUNCTION no_row()",
    ),
    "a trigger divides by zero": (
        FAILING,
        "CREATE TRIGGER failing AFTER UPDATE ON public.book FOR EACH ROW"
        " EXECUTE FUNCTION failing()",
    ),
    "rows are gone": ("DELETE FROM public.book_tag", "DELETE FROM public.page WHERE id <> 2"),
    "versions have moved on": ("UPDATE public.page SET version = version + 1",),
    "a link twice": (
        "ALTER TABLE public.book_tag DROP CONSTRAINT book_tag_pkey",
        "INSERT INTO public.book_tag SELECT * FROM public.book_tag",
    ),
    "a rule besides": (
        "CREATE RULE besides AS ON UPDATE TO public.book DO ALSO"
        " UPDATE public.tag SET word = word || '.' WHERE id = NEW.id",
    ),
    "a rule in place": ("CREATE RULE in_place AS ON UPDATE TO public.book DO INSTEAD NOTHING",),
    "a rule at times": (
        "CREATE RULE at_times AS ON DELETE TO public.page WHERE OLD.id = 3 DO INSTEAD NOTHING",
    ),
    "a rule for rows that come back": (
        "CREATE RULE other AS ON UPDATE TO public.book DO INSTEAD"
        " UPDATE public.tag SET word = NEW.title RETURNING id, 0, word",
    ),
    "a check": ("ALTER TABLE public.book ADD CHECK (title <> 'changed') NOT VALID",),
    "children": (
        "CREATE TABLE public.child (page_id int REFERENCES public.page DEFERRABLE)",
        "INSERT INTO public.child VALUES (1), (3)",
    ),
    "children at the end": (
        "CREATE TABLE public.child (page_id int REFERENCES public.page"
        " DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO public.child VALUES (1), (3)",
    ),
    "a view": (
        "ALTER TABLE public.book RENAME TO stored",
        "CREATE VIEW public.book AS SELECT * FROM public.stored",
    ),
}


def trial(
    act: Callable[..., None],
    before: tuple[str, ...] = (),
    watch: Callable[[Session, list[str]], Callable[[], None]] | None = None,
) -> Callable[[Side], Any]:
    """Objects are read, others do something, and then the objects are changed and committed.

    :param watch: listens meanwhile, and returns what ends that.
    """

    def run(side: Side) -> Any:
        filled(side)

        def work(session: Session) -> Any:
            books = session.scalars(select(Book).order_by(Book.id)).all()
            pages = session.scalars(select(Page).order_by(Page.id)).all()
            assert all(len(book.tags) == 3 for book in books)
            # DDL would wait for this session.
            session.commit()
            side.execute(*before)
            act(session, books, pages)
            heard: list[str] = []
            end = None if watch is None else watch(session, heard)
            said: Any = None
            try:
                session.commit()
            except (SQLAlchemyError, RuntimeError) as error:
                said = refusal(error), str(error).splitlines()[0]
            if end is not None:
                end()
            flags = [
                (state.persistent, state.deleted, state.detached, state.modified)
                for state in map(inspect, [*books, *pages])
            ]
            session.rollback()
            return said, flags, heard, session.in_transaction()

        outcome = side.run(work, expire_on_commit=False)
        return outcome, [side.rows(f"SELECT t::text FROM {table} t ORDER BY 1") for table in TABLES]

    return run


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async"])
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("act", ACTS)
def test_changes_are_committed_or_refused_as_ever(
    twin_urls: tuple[str, str], driver: str, act: str, before: str
) -> None:
    """The rows that a statement matches are counted before the COMMIT; if their number is not the
    expected one, all is undone, and sent as SQLAlchemy sends it.
    """
    run = trial(ACTS[act], BEFORE[before])
    committed: list[bool] = []

    def watched(side: Side) -> Any:
        found = run(side)
        if side.registered:
            committed.append(bool(side.reports) and side.reports[-1].committed)
        return found

    both(twin_urls, Base, watched, way=Way("along"), driver=driver)
    if before == "nothing" and act != "taken_number":
        assert committed == [True]


def listener(target: Any, name: str, act: str) -> Callable[[Session, list[str]], Any]:
    """A listener to an event of the session, of its engine or of a class."""

    def watch(session: Session, heard: list[str]) -> Callable[[], None]:
        owner = session if target is Session else session.get_bind() if target is None else target

        def hear(*args: Any) -> None:
            heard.append(name)
            if act == "raise":
                raise RuntimeError(name)
            if act == "execute" and len(heard) == 1:
                connection = args[1] if owner is target else args[0].connection()
                connection.execute(text("INSERT INTO public.tag (word) VALUES ('heard')"))

        event.listen(owner, name, hear)
        return lambda: event.remove(owner, name, hear)

    return watch


LISTENERS = [
    *((Session, name) for name in ("after_flush", "after_flush_postexec", "persistent_to_deleted")),
    *((Session, name) for name in ("before_commit", "before_flush", "after_commit")),
    *((model, name) for model in (Book, Page) for name in ("before_update", "after_update")),
    *((model, name) for model in (Book, Page) for name in ("before_delete", "after_delete")),
    *((model, name) for model in (Book, Page) for name in ("refresh_flush", "expire")),
    *((None, name) for name in ("commit", "rollback", "before_cursor_execute")),
    (None, "after_cursor_execute"),
]


@pytest.mark.filterwarnings("ignore:Session's state has been changed on a non-active transaction")
@pytest.mark.parametrize(("target", "name"), LISTENERS)
@pytest.mark.parametrize("does", ["note", "raise", "execute"])
@pytest.mark.parametrize("act", ["all_together", "change", "by_expression", "version", "delete"])
def test_listeners_act_as_ever(
    twin_urls: tuple[str, str], act: str, does: str, target: Any, name: str
) -> None:
    """A listener to a changed or deleted object, to its statement or to the COMMIT may still refuse
    it, or write beside it, and is called once.
    """
    if name == "after_commit" or (
        does == "execute" and (target is None or name in {"refresh_flush", "expire"})
    ):
        does = "note"
    run = trial(ACTS[act], watch=listener(target, name, does))
    both(twin_urls, Base, run, way=Way("along"))
