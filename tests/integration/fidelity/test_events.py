"""Attribute events, engine events and echo, and what tracing tools see."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fixtures.tables import make_tables
from fixtures.twins import Twins, describe_error, make_engine
from sqlalchemy import JSON, Engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from sqla_seqreserve import register

EACH_DRIVER = pytest.mark.parametrize("twins", ["psycopg", "psycopg2", "asyncpg"], indirect=True)


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    size: Mapped[int] = mapped_column(default=5)
    state: Mapped[str] = mapped_column(server_default="new")
    extra: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON), default=dict)


def nine(session: Session) -> list[Item]:
    items = [Item(name=f"n{i}") for i in range(9)]
    session.add_all(items)
    session.flush()
    return items


def fresh(engine: Engine, copy: bool) -> sessionmaker[Session]:
    make_tables(engine.url, Base.metadata)
    factory = sessionmaker(engine)
    if copy:
        register(factory, copy_min_rows=1)
    return factory


def test_attribute_events_are_those_of_plain(twins: Twins) -> None:
    """Setting a reserved key fires no attribute event, as in plain SQLAlchemy."""

    def scenario(session: Session) -> list[Any]:
        seen: list[Any] = []

        def noticed(_target: Item, value: Any, _old: Any, initiator: Any) -> None:
            seen.append((initiator.key, value))

        for name in ("id", "name", "size", "state"):
            event.listen(getattr(Item, name), "set", noticed)
        try:
            items = nine(session)
            items[0].name = "changed"
            session.flush()
        finally:
            for name in ("id", "name", "size", "state"):
                event.remove(getattr(Item, name), "set", noticed)
        return seen

    outcome = twins.compare(Base, scenario)
    assert len(outcome.returned) == 10


def test_mutable_values_are_tracked_after_the_flush(twins: Twins) -> None:
    """A default that sqlalchemy.ext.mutable wraps reports its later changes."""

    def scenario(session: Session) -> Any:
        items = nine(session)
        items[0].extra["changed"] = True
        assert items[0] in session.dirty
        session.commit()
        return items[0].extra

    assert twins.compare(Base, scenario).returned == {"changed": ("bool", "True")}


def test_history_and_inspection_after_the_flush(twins: Twins) -> None:
    """An object that COPY wrote has no pending change, and a later change of it is an UPDATE."""

    def scenario(session: Session) -> Any:
        items = nine(session)
        clean = [session.is_modified(item) for item in items]
        items[3].size = 6
        items[4].size = 5
        return clean, [session.is_modified(item) for item in items], items[3] in session.dirty

    twins.compare(Base, scenario)


@EACH_DRIVER
def test_cursor_events_see_the_copy_with_its_row_count(twins: Twins) -> None:
    """before/after_cursor_execute get one COPY, its number of rows, and a cursor with rowcount."""
    factory = fresh(twins.ours, copy=True)
    seen: list[Any] = []

    def before(_conn: Any, _cursor: Any, sql: str, parameters: Any, _ctx: Any, many: bool) -> None:
        seen.append(("before", sql.split(" (")[0], parameters, many))

    def after(_conn: Any, cursor: Any, sql: str, _params: Any, context: Any, _many: bool) -> None:
        seen.append(("after", sql.split(" (")[0], cursor.rowcount, context.statement == sql))

    event.listen(twins.ours, "before_cursor_execute", before)
    event.listen(twins.ours, "after_cursor_execute", after)
    with factory() as session:
        nine(session)
    copies = [entry for entry in seen if entry[1].startswith("COPY")]
    assert copies == [
        ("before", "COPY item", {"rows": 9}, False),
        ("after", "COPY item", 9, True),
    ]


@EACH_DRIVER
def test_a_before_cursor_execute_that_returns_the_statement(twins: Twins) -> None:
    """A listener that may rewrite statements, such as one that adds a comment for tracing, gets
    each INSERT, which SQLAlchemy then sends.
    """
    factory = fresh(twins.ours, copy=True)
    sent: list[str] = []

    def tag(_c: Any, _cursor: Any, sql: str, parameters: Any, _ctx: Any, _many: bool) -> Any:
        return f"/* traced */ {sql}", parameters

    def sees(_c: Any, cursor: Any, sql: str, _params: Any, _ctx: Any, _many: bool) -> None:
        sent.append(sql)

    event.listen(twins.ours, "before_cursor_execute", tag, retval=True)
    # For many rows SQLAlchemy 2.0 gives after_cursor_execute the statement that the first listener
    # got.
    event.listen(twins.ours, "before_cursor_execute", sees)
    with factory() as session:
        nine(session)
        session.commit()
        assert session.query(Item).count() == 9
    assert any(sql.startswith("/* traced */ INSERT INTO item") for sql in sent)
    assert all(sql.startswith("/* traced */ ") for sql in sent)


@EACH_DRIVER
def test_handle_error_sees_what_copy_was_refused(twins: Twins) -> None:
    """handle_error gets the COPY's statement and the driver's error, and may replace it."""
    factory = fresh(twins.ours, copy=True)
    seen: list[Any] = []

    class OurError(Exception):
        pass

    def handle(context: Any) -> None:
        seen.append(
            (
                context.statement.split(" (")[0],
                describe_error(context.sqlalchemy_exception)["sqlstate"],
            )
        )
        assert isinstance(context.sqlalchemy_exception, IntegrityError)
        raise OurError("replaced") from context.original_exception

    event.listen(twins.ours, "handle_error", handle)
    with factory() as session:
        session.add_all([Item(name="same") for _ in range(9)])
        with pytest.raises(OurError):
            session.flush()
    assert seen == [("COPY item", "23505")]


@EACH_DRIVER
def test_the_error_carries_the_statement_and_its_parameters(twins: Twins) -> None:
    """In the error ``.statement`` is the COPY and ``.params`` its number of rows, so that no row's
    values get into logs.
    """
    factory = fresh(twins.ours, copy=True)
    with factory() as session:
        session.add_all([Item(name="secret") for _ in range(9)])
        with pytest.raises(DBAPIError) as refused:
            session.flush()
    assert refused.value.statement is not None
    assert refused.value.statement.startswith("COPY item (")
    assert refused.value.params == {"rows": 9}


@EACH_DRIVER
def test_echo_logs_the_copy(twins: Twins, caplog: pytest.LogCaptureFixture) -> None:
    """The log of the engine shows the COPY among the statements, with its number of rows."""
    fresh(twins.ours, copy=False)
    engine = make_engine(twins.ours.url, echo=True, logging_name="echoed")
    factory = sessionmaker(engine)
    register(factory, copy_min_rows=1)
    with caplog.at_level(logging.INFO, "sqlalchemy.engine"), factory() as session:
        nine(session)
    engine.dispose()
    lines = [record.getMessage() for record in caplog.records if "Engine" in record.name]
    [position] = [i for i, line in enumerate(lines) if line.startswith("COPY item (")]
    assert "'rows': 9" in lines[position + 1]


def test_our_own_log_tells_what_was_written(twins: Twins, caplog: pytest.LogCaptureFixture) -> None:
    """The logger sqla_seqreserve names the writer and the number of rows, and no value of them."""
    factory = fresh(twins.ours, copy=True)
    with caplog.at_level(logging.INFO, "sqla_seqreserve"), factory() as session:
        nine(session)
    lines = [record.getMessage() for record in caplog.records if "sqla_seqreserve" in record.name]
    assert "copy wrote 9 rows of item" in lines
    assert not any("n3" in line for line in lines)
