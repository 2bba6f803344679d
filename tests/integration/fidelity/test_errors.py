"""Errors of the database: the exception, the session afterwards and the note, compared with plain
SQLAlchemy.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fixtures.patience import wait_until
from fixtures.twins import Twins, describe_error, differences, prepared
from sqlalchemy import (
    CheckConstraint,
    Engine,
    ForeignKey,
    String,
    TypeDecorator,
    create_engine,
    event,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, PendingRollbackError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

EACH_DRIVER = pytest.mark.parametrize("twins", ["psycopg", "psycopg2", "asyncpg"], indirect=True)


class Picky(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        if value == "refused":
            raise ValueError("the type refuses this")
        return value


class Base(DeclarativeBase):
    pass


class Group(Base):
    __tablename__ = "group"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class Member(Base):
    __tablename__ = "member"
    __table_args__ = (CheckConstraint("size > 0", name="size_positive"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(nullable=False)
    code: Mapped[str | None] = mapped_column(String(5), unique=True)
    size: Mapped[int] = mapped_column(default=1)
    group_id: Mapped[int | None] = mapped_column(ForeignKey("group.id"))
    picky: Mapped[str | None] = mapped_column(Picky)


Spoil = Callable[[Member], None]


def spoil(**values: Any) -> Spoil:
    def change(member: Member) -> None:
        for key, value in values.items():
            setattr(member, key, value)

    return change


REFUSED = [
    pytest.param(spoil(code="c3"), True, id="unique"),
    pytest.param(spoil(group_id=12345), True, id="foreign key"),
    pytest.param(spoil(name=None), True, id="not null"),
    pytest.param(spoil(size=-1), True, id="check"),
    pytest.param(spoil(code="too long"), True, id="too long"),
    pytest.param(spoil(id=2), False, id="primary key"),
    pytest.param(spoil(size=2**40), False, id="out of range"),
    pytest.param(spoil(size="many"), False, id="bad value"),
    pytest.param(spoil(size=object()), False, id="no such type"),
    pytest.param(spoil(picky="refused"), False, id="refused by the type"),
]


def after_a_refusal(change: Spoil, outer: bool) -> Callable[[Session], Any]:
    """A scenario whose second flush fails, and that compares everything afterwards."""

    def scenario(session: Session) -> Any:
        kept = [Group(name="kept"), Group(name="too")]
        session.add_all(kept)
        session.commit()
        if outer:
            session.add(Group(name="before the savepoint"))
            session.flush()
            session.begin_nested()
        members = [Member(name=f"m{i}", code=f"c{i}", size=1) for i in range(12)]
        change(members[7])
        session.add_all([Group(name="new"), *members])
        kept[0].name = "changed"
        try:
            session.flush()
        except Exception as error:
            refused = error
        else:
            raise AssertionError("nothing was refused")
        found: dict[str, Any] = {"error": describe_error(refused), "active": session.is_active}
        if not outer:
            with pytest.raises(PendingRollbackError):
                session.scalar(select(1))
        session.rollback()
        found["members"] = [
            # Plain SQLAlchemy divides its INSERT at a row that gives its key, and leaves the keys
            # of the rows before it on objects that have no row any more.
            (None if members[7].id else item.id, item.name, inspect(item).transient)
            for item in members
        ]
        found["pending"] = len(session.new), len(session.dirty), len(session.identity_map)
        found["kept"] = [item.name for item in kept]
        # The session can be used: the same objects, corrected, are saved.
        for item in members:
            item.id = None  # type: ignore[assignment]  # which of them had one is compared above
        mended = members[7]
        mended.name, mended.code, mended.size = "m7", "c7", 1
        mended.group_id = mended.picky = None
        session.add_all(members)
        session.commit()
        found["saved"] = session.scalars(select(Member.name).order_by(Member.id)).all()
        scenario.refused = refused  # type: ignore[attr-defined]  # for the note
        return found

    return scenario


@EACH_DRIVER
@pytest.mark.parametrize("outer", [False, True], ids=["transaction", "savepoint"])
@pytest.mark.parametrize(("change", "noted"), REFUSED)
def test_error_and_session_are_those_of_plain(
    twins: Twins, change: Spoil, noted: bool, outer: bool
) -> None:
    """The exception's class, the driver's class, the SQLSTATE and the session are plain
    SQLAlchemy's; a note names the object.
    """
    scenario = after_a_refusal(change, outer)
    # A reservation that is rolled back leaves a gap in the ids.
    twins.compare(Base, scenario, keys={"id"})
    notes = getattr(scenario.refused, "__notes__", [])  # type: ignore[attr-defined]  # set above
    if noted:
        assert any("object 7 of the 12 Member objects" in note for note in notes)


@pytest.mark.parametrize("twins", ["psycopg", "psycopg2", "asyncpg"], indirect=True)
@pytest.mark.parametrize("name", ["a\0b", "lone \ud800"], ids=["NUL", "lone surrogate"])
def test_characters_that_cannot_be_written(twins: Twins, name: str) -> None:
    """Characters that cannot be written are refused by the driver or the server, by the same one as
    in plain SQLAlchemy.
    """
    twins.compare(Base, after_a_refusal(spoil(name=name), outer=False), keys={"id"})


def both(twins: Twins, trial: Callable[[Engine, sessionmaker[Session]], Any]) -> Any:
    """Try the same on both sides, assert that nothing differs, and return the result."""
    plain = trial(twins.plain, prepared(twins.plain, Base, None))
    ours = trial(twins.ours, prepared(twins.ours, Base, {"copy_min_rows": 1}))
    found = differences("outcome", ours, plain)
    assert not found, "\n".join(found)
    return ours


SLEEPY = (
    "CREATE FUNCTION sleepy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF NEW.name = 'm5' THEN PERFORM pg_sleep(30); END IF; RETURN NEW; END $$",
    "CREATE TRIGGER sleepy AFTER INSERT ON member FOR EACH ROW EXECUTE FUNCTION sleepy()",
)


def make_sleepy(engine: Engine) -> None:
    with engine.begin() as connection:
        for statement in SLEEPY:
            connection.exec_driver_sql(statement)


def left_by(session: Session, members: list[Member], error: DBAPIError) -> dict[str, Any]:
    session.rollback()
    return {
        "error": describe_error(error),
        "members": [(item.id, item.name, inspect(item).transient) for item in members],
        "pending": (len(session.new), len(session.identity_map)),
        "stored": session.scalar(select(func.count()).select_from(Member)),
    }


@EACH_DRIVER
def test_a_connection_lost_in_mid_copy(twins: Twins) -> None:
    """If the connection is lost during a COPY, the error invalidates it as in plain SQLAlchemy, and
    the session can use another.
    """

    def trial(engine: Engine, factory: sessionmaker[Session]) -> Any:
        make_sleepy(engine)
        with factory() as session:
            pid = session.scalar(text("SELECT pg_backend_pid()"))
            members = [Member(name=f"m{i}") for i in range(9)]
            session.add_all(members)
            killer = threading.Thread(target=kill_when_asleep, args=(engine, pid))
            killer.start()
            with pytest.raises(DBAPIError) as lost:
                session.flush()
            killer.join()
            return left_by(session, members, lost.value)

    found = both(twins, trial)
    assert found["error"]["invalidated"] is True


def kill_when_asleep(engine: Engine, pid: int) -> None:
    """End the backend while it sleeps in the trigger, in the middle of the write."""
    url = engine.url.set(drivername="postgresql+psycopg")
    killer = create_engine(url, poolclass=NullPool)
    with killer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        asleep = text("SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = :pid")
        wait_until(lambda: connection.scalar(asleep, {"pid": pid}), "the trigger sleeps")
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})


@EACH_DRIVER
def test_a_statement_timeout(twins: Twins) -> None:
    """If a statement times out, the server cancels the COPY like an INSERT, and the connection can
    be used.
    """

    def trial(engine: Engine, factory: sessionmaker[Session]) -> Any:
        make_sleepy(engine)
        with factory() as session:
            session.execute(text("SET LOCAL statement_timeout = 300"))
            members = [Member(name=f"m{i}") for i in range(9)]
            session.add_all(members)
            with pytest.raises(DBAPIError) as late:
                session.flush()
            return left_by(session, members, late.value)

    found = both(twins, trial)
    assert (found["error"]["sqlstate"], found["error"]["invalidated"]) == ("57014", False)


@pytest.mark.parametrize("twins", ["psycopg", "psycopg2"], indirect=True)
def test_a_deadlock(twins: Twins) -> None:
    """If two sessions wait for each other's rows, one gets the same error as in plain
    SQLAlchemy.
    """

    def trial(engine: Engine, factory: sessionmaker[Session]) -> Any:
        found = []
        with factory() as first, factory() as second:
            for session, timeout in ((first, "300ms"), (second, "1h")):
                session.execute(text(f"SET LOCAL deadlock_timeout = '{timeout}'"))
            first.add_all([Member(name=f"a{i}", code=f"a{i}") for i in range(9)])
            first.flush()
            second.add_all([Member(name=f"b{i}", code=f"b{i}") for i in range(9)])
            second.flush()
            # Each waits for rows that the other inserted: the one with the short timeout detects
            # the deadlock.
            pid = second.scalar(text("SELECT pg_backend_pid()"))
            second.add_all([Member(name=f"c{i}", code=f"a{i}") for i in range(9)])
            waiting = threading.Thread(target=swallow, args=(second.flush,))
            waiting.start()
            wait_until_blocked(engine, pid)
            members = [Member(name=f"d{i}", code=f"b{i}") for i in range(9)]
            first.add_all(members)
            with pytest.raises(OperationalError) as deadlock:
                first.flush()
            first.rollback()
            waiting.join()
            found = [describe_error(deadlock.value), [inspect(item).transient for item in members]]
            second.rollback()
        return found

    error, _ = both(twins, trial)
    assert error["orig"] == "DeadlockDetected"


def swallow(function: Callable[[], None]) -> None:
    with contextlib.suppress(DBAPIError):
        function()


def wait_until_blocked(engine: Engine, pid: int) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        waits = text("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = :pid")
        wait_until(lambda: connection.scalar(waits, {"pid": pid}), "the other waits for a lock")


@EACH_DRIVER
def test_a_default_that_raises_before_anything_is_sent(twins: Twins) -> None:
    """If a default raises an exception, it is wrapped as in plain SQLAlchemy, and objects lose
    their reserved keys.
    """

    class Local(DeclarativeBase):
        pass

    calls = [0]

    def failing() -> int:
        calls[0] += 1
        if calls[0] == 5:
            raise LookupError("no more values")
        return calls[0]

    class Fed(Local):
        __tablename__ = "fed"
        id: Mapped[int] = mapped_column(primary_key=True)
        value: Mapped[int] = mapped_column(default=failing)

    def scenario(session: Session) -> Any:
        calls[0] = 0
        items = [Fed() for _ in range(9)]
        session.add_all(items)
        try:
            session.flush()
        except Exception as error:
            name = type(error).__name__, type(getattr(error, "orig", None)).__name__
        session.rollback()
        return name, [(item.id, item.value) for item in items], len(session.new), calls[0]

    outcome = twins.compare(Local, scenario)
    assert outcome.returned[0] == [("str", "'StatementError'"), ("str", "'LookupError'")]


@EACH_DRIVER
def test_a_listener_that_raises_after_the_copy(twins: Twins) -> None:
    """After an exception in after_insert the session is as in plain SQLAlchemy, and no row is
    stored.
    """

    def refuse(_mapper: Any, _connection: Any, target: Member) -> None:
        if target.name == "m5":
            raise LookupError("not this one")

    def scenario(session: Session) -> Any:
        members = [Member(name=f"m{i}") for i in range(9)]
        session.add_all(members)
        event.listen(Member, "after_insert", refuse)
        try:
            with pytest.raises(LookupError):
                session.flush()
        finally:
            event.remove(Member, "after_insert", refuse)
        session.rollback()
        return [
            (sorted(vars(item).keys() - {"_sa_instance_state"}), inspect(item).transient)
            for item in members
        ]

    assert twins.compare(Base, scenario).rows["public.member"] == []


@EACH_DRIVER
@pytest.mark.parametrize("rows", [1, 12, 2000])
def test_the_note_names_the_object(twins: Twins, rows: int) -> None:
    """The note gives the refused object's position in the batch, in the order of add(), with class
    and key.
    """
    factory = prepared(twins.ours, Base, {"copy_min_rows": 1})
    with factory() as session:
        members = [Member(name=f"m{i}") for i in range(rows)]
        position = rows // 2
        members[position].size = -5
        session.add_all(members)
        with pytest.raises(IntegrityError) as refused:
            session.flush()
    [note] = refused.value.__notes__
    assert f"object {position} of the {rows} Member objects" in note
