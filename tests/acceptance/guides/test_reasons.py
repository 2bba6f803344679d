"""The tables of reasons in the guide ``explain`` have the texts and remedies of the library."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import warnings
from collections.abc import Callable, Iterable
from copy import copy
from decimal import Decimal
from importlib.resources import files
from typing import Any, ClassVar

import pytest
from fixtures.reasons import EVERY
from psycopg.types.datetime import DateDumper
from sqlalchemy import (
    JSON,
    Column,
    Engine,
    ForeignKey,
    Numeric,
    Table,
    create_engine,
    event,
    func,
)
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

import sqla_seqreserve
from sqla_seqreserve import FlushReport, register

GUIDE = files(sqla_seqreserve).joinpath("guides", "explain.md").read_text(encoding="utf-8")


def table_rows(title: str) -> list[tuple[str, str]]:
    """The rows of the tables below a title and the titles below it: reason and remedy."""
    level = "#" * (len(title) - len(title.lstrip("#")))
    below = GUIDE.partition(f"\n{title}\n")[2]
    end = re.search(rf"^#{{1,{len(level)}}} ", below, re.MULTILINE)
    section = below[: end.start()] if end else below
    found = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    return [row for row in found if row[0] != "reason"]


NOT_RESERVED = "no id is reserved: "
LISTED = [
    (reason.removeprefix(NOT_RESERVED), remedy)
    for title in ("## Reasons and remedies", "## What only a report says")
    for reason, remedy in table_rows(title)
]
REPORTED = [reason for reason, _ in table_rows("## What only a report says")]


@pytest.mark.parametrize("name", [name for name in EVERY if name != "not_reserved"])
def test_the_guide_names_each_reason_with_its_remedy(name: str) -> None:
    """Each reason that the library gives is in the guide, with its remedy."""
    assert (EVERY[name].text, EVERY[name].remedy) in LISTED


def test_the_guide_names_nothing_else() -> None:
    """Each line of the guide's tables is a reason that the library gives, and is there once."""
    given = {(reason.text, reason.remedy) for reason in EVERY.values()}
    assert [row for row in LISTED if row not in given or LISTED.count(row) > 1] == []


def test_a_key_that_is_not_reserved_has_the_remedy_of_its_reason() -> None:
    """The reason why a key is not reserved begins with a few words and continues with the key's own
    reason and remedy.
    """
    assert EVERY["not_reserved"].text == NOT_RESERVED + EVERY["NO_GENERATED_KEY"].text
    assert EVERY["not_reserved"].remedy == EVERY["NO_GENERATED_KEY"].remedy


class Base(DeclarativeBase):
    pass


LINKS = Table(
    "links",
    Base.metadata,
    Column("a", ForeignKey("entries.id"), primary_key=True),
    Column("b", ForeignKey("entries.id"), primary_key=True),
)


class Entry(Base):
    __tablename__ = "entries"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[Any] = mapped_column(Numeric(12, 2))
    at: Mapped[dt.datetime | None]
    on: Mapped[dt.date | None]
    note: Mapped[str | None] = mapped_column(server_default="-")
    data: Mapped[Any] = mapped_column(JSON, default=0)
    others: Mapped[list[Any]] = relationship(
        "Entry", secondary=LINKS, primaryjoin=id == LINKS.c.a, secondaryjoin=id == LINKS.c.b
    )


class Counted(Base):
    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column()
    __mapper_args__: ClassVar[Any] = {"version_id_col": version}


class Code(Base):
    __tablename__ = "codes"
    code: Mapped[str] = mapped_column(primary_key=True, server_default=func.now())


@pytest.fixture
def tables(engine: Engine) -> Engine:
    Base.metadata.create_all(engine)
    return engine


class OurDates(DateDumper):
    """A dumper that an application may register for dates."""


def reasons_of(engine: Engine, objects: Iterable[Any], **settings: Any) -> set[str]:
    """The reasons in the report of a flush of these objects."""
    reports: list[FlushReport] = []
    some = settings.pop("some", False)
    with Session(engine) as session:
        register(session, **settings).on_flush(reports.append)
        session.add_all(objects)
        with warnings.catch_warnings():
            # Of 2.1: flush(objects) is deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            session.flush(list(session.new)[:2] if some else None)
    return {entry.reason for report in reports for entry in report.entries if entry.reason}


def many(**values: Any) -> Callable[[], list[Any]]:
    """A function that makes some entries with these values."""
    return lambda: [Entry(**{"amount": Decimal(1), **values}) for _ in range(30)]


ALWAYS = {"copy_min_rows": 1}
EAST = dt.timezone(dt.timedelta(hours=1))

MADE: dict[str, tuple[Callable[[], list[Any]], dict[str, Any]]] = {
    "few rows": (lambda: [Entry(amount=1)], {}),
    "few rows: fewer than copy_min_rows": (lambda: [Entry(amount=1)], {"copy_min_rows": 24}),
    "few rows of their kind": (
        lambda: [Entry(amount=Decimal(1), **({"note": "a"} if n < 2 else {})) for n in range(5000)],
        {},
    ),
    "flush(objects) was called": (many(), {"some": True}),
    "amount is an SQL expression": (many(amount=func.abs(1)), ALWAYS),
    "code has no value": (lambda: [Code()], ALWAYS),
    "amount holds str for a column of type Numeric(precision=12, scale=2)": (
        many(amount="1.5"),
        ALWAYS,
    ),
    "at holds a value that the server would cast or refuse": (
        many(at=dt.datetime(2026, 1, 1, tzinfo=EAST)),
        ALWAYS,
    ),
    "at holds a time that cannot be converted to a naive one in UTC": (
        many(at=dt.datetime(1, 1, 1, tzinfo=EAST)),
        ALWAYS,
    ),
    "on holds date, for which the application has an adapter of its own": (
        many(on=dt.date(2026, 1, 1)),
        ALWAYS,
    ),
}

