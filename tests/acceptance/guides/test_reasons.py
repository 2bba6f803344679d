"""The tables of reasons in the guide ``explain``: each as the library says it, with its remedy."""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections.abc import Callable, Iterable
from decimal import Decimal
from importlib.resources import files
from typing import Any

import pytest
from fixtures.reasons import EVERY
from psycopg.types.datetime import DateDumper
from sqlalchemy import Engine, Numeric, event, func
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

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
    """A reason that the library gives stands in the guide, beside the remedy that it has."""
    assert (EVERY[name].text, EVERY[name].remedy) in LISTED


def test_the_guide_names_nothing_else() -> None:
    """Each line of the guide's tables is a reason that the library gives, and stands there once."""
    given = {(reason.text, reason.remedy) for reason in EVERY.values()}
    assert [row for row in LISTED if row not in given or LISTED.count(row) > 1] == []


def test_a_key_that_is_not_reserved_has_the_remedy_of_its_reason() -> None:
    """What ``explain()`` says of a key is the key's reason after a few words, with its remedy."""
    assert EVERY["not_reserved"].text == NOT_RESERVED + EVERY["NO_GENERATED_KEY"].text
    assert EVERY["not_reserved"].remedy == EVERY["NO_GENERATED_KEY"].remedy


class Base(DeclarativeBase):
    pass


class Entry(Base):
    __tablename__ = "entries"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[Any] = mapped_column(Numeric(12, 2))
    at: Mapped[dt.datetime | None]
    on: Mapped[dt.date | None]
    note: Mapped[str | None] = mapped_column(server_default="-")


class Code(Base):
    __tablename__ = "codes"
    code: Mapped[str] = mapped_column(primary_key=True, server_default=func.now())


@pytest.fixture
def tables(engine: Engine) -> Engine:
    Base.metadata.create_all(engine)
    return engine


class OurDates(DateDumper):
    """What an application may register for dates."""


def reasons_of(engine: Engine, objects: Iterable[Any], **settings: Any) -> set[str]:
    """Why not by COPY, of a flush of these objects."""
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
    """What is told of objects of one flush is told in the guide's words."""
    make, settings = MADE[reason]
    if reason in SET_UP:
        event.listen(tables, "connect", lambda connection, _: SET_UP[reason](connection))
        tables.dispose()
    assert reason in reasons_of(tables, make(), **settings)


def test_the_guide_names_the_reasons_of_reports() -> None:
    """The reasons that the flushes above gave stand in the guide's part about reports."""
    assert sorted(MADE.keys() - set(REPORTED)) == []
