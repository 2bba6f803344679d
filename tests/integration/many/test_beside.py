"""Threads that change, delete and link the same rows at the same time: no deadlock that plain
SQLAlchemy does not have, and no lost update.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from fixtures.sides import SYNC_DRIVERS, refusal
from sqlalchemy import (
    Column,
    ForeignKey,
    Table,
    bindparam,
    create_engine,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import register

SECONDS = 2.0
ROWS = 30


class Base(DeclarativeBase):
    pass


TIES = Table(
    "ties",
    Base.metadata,
    Column("left_id", ForeignKey("knot.id"), primary_key=True),
    Column("right_id", ForeignKey("knot.id"), primary_key=True),
)


class Knot(Base):
    __tablename__ = "knot"
    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(default=0)
    others: Mapped[list[Knot]] = relationship(
        secondary=TIES,
        primaryjoin=id == TIES.c.left_id,
        secondaryjoin=id == TIES.c.right_id,
        order_by=id,
    )


class Turn(Base):
    """Has a version counter."""

    __tablename__ = "turn"
    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column()
    __mapper_args__: ClassVar[Any] = {"version_id_col": version}


Act = Callable[[Session, random.Random], int]


def counted(session: Session, chance: random.Random) -> int:
    """Some rows, locked in the order of their keys, counted up."""
    keys = chance.sample(range(1, ROWS + 1), 12)
    found = session.scalars(
        select(Knot).where(Knot.id.in_(keys)).order_by(Knot.id).with_for_update()
    ).all()
    for knot in found:
        knot.count += 1
    session.commit()
    return len(found)


def added(session: Session, chance: random.Random) -> int:
    """Some rows counted up by the server, which nobody locked before."""
    keys = sorted(chance.sample(range(1, ROWS + 1), 12))
    table: Any = Knot.__table__
    session.execute(
        update(table).where(table.c.id == bindparam("k")).values(count=table.c.count + 1),
        [{"k": key} for key in keys],
    )
    session.commit()
    return len(keys)


def turned(session: Session, chance: random.Random) -> int:
    """Rows whose version must be the one that was read."""
    keys = chance.sample(range(1, ROWS + 1), 3)
    found = session.scalars(select(Turn).where(Turn.id.in_(keys)).order_by(Turn.id)).all()
    for turn in found:
        turn.count += 1
    session.commit()
    return len(found)


def tied(session: Session, chance: random.Random) -> int:
    """Links of one row, added and removed."""
    # Not FOR UPDATE: a link's foreign key waits for that, with plain in a circle too.
    lock = {"key_share": True}
    knot = session.get(Knot, chance.randint(1, ROWS), with_for_update=lock)
    keys = chance.sample(range(1, ROWS + 1), 8)
    knot.others = list(session.scalars(select(Knot).where(Knot.id.in_(keys)).order_by(Knot.id)))
    session.commit()
    return 0


@pytest.mark.parametrize("driver", SYNC_DRIVERS)
@pytest.mark.parametrize("act", [counted, added, turned, tied], ids=lambda act: act.__name__)
def test_beside_each_other(database_url: str, driver: str, act: Act) -> None:
    """Registered and plain threads together lose no count, and raise only errors that plain
    SQLAlchemy raises.
    """
    engine = create_engine(make_url(database_url).set(drivername=f"postgresql+{driver}"))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Knot(id=i) for i in range(1, ROWS + 1))
        session.add_all(Turn(id=i) for i in range(1, ROWS + 1))
        session.commit()

    def work(number: int) -> tuple[int, Counter[Any]]:
        chance, done, refused = random.Random(number), 0, Counter[Any]()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            with Session(engine) as session:
                if number % 3:
                    register(session, copy_min_rows=1)
                try:
                    done += act(session, chance)
                except SQLAlchemyError as error:
                    refused[refusal(error)[0], refusal(error)[2]] += 1
        return done, refused

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(work, range(4)))
    with engine.connect() as connection:
        total = sum(
            connection.scalar(text(f"SELECT sum(count) FROM {name}")) for name in ("knot", "turn")
        )
    engine.dispose()
    assert total == sum(done for done, _ in outcomes)
    assert {kind for _, refused in outcomes for kind in refused} <= {("StaleDataError", None)}
