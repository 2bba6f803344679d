"""Times in time zones that an application or another package defines."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from fixtures.places import EVERY
from fixtures.sides import Side, Way, both, told_and_left
from sqlalchemy import DateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

WAYS = (Way("default settings"), Way("copy", {"copy_min_rows": 1}))
COUNT = 60


class Zone(dt.tzinfo):
    """Can be compared but has no hash, like the time zones of dateutil."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Zone)

    __hash__ = None  # type: ignore[assignment]  # as in dateutil

    def utcoffset(self, _: Any) -> dt.timedelta:
        return dt.timedelta(hours=2)

    def dst(self, _: Any) -> None:
        return None

    def tzname(self, _: Any) -> str:
        return "here"


class Base(DeclarativeBase):
    pass


class Meeting(Base):
    __tablename__ = "meeting"
    id: Mapped[int] = mapped_column(primary_key=True)
    begins: Mapped[dt.datetime] = mapped_column(DateTime(timezone=True))


@EVERY
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_zones_without_a_hash(twin_urls: tuple[str, str], driver: str, way: Way) -> None:
    """Objects with times in a time zone without a hash are saved and changed as by plain
    SQLAlchemy.
    """
    start = dt.datetime(2026, 3, 1, tzinfo=Zone())

    def act(session: Session) -> None:
        meetings = [Meeting(begins=start + dt.timedelta(hours=i)) for i in range(COUNT)]
        session.add_all(meetings)
        session.flush()
        for meeting in meetings:
            meeting.begins += dt.timedelta(days=1)
        session.commit()

    def trial(side: Side) -> Any:
        return told_and_left(side, act, ["meeting"])

    both(twin_urls, Base, trial, way=way, driver=driver)
