"""An object that the rollback of a savepoint expired has no values: a flush refuses it, as plain
SQLAlchemy does, and does not write NULLs.
"""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.sides import DRIVERS, WAYS, Side, Way, both, refusal
from sqlalchemy import ForeignKey, Identity, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    make_transient,
    mapped_column,
    relationship,
)
from sqlalchemy.orm.attributes import set_committed_value


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    words: Mapped[str | None]
    place: Mapped[str | None] = mapped_column(server_default="here")
    above_id: Mapped[int | None] = mapped_column(ForeignKey("note.id"))
    above: Mapped[Note | None] = relationship(remote_side="Note.id")


SETTINGS = (
    Way("default"),
    WAYS[3],
    Way("reserve always", {"reserve": "always"}),
    Way("prefetch", {"prefetch": 5}),
    WAYS[5],
)


def expired(session: Session, note: Note) -> None:
    """Make an object transient and without values: write and change it in savepoints that are
    rolled back.
    """
    with session.begin_nested() as outer:
        session.add(note)
        session.flush()
        with session.begin_nested() as inner:
            note.words = "changed"
            session.flush()
            inner.rollback()
        outer.rollback()
    assert inspect(note).transient


def adding(repair: Any, others: int) -> Any:
    """A trial that adds an expired object again with others; returns the refusal or the stored
    rows.
    """

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            note = Note(words="lost")
            expired(session, note)
            repair(session, note)
            session.add_all([note, *(Note(words=f"n{i}") for i in range(others))])
            try:
                session.flush()
            except SQLAlchemyError as error:
                found = refusal(error)
                session.rollback()
                return found, session.scalar(text("SELECT count(*) FROM note"))
            stored = session.execute(text("SELECT words, place FROM note ORDER BY id")).all()
            session.rollback()
            return [tuple(row) for row in stored]

        return side.run(save)

    return trial


REPAIRS = {
    "as it is": lambda session, note: None,
    "another value": lambda session, note: setattr(note, "words", "new"),
    "a key of its own": lambda session, note: set_committed_value(note, "id", 70_000),
    "no key": lambda session, note: set_committed_value(note, "id", None),
    "make_transient": lambda session, note: make_transient(note),
    "above another": lambda session, note: session.add(Note(words="below", above=note)),
}


@pytest.mark.parametrize("way", SETTINGS, ids=str)
@pytest.mark.parametrize("others", [0, 1999])
@pytest.mark.parametrize("repair", REPAIRS)
def test_an_expired_object_that_is_added_again(
    twin_urls: tuple[str, str], way: Way, others: int, repair: str
) -> None:
    """An object that a savepoint's rollback expired and that is added again is refused or written
    as in plain SQLAlchemy.
    """
    both(twin_urls, Base, adding(REPAIRS[repair], others), way=way)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", SETTINGS[:3], ids=str)
def test_on_every_driver(twin_urls: tuple[str, str], way: Way, driver: str) -> None:
    """On every driver an expired object that is added again is refused or written as in plain
    SQLAlchemy.
    """
    both(twin_urls, Base, adding(REPAIRS["as it is"], 20), way=way, driver=driver)
