"""Warnings and log records of a flush: warnings point to plain SQLAlchemy's lines, and nothing is
logged below WARNING until the application sets a level.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fixtures.sides import WAYS, Side, Way, both
from sqlalchemy import ForeignKey, event, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import bulk_insert, check_sequences, repair_sequences, reserve_ids

FEW, COPY, RESERVE = WAYS[1], WAYS[3], WAYS[5]


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    things: Mapped[list[Thing]] = relationship(cascade="", back_populates="owner")


class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("owner.id"))
    owner: Mapped[Owner | None] = relationship(cascade="", back_populates="things")


class Paired(Base):
    """A composite key, one part of which a row may lack."""

    __tablename__ = "paired"
    left: Mapped[int] = mapped_column(primary_key=True)
    right: Mapped[int] = mapped_column(primary_key=True)


def warning_of(word: str | None) -> str | None:
    if word == "warn":
        warnings.warn("the application's own", UserWarning, stacklevel=2)
    return word


Prepare = Callable[[Session, int], Any]


def a_member_outside(session: Session, rows: int) -> None:
    session.add_all([Owner(name=f"o{i}", things=[Thing()]) for i in range(rows)])


def an_owner_outside(session: Session, rows: int) -> None:
    session.add_all([Thing(name=f"t{i}", owner=Owner()) for i in range(rows)])


def a_twin_of_a_persistent_object(session: Session, rows: int) -> Any:
    owners = [Owner(id=1000 + i) for i in range(rows)]
    session.add_all(owners)
    session.flush()
    session.execute(text("DELETE FROM owner"))
    session.add_all([Owner(id=1000 + i) for i in range(rows)])
    return owners


def an_object_added_within(session: Session, rows: int) -> Any:
    def add(*_: Any) -> None:
        session.add(Thing(name="late"))

    event.listen(Owner, "before_insert", add)
    session.add_all([Owner(name=f"o{i}") for i in range(rows)])
    return lambda: event.remove(Owner, "before_insert", add)


def an_object_changed_within(session: Session, rows: int) -> Any:
    clean = Owner(name="clean")
    session.add(clean)
    session.flush()

    def change(*_: Any) -> None:
        clean.name = "changed"

    event.listen(Thing, "after_insert", change)
    session.add_all([Thing(name=f"o{i}") for i in range(rows)])
    return lambda: event.remove(Thing, "after_insert", change)


def a_key_that_lacks_a_part(session: Session, rows: int) -> None:
    session.add_all([Paired(left=i) for i in range(rows)])


def a_warning_of_the_applications_own(session: Session, rows: int) -> Any:
    def warn(_mapper: Any, _connection: Any, owner: Owner) -> None:
        warning_of(owner.name)

    event.listen(Owner, "before_insert", warn)
    session.add_all([Owner(name="warn") for _ in range(rows)])
    return lambda: event.remove(Owner, "before_insert", warn)


PREPARATIONS = [
    a_member_outside,
    an_owner_outside,
    a_twin_of_a_persistent_object,
    an_object_added_within,
    an_object_changed_within,
    a_key_that_lacks_a_part,
    a_warning_of_the_applications_own,
]


@pytest.mark.parametrize("flush", ["flush", "commit", "autoflush", "savepoint"])
@pytest.mark.parametrize("way", [FEW, COPY, RESERVE], ids=str)
@pytest.mark.parametrize("prepare", PREPARATIONS, ids=lambda function: function.__name__)
def test_warnings_point_where_plain_points(
    twin_urls: tuple[str, str], prepare: Prepare, way: Way, flush: str
) -> None:
    """Each warning has plain SQLAlchemy's category, text, file and line, which is the
    application's.
    """
    both(twin_urls, Base, warning(prepare, flush), way=way)


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg_async", "asyncpg"])
def test_warnings_on_other_drivers(twin_urls: tuple[str, str], driver: str) -> None:
    """On every driver, and in a greenlet, warnings point to the application's line."""
    both(twin_urls, Base, warning(a_member_outside, "flush"), way=FEW, driver=driver)


def warning(prepare: Prepare, flush: str) -> Callable[[Side], Any]:
    def trial(side: Side) -> Any:
        def warn(session: Session) -> Any:
            kept = prepare(session, side.way.rows)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    if flush == "flush":
                        session.flush()
                    elif flush == "commit":
                        session.commit()
                    elif flush == "savepoint":
                        session.begin_nested()
                    else:
                        session.scalars(select(Owner)).all()
                except SQLAlchemyError as error:
                    caught.append(warnings.WarningMessage(str(type(error)), UserWarning, "", 0))
            if callable(kept):
                kept()
            session.rollback()
            # An object's address differs between the sides, and SQLAlchemy iterates over a set of
            # objects.
            return sorted(
                (item.category.__name__, str(item.message).split(" at 0x")[0], *place(item))
                for item in caught
            )

        return side.run(warn)

    return trial


def place(item: warnings.WarningMessage) -> tuple[str, int]:
    return item.filename, item.lineno


@pytest.fixture
def root_at_info() -> Iterator[list[logging.LogRecord]]:
    """The records that reach a handler of the root logger, whose level the application has set to
    INFO.
    """
    heard: list[logging.LogRecord] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record)

    handler, root = Listening(), logging.getLogger()
    before, package = root.level, logging.getLogger("sqla_seqreserve").level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield heard
    root.removeHandler(handler)
    root.setLevel(before)
    logging.getLogger("sqla_seqreserve").setLevel(package)


def do_everything(side: Side) -> None:
    """Save in the side's way, reserve ids, insert in bulk, fail, check and repair."""

    def saving(session: Session) -> None:
        side.write(session, Owner, [{"name": f"n{i}"} for i in range(side.way.rows)])
        session.commit()
        if side.registered:
            reserve_ids(session, Owner, 5)
            bulk_insert(session, Owner, [{"name": "n"}] * 20)
            check_sequences(session, Base)
            repair_sequences(session, Base)
            session.commit()
        session.add(Thing(owner_id=-1))
        with pytest.raises(SQLAlchemyError):
            session.flush()
        session.rollback()

    side.run(saving)


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_root_loggers_level_is_not_ours(
    twin_urls: tuple[str, str], root_at_info: list[logging.LogRecord], way: Way, level: int
) -> None:
    """With the root logger at INFO or DEBUG a healthy application gets only plain SQLAlchemy's log
    lines.
    """
    logging.getLogger().setLevel(level)

    def trial(side: Side) -> Any:
        root_at_info.clear()
        do_everything(side)
        return sorted({r.name for r in root_at_info if not r.name.startswith(("psycopg", "async"))})

    both(twin_urls, Base, trial, way=way)


@pytest.mark.parametrize(
    "name", ["sqla_seqreserve", "sqla_seqreserve.flush", "sqla_seqreserve.reservation"]
)
def test_the_packages_level_is_the_applications(
    twin_urls: tuple[str, str], root_at_info: list[logging.LogRecord], name: str
) -> None:
    """If the application sets the level of this package's logger, or of one below it, it gets those
    log records, whatever the root's level.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    logging.getLogger().setLevel(logging.WARNING)
    try:

        def trial(side: Side) -> Any:
            if side.registered:
                do_everything(side)

        both(twin_urls, Base, trial, way=COPY)
    finally:
        logger.setLevel(logging.NOTSET)
    heard = {record.name for record in root_at_info if record.name.startswith("sqla_seqreserve")}
    if name == "sqla_seqreserve":
        assert {"sqla_seqreserve.flush", "sqla_seqreserve.reservation"} <= heard
    else:
        assert heard == {name}
