"""The error of an UPDATE or DELETE names the object that the server refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures.sides import SYNC_DRIVERS, Side, Way
from sqlalchemy import CheckConstraint, Engine, ForeignKey, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

MANY = 30


class Base(DeclarativeBase):
    pass


class Shelf(Base):
    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))
    pages: Mapped[int] = mapped_column(CheckConstraint("pages > 0"))
    isbn: Mapped[int] = mapped_column(unique=True)
    title: Mapped[str] = mapped_column(default="a, (b)")


class Price(Base):
    """A class whose table has a name that is quoted, with a quote and a percent sign in it."""

    __tablename__ = 'net "price" in %'
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int] = mapped_column(CheckConstraint("amount > 0"))
    note: Mapped[str] = mapped_column(server_default="none")


def books(session: Session, count: int) -> list[Book]:
    return list(session.scalars(select(Book).order_by(Book.id).limit(count)))


def checked(session: Session, count: int) -> Book:
    """A check of a column refuses the change."""
    found = books(session, count)
    for book in found:
        book.pages += 1
    found[count // 2].pages = -1
    return found[count // 2]


def oddly_named(session: Session, count: int) -> Price:
    """A check of a table with a quoted name refuses the change."""
    found = list(session.scalars(select(Price).order_by(Price.id).limit(count)))
    for price in found:
        price.amount += 1
    found[count // 2].amount = -1
    return found[count // 2]


def without_parent(session: Session, count: int) -> Book:
    """A foreign key refuses the change."""
    found = books(session, count)
    for book in found:
        book.shelf_id = 1
    found[count // 2].shelf_id = 999
    return found[count // 2]


def doubled(session: Session, count: int) -> Book:
    """A unique column refuses the change."""
    found = books(session, count)
    for book in found:
        book.isbn += 1_000
    found[count // 2].isbn = MANY
    return found[count // 2]


def still_used(session: Session, count: int) -> Shelf:
    """The deletion of an object to which others refer is refused."""
    book = session.get(Book, MANY)
    assert book is not None
    book.shelf_id = count // 2 + 1
    session.flush()
    found = list(session.scalars(select(Shelf).order_by(Shelf.id).limit(count)))
    for shelf in found:
        session.delete(shelf)
    return found[count // 2]


@pytest.fixture(params=[*SYNC_DRIVERS, "asyncpg"])
def side(request: Any, engine: Engine, database_url: str) -> Any:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number in range(1, MANY + 1):
            session.add(Shelf(id=number))
            session.add(Book(id=number, pages=number, isbn=number))
            session.add(Price(id=number, amount=number))
        session.commit()
    made = Side(database_url, Way("ours"), registered=True, driver=request.param)
    yield made
    made.close()


@pytest.mark.parametrize("count", [1, 3, MANY - 1])
@pytest.mark.parametrize("act", [checked, oddly_named, without_parent, doubled, still_used])
def test_the_note_names_the_object(side: Side, act: Callable[..., Any], count: int) -> None:
    """A note on the error names the refused object by class and key, although a check's error has
    only the row's values.
    """

    def refused(session: Session) -> tuple[list[str], Any]:
        at_fault = act(session, count)
        key, name = at_fault.id, type(at_fault).__name__
        with pytest.raises(IntegrityError) as caught:
            session.flush()
        return getattr(caught.value, "__notes__", []), (name, key)

    notes, (name, key) = side.run(refused)

    [note] = notes
    assert note.startswith("The database refused object ")
    assert note.endswith(f" {name} objects written together (id={key})")


def test_beside_new_objects(engine: Engine) -> None:
    """The note also names a change that travels in the message of the INSERTs."""
    Base.metadata.create_all(engine)
    side = Side(engine.url, Way("ours"), registered=True)

    def refused(session: Session) -> list[str]:
        session.add_all(Book(id=number, pages=1, isbn=number) for number in range(1, 6))
        session.commit()
        for book in books(session, 5):
            book.pages = 0 if book.id == 4 else 9
        session.add_all(Shelf() for _ in range(2))
        with pytest.raises(IntegrityError) as caught:
            session.flush()
        return caught.value.__notes__

    [note] = side.run(refused)
    side.close()
    assert note.endswith(" Book objects written together (id=4)")


# asyncpg takes parameters without names, which do not show the key.
@pytest.mark.parametrize("side", SYNC_DRIVERS, indirect=True)
def test_a_new_object_of_a_quoted_table(side: Side) -> None:
    """The note also names a new object that is written by itself, whose table's name is quoted."""

    def refused(session: Session) -> list[str]:
        session.add_all([Price(id=101, amount=1), Price(id=102, amount=-1, note="a discount")])
        with pytest.raises(IntegrityError) as caught:
            session.flush()
        return getattr(caught.value, "__notes__", [])

    [note] = side.run(refused)
    assert note.endswith(" Price objects written together (id=102)")