SET_UP: dict[str, Callable[[Any], object]] = {
    "at holds a value that the server would cast or refuse": (
        lambda connection: (connection.execute("SET TIME ZONE 3"), connection.commit())
    ),
    "on holds date, for which the application has an adapter of its own": (
        lambda connection: connection.adapters.register_dumper(dt.date, OurDates)
    ),
}
"""What is done to each new connection."""


@pytest.mark.parametrize("reason", MADE)
def test_a_report_gives_the_reasons_of_the_guide(tables: Engine, reason: str) -> None:
    """The report of a flush gives its reasons in the guide's words."""
    make, settings = MADE[reason]
    if reason in SET_UP:
        event.listen(tables, "connect", lambda connection, _: SET_UP[reason](connection))
        tables.dispose()
    assert reason in reasons_of(tables, make(), **settings)


def test_the_guide_names_the_reasons_of_reports() -> None:
    """The reasons of the flushes above are in the guide's section about reports."""
    assert sorted(MADE.keys() - set(REPORTED)) == []


def setting(**values: Any) -> Callable[[Session], None]:
    """Change some entries to these values."""

    def act(session: Session) -> None:
        found = [Entry(amount=Decimal(1)) for _ in range(5)]
        session.add_all(found)
        session.flush()
        for entry in found:
            for name, value in values.items():
                setattr(entry, name, value)

    return act


def link(session: Session) -> None:
    found = [Entry(amount=Decimal(1)) for _ in range(5)]
    session.add_all(found)
    session.flush()
    with session.no_autoflush:
        for entry in found:
            entry.others.append(found[0])


def delete_counted(session: Session) -> None:
    found = [Counted() for _ in range(5)]
    session.add_all(found)
    session.flush()
    for counted in found:
        session.delete(counted)


def parameters_changed(engine: Engine) -> None:
    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def copied(*arguments: Any) -> Any:
        return arguments[2], copy(arguments[3])


def dates_adapted(engine: Engine) -> None:
    event.listen(
        engine, "connect", lambda found, _: found.adapters.register_dumper(dt.date, OurDates)
    )


CHANGES: dict[str, tuple[str, Callable[[Session], None], Callable[[Engine], None] | None]] = {
    "an SQL expression is set": ("psycopg", setting(amount=Entry.amount + 1), None),
    "a parameter holds values that an array might not hold exactly": (
        "asyncpg",
        setting(amount=Decimal("NaN")),
        None,
    ),
    "on holds date, for which the application has an adapter of its own": (
        "psycopg",
        setting(on=dt.date(2026, 1, 1)),
        dates_adapted,
    ),
    "a listener of the engine changed the statement": (
        "psycopg",
        setting(note="changed"),
        parameters_changed,
    ),
    "SQLAlchemy sends many rows in one statement": ("psycopg2", link, parameters_changed),
    "SQLAlchemy compares each version by itself": ("asyncpg", delete_counted, None),
}
LATE = "the session was registered within its transaction"


@pytest.mark.parametrize("reason", CHANGES)
def test_a_report_of_changes_gives_the_reasons_of_the_guide(tables: Engine, reason: str) -> None:
    """A report of changed and deleted objects and link rows gives its reasons in the
    guide's words.
    """
    driver, act, prepare = CHANGES[reason]
    reports: list[FlushReport] = []
    url = tables.url.set(drivername=f"postgresql+{driver}")

    async def run() -> None:
        engine = create_async_engine(url)
        async with AsyncSession(engine) as session:
            register(session, **ALWAYS).on_flush(reports.append)
            await session.run_sync(act)
            await session.flush()
        await engine.dispose()

    if driver == "asyncpg":
        asyncio.run(run())
    else:
        engine = create_engine(url)
        if prepare is not None:
            prepare(engine)
        with Session(engine) as session:
            register(session, **ALWAYS).on_flush(reports.append)
            act(session)
            session.flush()
        engine.dispose()
    assert reports[-1].entries[-1].reason == reason


def test_a_session_that_is_registered_late_says_so(tables: Engine) -> None:
    """Rows do not travel together in a transaction that began before the session was registered."""
    reports: list[FlushReport] = []
    with Session(tables) as session:
        found = [Entry(amount=Decimal(1)) for _ in range(5)]
        session.add_all(found)
        session.flush()
        register(session, **ALWAYS).on_flush(reports.append)
        for entry in found:
            entry.note = "changed"
        session.flush()
    assert reports[-1].entries[-1].reason == LATE


def test_the_guide_names_the_reasons_of_changes() -> None:
    """The reasons of the changes above are in the guide."""
    listed = {reason for reason, _ in LISTED}
    assert sorted({*CHANGES, LATE} - listed) == []
