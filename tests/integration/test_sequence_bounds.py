"""Sequences that count backwards or in steps, or that run out of values or exceed their column's
type.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import BigInteger, Engine, Integer, Sequence, SmallInteger, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import FlushReport, assign_ids, register, reserve_ids
from sqla_seqreserve.errors import SequenceExhaustedError


class Base(DeclarativeBase):
    pass


_small = Sequence("small_seq", start=32_766)
_plain = Sequence("plain_seq", start=2**31 - 3)
_short = Sequence("short_seq", start=1, minvalue=1, maxvalue=5)
_down = Sequence("down_seq", start=-1, increment=-1)
_step = Sequence("step_seq", start=1_000, increment=-10, minvalue=0, maxvalue=1_000)
_shared = Sequence("shared_seq", start=2**31 - 5)


class Small(Base):
    __tablename__ = "small"
    id: Mapped[int] = mapped_column(SmallInteger, _small, primary_key=True)


class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(Integer, _plain, primary_key=True)


class Short(Base):
    __tablename__ = "short"
    id: Mapped[int] = mapped_column(BigInteger, _short, primary_key=True)


class Down(Base):
    __tablename__ = "down"
    id: Mapped[int] = mapped_column(BigInteger, _down, primary_key=True)


class Step(Base):
    __tablename__ = "step"
    id: Mapped[int] = mapped_column(BigInteger, _step, primary_key=True)


class SharedWide(Base):
    __tablename__ = "shared_wide"
    id: Mapped[int] = mapped_column(BigInteger, _shared, primary_key=True)


class SharedNarrow(Base):
    __tablename__ = "shared_narrow"
    id: Mapped[int] = mapped_column(Integer, _shared, primary_key=True)


class Other(Base):
    __tablename__ = "other"
    id: Mapped[int] = mapped_column(primary_key=True)


def reserve(session: Session, model: type[Base], count: int) -> None:
    reserve_ids(session, model, count)


def reserve_with_others(session: Session, model: type[Base], count: int) -> None:
    reserve_ids(session, {Other: 3, model: count})


def assign(session: Session, model: type[Base], count: int) -> None:
    assign_ids(session, [model() for _ in range(count)])


def flush(session: Session, model: type[Base], count: int) -> None:
    session.add_all([model() for _ in range(count)])
    session.flush()


def flush_with_others(session: Session, model: type[Base], count: int) -> None:
    session.add_all([Other(), *(model() for _ in range(count))])
    session.flush()


EVERY_WAY = pytest.mark.parametrize(
    "take", [reserve, reserve_with_others, assign, flush, flush_with_others]
)


@EVERY_WAY
@pytest.mark.parametrize(
    ("model", "fits", "column"), [(Small, 2, "-32768 to 32767"), (Plain, 3, "2147483647")]
)
def test_a_column_that_is_too_narrow_is_refused(
    engine: Engine,
    take: Callable[[Session, type[Base], int], None],
    model: type[Base],
    fits: int,
    column: str,
) -> None:
    """Ids beyond the column's type are refused before any row is written, and the error gives the
    type's bounds.
    """
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        register(session, copy_min_rows=1)
        with pytest.raises(SequenceExhaustedError, match=f"{model.__name__} has passed.*{column}"):
            take(session, model, fits + 1)
        session.rollback()
        assert session.scalars(select(model)).all() == []
        assert session.scalars(select(Other)).all() == []


@EVERY_WAY
@pytest.mark.parametrize(("model", "fits"), [(Short, 5), (Step, 101)])
def test_a_sequence_that_runs_out_is_refused(
    engine: Engine,
    take: Callable[[Session, type[Base], int], None],
    model: type[Base],
    fits: int,
) -> None:
    """If a sequence runs out, the error names the class and the sequence, and PostgreSQL's error is
    its cause.
    """
    Base.metadata.create_all(engine)
    sequence = model.__table__.c.id.default.name
    with Session(engine) as session:
        register(session, copy_min_rows=1)
        with pytest.raises(SequenceExhaustedError, match=f"{fits + 1} for {model.__name__}") as no:
            take(session, model, fits + 1)
        assert sequence in str(no.value)
        assert no.value.__cause__.orig.sqlstate == "2200H"  # type: ignore[union-attr]  # psycopg's
        session.rollback()
        assert session.scalars(select(model)).all() == []


@pytest.mark.parametrize("narrow_first", [True, False])
def test_a_shared_sequence_is_checked_for_every_column(engine: Engine, narrow_first: bool) -> None:
    """If two tables share a sequence, an id is refused only if it is beyond the type of its own
    table's key.
    """
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        register(session, copy_min_rows=1)
        narrow, wide = SharedNarrow(), [SharedWide() for _ in range(9)]
        session.add_all([narrow, *wide] if narrow_first else [*wide, narrow])
        if narrow_first:
            session.flush()
            assert narrow.id <= 2**31 - 1 < wide[-1].id
        else:
            with pytest.raises(SequenceExhaustedError, match="SharedNarrow has passed"):
                session.flush()
            session.rollback()
            assert session.scalars(select(SharedWide)).all() == []


def test_the_last_value_is_used(engine: Engine) -> None:
    """reserve_ids gives the last value of a sequence and the last that a column's type can hold."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        assert list(reserve_ids(session, Short, 5)) == [1, 2, 3, 4, 5]
        assert reserve_ids(session, Small, 2)[-1] == 2**15 - 1
        assert reserve_ids(session, Plain, 3)[-1] == 2**31 - 1


@pytest.mark.parametrize(("model", "step"), [(Down, 1), (Step, 10)])
def test_a_negative_increment_counts_down(engine: Engine, model: type[Base], step: int) -> None:
    """With a negative increment ids descend in the order of add(), and a later reservation gets
    other ids.
    """
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        register(session, copy_min_rows=1)
        things = [model() for _ in range(5)]
        session.add_all(things)
        session.flush()
        ids = [*(thing.id for thing in things), *reserve_ids(session, model, 5)]  # type: ignore[attr-defined]  # all have it
        assert ids == sorted(set(ids), reverse=True)
        assert all((ids[0] - number) % step == 0 for number in ids)


def test_a_failed_reservation_leaves_the_session_usable(engine: Engine) -> None:
    """After a failed reservation and a rollback the objects have no key, and can be saved once the
    column is wider.
    """
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE short ALTER id TYPE smallint"))
        connection.execute(text("ALTER SEQUENCE short_seq MAXVALUE 99999 RESTART 32766"))
    reports: list[FlushReport] = []
    with Session(engine) as session:
        register(session, copy_min_rows=1).on_flush(reports.append)
        things = [Short() for _ in range(5)]
        session.add_all(things)
        with pytest.raises(SequenceExhaustedError):
            session.flush()
        session.rollback()
        assert reports == []
        assert ["id" in vars(thing) for thing in things] == [False] * 5
        session.execute(text("ALTER TABLE short ALTER id TYPE bigint"))
        session.add_all(things)
        session.commit()
        assert [thing.id for thing in things] == sorted({thing.id for thing in things})
        assert len(reports) == 1
