"""A connection is lost during a message with its COMMIT: cut at every byte, or ended by the server;
the save is stored whole or not at all, and the error raised is true.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fixtures.cutting import Cutter, Direction
from sqlalchemy import Engine, Identity, create_engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import register

pytestmark = pytest.mark.usefixtures("commits_pay")


class Base(DeclarativeBase):
    pass


class _Numbered:
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    number: Mapped[int]


class Apple(_Numbered, Base):
    __tablename__ = "apple"
    __table_args__ = {"schema": "public"}  # declarative's own name


class Pear(_Numbered, Base):
    __tablename__ = "pear"
    __table_args__ = {"schema": "public"}  # as above


ONE, TWO = (Apple,), (Apple, Pear)


@pytest.fixture
def cutter(engine: Engine, database_url: str) -> Iterator[Cutter]:
    Base.metadata.create_all(engine)
    with Cutter(database_url) as cutter:
        yield cutter


def said_of(error: DBAPIError) -> str:
    """The conclusion that a caller may draw from the error."""
    unknown = any("not known whether" in note for note in getattr(error, "__notes__", ()))
    assert error.connection_invalidated
    # As of a COMMIT that is lost, which no statement is to blame for.
    assert unknown is (error.statement is None)
    return "unknown" if unknown else "refused"


class Judge:
    """Knows which rows of each number are stored."""

    def __init__(self, engine: Engine, models: Any) -> None:
        self._engine = engine
        self._models = models
        self.outcomes = Counter[tuple[str, bool]]()

    def judge(self, number: int, said: str) -> None:
        """Wait until the server has done with the save, and compare."""
        with self._engine.connect() as connection:
            others = text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                " AND state <> 'idle'"
            )
            while connection.scalar(others):
                connection.rollback()
            connection.rollback()
            counts = [
                connection.scalar(
                    text(f"SELECT count(*) FROM {model.__table__} WHERE number = :number"),
                    {"number": number},
                )
                for model in self._models
            ]
        assert set(counts) in ({0}, {1}), f"number {number}, {said}: {counts}"
        is_there = counts[0] == 1
        if said != "unknown":
            assert is_there is (said == "saved"), f"number {number} was {said}"
        self.outcomes[said, is_there] += 1


def cut_at_each_byte(
    cutter: Cutter,
    engine: Engine,
    models: Any,
    direction: Direction,
    prepare: Callable[[Session, int], object],
    *,
    undisturbed: int,
    step: int,
    **settings: Any,
) -> None:
    """Commit what ``prepare`` does to a session so often undisturbed, and then cut at every so many
    bytes, until a message is shorter.
    """
    judge = Judge(engine, models)
    ours = create_engine(cutter.url, pool_size=1)

    def save(number: int, after: int | None) -> str:
        with Session(ours) as session:
            reports: list[Any] = []
            register(session, **settings).on_flush(reports.append)
            prepare(session, number)
            if after is not None:
                cutter.arm(direction, after)
            try:
                session.commit()
            except DBAPIError as error:
                return said_of(error)
            finally:
                cutter.disarm()
            assert number < undisturbed - 1 or reports[-1].committed
            return "saved"

    for number in range(undisturbed):
        judge.judge(number, save(number, None))
    for after in range(0, 100_000, step):
        said = save(100 + after, after)
        judge.judge(100 + after, said)
        if not cutter.has_cut:
            assert said == "saved"
            break
    ours.dispose()
    # Whether the COMMIT's last bytes were enough for the server depends on when it looks.
    assert judge.outcomes["unknown", direction == "answered"], judge.outcomes


@pytest.mark.parametrize("direction", ["sent", "answered"])
@pytest.mark.parametrize(("models", "settings"), [(ONE, {}), (TWO, {"reserve": "always"})], ids=str)
def test_a_message_cut_at_any_byte_is_whole_or_absent(
    cutter: Cutter, engine: Engine, models: Any, settings: Any, direction: Direction
) -> None:
    """Every fifth byte of the message, and every one of its answer: who is told that it failed
    finds nothing, who is told that it went well finds all, and who is told that nobody knows finds
    all or nothing.
    """

    def prepare(session: Session, number: int) -> None:
        session.add_all([model(number=number) for model in models])
        session.connection()

    step = 1 if models is ONE and direction == "answered" else 5
    cut_at_each_byte(
        cutter, engine, models, direction, prepare, undisturbed=3, step=step, **settings
    )


@pytest.mark.parametrize("direction", ["sent", "answered"])
def test_changes_cut_at_any_byte_are_whole_or_absent(
    cutter: Cutter, engine: Engine, direction: Direction
) -> None:
    """Changed and deleted objects beside a new one, cut at any byte, are stored whole or not at
    all: the rows are counted before the COMMIT.
    """
    with Session(engine) as session:
        session.add_all([Apple(number=-1), Pear(number=-1)])
        session.commit()

    def prepare(session: Session, number: int) -> None:
        apple = session.scalars(select(Apple)).one()
        session.delete(session.scalars(select(Pear)).one())
        apple.number = number
        session.add(Pear(number=number))

    cut_at_each_byte(cutter, engine, TWO, direction, prepare, undisturbed=4, step=7)


def test_an_async_message_cut_anywhere_is_whole_or_absent(cutter: Cutter, engine: Engine) -> None:
    """A message of psycopg's asynchronous connections that is cut at any byte is stored whole or
    not at all.
    """
    judge = Judge(engine, TWO)

    async def run() -> None:
        ours = create_async_engine(
            cutter.url.set(drivername="postgresql+psycopg_async"), pool_size=1
        )
        for after in [None, None, None, *range(0, 2000, 40)]:
            number = 0 if after is None else 100 + after
            for direction in ("sent", "answered"):
                said, number = "saved", number + 1
                async with AsyncSession(ours) as session:
                    register(session, reserve="always")
                    session.add_all([model(number=number) for model in TWO])
                    await session.connection()
                    if after is not None:
                        cutter.arm(direction, after)  # type: ignore[arg-type]  # of two
                    try:
                        await session.commit()
                    except DBAPIError as error:
                        said = said_of(error)
                    cutter.disarm()
                if after is not None:
                    judge.judge(number, said)
        await ours.dispose()

    asyncio.run(run())
    assert judge.outcomes["unknown", True]
    assert judge.outcomes["saved", True]


def test_a_backend_that_is_ended_in_mid_message(cutter: Cutter, engine: Engine) -> None:
    """A statement that waits for a lock when its backend is terminated or cancelled: nothing is
    there, and the error is the statement's own.
    """
    ours = create_engine(cutter.url, pool_size=1)
    for ending in ("pg_terminate_backend", "pg_cancel_backend"):
        for number in range(4):
            with engine.connect() as blocker, Session(ours) as session:
                register(session, prefetch=500)
                if number == 3:
                    blocker.execute(text("LOCK TABLE public.apple IN ACCESS EXCLUSIVE MODE"))
                pid = session.connection().connection.driver_connection.info.backend_pid
                session.add(Apple(number=number))
                ender = engine.connect()
                timer = _once_waiting(ender, pid, ending) if number == 3 else None
                if timer is None:
                    session.commit()
                else:
                    with pytest.raises(DBAPIError) as raised:
                        session.commit()
                    timer.join()
                    assert raised.value.statement is not None
                    assert not getattr(raised.value, "__notes__", None) or all(
                        "not known" not in note for note in raised.value.__notes__
                    )
                ender.close()
    ours.dispose()
    with engine.connect() as connection:
        found = connection.scalar(text("SELECT count(*) FROM public.apple WHERE number = 3"))
    assert found == 0


def _once_waiting(connection: Any, pid: int, ending: str) -> Any:
    import threading

    def end() -> None:
        waits = text("SELECT wait_event_type FROM pg_stat_activity WHERE pid = :pid")
        while connection.scalar(waits, {"pid": pid}) != "Lock":
            connection.rollback()
        with contextlib.suppress(DBAPIError):
            connection.execute(text(f"SELECT {ending}(:pid)"), {"pid": pid})

    thread = threading.Thread(target=end)
    thread.start()
    return thread
