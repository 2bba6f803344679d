"""No note names an object that the error is not about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures.sides import SYNC_DRIVERS, Side, Way
from sqlalchemy import Engine, String, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Lamp(Base):
    __tablename__ = "lamp"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(4))


class Desk(Base):
    __tablename__ = "desk"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def too_late(session: Session, engine: Engine) -> None:
    """The server cancels the statement, which waits for a lock."""
    with engine.begin() as other:
        other.execute(text("LOCK TABLE desk IN SHARE MODE"))
        session.execute(text("SET LOCAL statement_timeout = 50"))
        session.flush()


def cannot_lock(session: Session, engine: Engine) -> None:
    """The statement stops waiting for a lock of the table."""
    with engine.begin() as other:
        other.execute(text("LOCK TABLE desk IN SHARE MODE"))
        session.execute(text("SET LOCAL lock_timeout = 50"))
        session.flush()


def read_only(session: Session, engine: Engine) -> None:
    """The transaction may not write."""
    session.execute(text("SET TRANSACTION READ ONLY"))
    session.flush()


def ended(session: Session, engine: Engine) -> None:
    """The server has ended the connection."""
    pid = session.scalar(text("SELECT pg_backend_pid()"))
    with engine.connect() as other:
        other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    session.flush()


@pytest.fixture(params=[*SYNC_DRIVERS, "asyncpg"])
def side(request: Any, engine: Engine, database_url: str) -> Any:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Desk(id=1_000, name="a"))
        session.commit()
    made = Side(database_url, Way("ours"), registered=True, driver=request.param)
    yield made
    made.close()


@pytest.mark.parametrize("is_change", [False, True])
@pytest.mark.parametrize("fail", [too_late, cannot_lock, read_only, ended])
def test_no_note_names_an_object(
    side: Side, engine: Engine, fail: Callable[[Session, Engine], None], is_change: bool
) -> None:
    """If the error concerns the connection, the transaction or the table, no note says that the
    database refused an object.
    """

    def failed(session: Session) -> list[str]:
        with session.no_autoflush:
            if is_change:
                session.get_one(Desk, 1_000).name = "b"
            else:
                session.add(Desk(name="b"))
            with pytest.raises(DBAPIError) as caught:
                fail(session, engine)
        return getattr(caught.value, "__notes__", [])

    assert side.run(failed) == []


@pytest.mark.parametrize("names", [("a", "too long"), ("a", None)])
@pytest.mark.parametrize("others", [1, 3])
def test_an_object_of_another_class(side: Side, names: tuple[str, str | None], others: int) -> None:
    """If several classes are saved, only the object of the refused INSERT is named, and no object
    that is changed.
    """

    def failed(session: Session) -> list[str]:
        good, bad = names
        session.get_one(Desk, 1_000).name = good
        session.add_all([*(Desk(name=good) for _ in range(others)), Lamp(name=bad)])
        with pytest.raises(DBAPIError) as caught:
            session.flush()
        return caught.value.__notes__

    [note] = side.run(failed)
    assert " Lamp objects " in note
