"""Errors that reserve_ids and assign_ids raise before they use a database."""

from __future__ import annotations

from inspect import signature

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import InvalidRequestError, ResourceClosedError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import assign_ids, reserve_ids
from sqla_seqreserve.errors import (
    ConfigurationError,
    InvalidCountError,
    SeqReserveError,
    UnmappedClassError,
    UnsupportedDatabaseError,
)


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)


class Plain:
    pass


# No bind at all: whoever asks a database before checking the input gets another error.
UNBOUND = Session()


@pytest.mark.parametrize("count", [-1, True, False, 1.0, "1", None, [1]])
def test_a_count_is_an_int_of_zero_or_more(count: object) -> None:
    """A bad count is refused with the class and the value, for one class and for several."""
    with pytest.raises(InvalidCountError, match=r"ids for Note must be an int of 0 or more") as one:
        reserve_ids(UNBOUND, Note, count)  # type: ignore[call-overload]  # what the test is about
    assert repr(count) in str(one.value)
    with pytest.raises(InvalidCountError, match="Note"):
        reserve_ids(UNBOUND, {Note: count})  # type: ignore[dict-item]  # what the test is about


def test_a_missing_count_is_refused() -> None:
    """One class without a count is no reservation of one id."""
    with pytest.raises(InvalidCountError, match="Note"):
        reserve_ids(UNBOUND, Note)  # type: ignore[call-overload]  # what the test is about


def test_a_mapping_and_a_count_are_refused() -> None:
    """Counts stand in the mapping or beside the class, not in both places."""
    with pytest.raises(InvalidCountError, match="mapping"):
        reserve_ids(UNBOUND, {Note: 1}, 1)  # type: ignore[call-overload]  # what the test is about


@pytest.mark.parametrize("model", [Plain, int, Note(), Note.__table__, "note", None])
def test_only_a_mapped_class_has_ids(model: object) -> None:
    """What SQLAlchemy does not map as a class is refused: a plain class, an instance, a table, a
    name.
    """
    with pytest.raises(UnmappedClassError, match="not a mapped class"):
        reserve_ids(UNBOUND, model, 1)  # type: ignore[call-overload]  # what the test is about
    with pytest.raises(UnmappedClassError, match="not a mapped class"):
        reserve_ids(UNBOUND, {Note: 1, model: 1})  # type: ignore[dict-item]  # what the test is about


@pytest.mark.parametrize("target", [None, "postgresql://", create_engine("sqlite://"), object()])
def test_only_a_session_or_connection_reserves(target: object) -> None:
    """An engine is refused too: the library opens no connection of its own."""
    with pytest.raises(ConfigurationError, match="Expected a Session or a Connection"):
        reserve_ids(target, Note, 1)  # type: ignore[call-overload]  # what the test is about


def test_an_async_session_is_told_the_way() -> None:
    """The error for an AsyncSession names run_sync()."""
    with pytest.raises(ConfigurationError, match=r"run_sync\(\)"):
        reserve_ids(AsyncSession(), Note, 1)  # type: ignore[call-overload]  # what the test is about


def test_another_database_is_refused() -> None:
    """A session or connection to SQLite gets an error that names it."""
    engine = create_engine("sqlite://")
    with Session(engine) as session:
        with pytest.raises(UnsupportedDatabaseError, match="PostgreSQL only.*sqlite"):
            reserve_ids(session, Note, 1)
        with pytest.raises(UnsupportedDatabaseError, match="PostgreSQL only.*sqlite"):
            assign_ids(session, [Note()])
    with (
        engine.connect() as connection,
        pytest.raises(UnsupportedDatabaseError, match="sqlite"),
    ):
        reserve_ids(connection, Note, 1)
    engine.dispose()


def test_a_closed_session_is_refused() -> None:
    """SQLAlchemy's own error tells that the session or connection is closed."""
    engine = create_engine("sqlite://")
    if "close_resets_only" in signature(Session).parameters:  # SQLAlchemy 2.0.22 and later
        session = Session(engine, close_resets_only=False)
        session.close()
        with pytest.raises(InvalidRequestError, match="closed"):
            reserve_ids(session, Note, 1)
        with pytest.raises(InvalidRequestError, match="closed"):
            assign_ids(session, [Note()])
    connection = engine.connect()
    connection.close()
    with pytest.raises((ResourceClosedError, UnsupportedDatabaseError)):
        reserve_ids(connection, Note, 1)
    engine.dispose()


@pytest.mark.parametrize("item", [Plain(), Note, 1, None])
def test_only_mapped_objects_get_ids(item: object) -> None:
    """assign_ids names the position of what is not an instance of a mapped class."""
    with pytest.raises(UnmappedClassError, match="Object 1 is .*: expected an instance"):
        assign_ids(UNBOUND, [Note(), item])


def test_nothing_to_do_asks_nothing() -> None:
    """An empty mapping and an empty list need no database."""
    assert reserve_ids(UNBOUND, {}) == {}
    assign_ids(UNBOUND, [])


def test_every_error_is_sqlalchemys_too() -> None:
    """Whoever handles SQLAlchemyError handles ours."""
    assert issubclass(SeqReserveError, SQLAlchemyError)
    with pytest.raises(SQLAlchemyError):
        reserve_ids(UNBOUND, Note, -1)
