"""Changed objects travel together whatever the usual type of the column that was set."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Any

import pytest
from fixtures.sides import DRIVERS, Side, Way, both, told_and_left
from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Double,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
    Time,
    Uuid,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve._sqlalchemy.persistence import IN_ORDER


class Base(DeclarativeBase):
    pass


class State(enum.Enum):
    OPEN = 1
    SHUT = 2


NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 5, tzinfo=dt.UTC)
BARE = NOON.replace(tzinfo=None)

TYPES: dict[str, tuple[Any, list[Any]]] = {
    "integer": (Integer, [7, -7, None]),
    "bigint": (BigInteger, [2**40, -1]),
    "smallint": (SmallInteger, [1, None]),
    "string": (String(50), ["a'\\\"", "NULL", "{}", "", None]),
    "text": (Text, ["a%(b)s", "ü"]),
    "numeric": (Numeric(9, 2), [Decimal("1.005"), Decimal("-2E+3"), None]),
    "float": (Float, [1.5, -0.0, 2.5e-7, None]),
    "double": (Double, [0.1, 1e300]),
    "boolean": (Boolean, [True, False, None]),
    "date": (Date, [NOON.date(), dt.date(2, 1, 1)]),
    "timestamp": (DateTime, [BARE, None]),
    "timestamptz": (DateTime(timezone=True), [NOON]),
    "time": (Time, [BARE.time()]),
    "interval": (Interval, [dt.timedelta(days=-1, seconds=3), dt.timedelta(5), None]),
    "uuid": (Uuid, [uuid.UUID(int=5), None]),
    "enum": (Enum(State, name="state"), [State.OPEN, State.SHUT, None]),
    "labels": (Enum("x y", "it's", name="labels"), ["x y", "it's"]),
    "text_enum": (Enum(State, native_enum=False), [State.OPEN, None]),
    "bytes": (LargeBinary, [b"\x00\\'", b"", None]),
}
ROWS = 12


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    for name, (type_, _) in TYPES.items():
        locals()[name] = mapped_column(type_, nullable=True)


@pytest.mark.skipif(not IN_ORDER, reason="before 2.0.10 SQLAlchemy gives some other parameters")
@pytest.mark.parametrize("driver", DRIVERS)
def test_each_type(twin_urls: tuple[str, str], driver: str) -> None:
    """The rows are plain SQLAlchemy's, and one statement wrote those of each flush."""

    def act(session: Session) -> Any:
        session.add_all(Item(id=number) for number in range(ROWS))
        session.commit()
        items = session.scalars(select(Item).order_by(Item.id)).all()
        for name, (_, values) in TYPES.items():
            for number, item in enumerate(items):
                setattr(item, name, values[number % len(values)])
            session.flush()
        session.commit()
        return [[repr(getattr(item, name)) for name in TYPES] for item in items]

    def trial(side: Side) -> Any:
        found = told_and_left(side, act, ["item"])
        if side.registered:
            written = {
                (entry.rows, entry.writer, entry.reason)
                for report in side.reports
                for entry in report.entries
                if entry.kind == "update"
            }
            # Rows that hold what they held before are not changed.
            assert {writer for _, writer, _ in written} == {"copy"}, written
        return found

    both(twin_urls, Base, trial, way=Way("from one row", {"copy_min_rows": 1}), driver=driver)
