"""The conditions that the caller gives: the scope of bulk_sync, and bulk_update's ``where``."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.upsert_ways import way as way
from sqlalchemy import Engine, ForeignKey, Identity, exists, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, aliased, mapped_column, relationship

from sqla_seqreserve import bulk_insert, bulk_sync, bulk_update
from sqla_seqreserve.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("way")


class Base(DeclarativeBase):
    pass


class Shelf(Base):
    __tablename__ = "shelf"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]


class Book(Base):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    title: Mapped[str] = mapped_column(unique=True)
    stars: Mapped[int]
    shelf_id: Mapped[int] = mapped_column(ForeignKey(Shelf.id))
    shelf: Mapped[Shelf] = relationship()


BOOKS = [("a", 1, 1), ("b", 1, 2), ("c", 1, 1), ("d", 1, 2)]
JOINED: dict[str, Any] = {
    "class": (Book.shelf_id == Shelf.id) & (Shelf.name == "one"),
    "alias": aliased(Book).shelf_id == 1,
}
OF_SHELF_ONE: dict[str, Any] = {
    "relationship": Book.shelf.has(Shelf.name == "one"),
    "exists": exists(select(1).where(Shelf.id == Book.shelf_id, Shelf.name == "one")),
    "in": Book.shelf_id.in_(select(Shelf.id).where(Shelf.name == "one")),
}


@pytest.fixture
def session(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        bulk_insert(session, Shelf, {"id": [1, 2, 3], "name": ["one", "two", "three"]})
        names = ("title", "stars", "shelf_id")
        bulk_insert(session, Book, [dict(zip(names, book, strict=True)) for book in BOOKS])
        yield session


def stored(session: Session) -> list[tuple[Any, ...]]:
    books = select(Book.title, Book.stars, Book.shelf_id).order_by(Book.title)
    return [tuple(row) for row in session.execute(books)]


@pytest.mark.parametrize("rows", [[], [{"title": "a", "stars": 1, "shelf_id": 1}]])
@pytest.mark.parametrize(
    "scope",
    [None, "stars = 1", text("stars = 1"), [Book.stars == 1], Book.stars, lambda: Book.stars == 1],
)
def test_what_is_no_scope_is_named(session: Session, rows: Any, scope: Any) -> None:
    """If the scope of bulk_sync is not a condition, the error says so, and says nothing of the
    rows.
    """
    with pytest.raises(ConfigurationError, match="^scope must be a condition"):
        bulk_sync(session, Book, rows, key="title", scope=scope)
    assert stored(session) == BOOKS


@pytest.mark.parametrize("rows", [[], [{"title": "a", "stars": 1, "shelf_id": 1}]])
@pytest.mark.parametrize("joined", JOINED)
def test_a_scope_that_joins_another_table(session: Session, rows: Any, joined: str) -> None:
    """A scope that joins rows of another table is refused."""
    with pytest.raises(ConfigurationError, match="^scope joins Book with"):
        bulk_sync(session, Book, rows, key="title", scope=JOINED[joined])
    assert stored(session) == BOOKS


@pytest.mark.parametrize("joined", JOINED)
def test_a_where_that_joins_another_table(session: Session, joined: str) -> None:
    """A condition of bulk_update that joins rows of another table is refused, because it would
    count a row several times and hide that another is missing.
    """
    rows = [{"title": title, "stars": 5} for title in ("a", "b", "z")]
    with pytest.raises(ConfigurationError, match="^where joins Book with"):
        bulk_update(session, Book, rows, key="title", where=JOINED[joined])
    assert stored(session) == BOOKS


@pytest.mark.parametrize("condition", OF_SHELF_ONE)
def test_a_subquery_may_read_other_tables(session: Session, condition: str) -> None:
    """A scope and a ``where`` may have subqueries of other tables."""
    rows = [{"title": title, "stars": 5} for title in ("a", "b", "z")]
    done = bulk_update(session, Book, rows, key="title", where=OF_SHELF_ONE[condition])
    assert (done.updated, done.unchanged, done.missing) == (1, 1, (2,))
    new = [{"title": "a", "stars": 4, "shelf_id": 1}, {"title": "e", "stars": 1, "shelf_id": 1}]
    synced = bulk_sync(session, Book, new, key="title", scope=OF_SHELF_ONE[condition])
    assert (synced.inserted, synced.updated, synced.unchanged, synced.deleted) == (1, 1, 0, 1)
    assert [title for title, *_ in stored(session)] == ["a", "b", "d", "e"]
