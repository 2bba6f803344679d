"""Rows that come as a stream, by column or as an Arrow table; of any length, in little memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy import Engine, Identity, func, make_url, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import aio, bulk_insert
from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError
from sqla_seqreserve.testing import record_statements

ROOT = Path(__file__).resolve().parents[3]


class Base(DeclarativeBase):
    pass


class Line(Base):
    __tablename__ = "line"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    amount: Mapped[int | None]


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session


def lines(count: int) -> Iterator[dict[str, Any]]:
    return ({"name": f"n{number}", "amount": number} for number in range(count))


def stored(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Line)) or 0


def test_ids_are_reserved_chunk_by_chunk(session: Session) -> None:
    """A stream takes one reservation and one COPY per chunk, within one savepoint, and its ids are
    aligned with the rows.
    """
    bulk_insert(session, Line, [{"name": "first"}])
    with record_statements(session.get_bind()) as sent:  # type: ignore[arg-type]  # an Engine
        ids = bulk_insert(session, Line, lines(250), chunk_rows=100)
    words = [str(statement).split()[0] for statement in sent]
    assert words == ["SELECT", "SAVEPOINT", "COPY", *["SELECT", "COPY"] * 2, "RELEASE"]
    names = {line.id: line.name for line in session.scalars(select(Line))}
    assert [names[key] for key in ids] == [f"n{number}" for number in range(250)]


def test_a_bad_row_is_named_by_its_place_in_the_stream(session: Session) -> None:
    """A wrong row is named by its position in the stream; no row of the stream stays, and the
    transaction goes on.
    """

    def rows() -> Iterator[dict[str, Any]]:
        yield from lines(230)
        yield {"name": None}

    with pytest.raises(InvalidRowsError) as refused:
        bulk_insert(session, Line, rows(), chunk_rows=100, returning=None)
    assert [problem.index for problem in refused.value.problems] == [230]
    assert stored(session) == 0


def test_a_row_that_the_database_refuses_is_named_too(session: Session) -> None:
    """The note on the database's error gives the position in the whole stream."""
    rows = [*lines(230), {"name": "n3", "amount": 1}]
    with pytest.raises(IntegrityError) as refused:
        bulk_insert(session, Line, rows, chunk_rows=100)
    assert any("row 230" in note for note in refused.value.__notes__)


def test_what_the_stream_raises_leaves_nothing(session: Session) -> None:
    """If the iterable raises an error, the chunks before it are undone."""

    def rows() -> Iterator[dict[str, Any]]:
        yield from lines(150)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bulk_insert(session, Line, rows(), chunk_rows=50)
    assert stored(session) == 0


@pytest.mark.parametrize("returning", ["ids", "objects", None])
def test_columns(session: Session, returning: Any) -> None:
    """A mapping of columns is written without a dictionary per row."""
    columns = {"name": ["a", "b", "c"], "amount": (1, None, 3)}
    found: Any = bulk_insert(session, Line, columns, returning=returning)
    by_name = {line.name: line for line in session.scalars(select(Line))}
    assert {name: line.amount for name, line in by_name.items()} == {"a": 1, "b": None, "c": 3}
    expected: dict[Any, Any] = {
        "ids": [by_name[name].id for name in "abc"],
        "objects": [by_name[name] for name in "abc"],
        None: 3,
    }
    assert (found if returning is None else list(found)) == expected[returning]


def test_columns_of_one_length(session: Session) -> None:
    """A column that is shorter than others, or is no column, is refused by its name."""
    with pytest.raises(InvalidRowsError, match="row 1, amount: has no value: 1 of 2"):
        bulk_insert(session, Line, {"name": ["a", "b"], "amount": [1]})
    with pytest.raises(ConfigurationError, match="Column 'name' must be a sequence"):
        bulk_insert(session, Line, {"name": "abc"})


@pytest.mark.parametrize("library", ["pyarrow", "pandas"])
def test_arrow_tables(session: Session, library: str) -> None:
    """Whatever has the Arrow C stream interface is read batch by batch."""
    columns = {"name": [f"n{number}" for number in range(100)], "amount": list(range(100))}
    table: Any = pa.table(columns) if library == "pyarrow" else pd.DataFrame(columns)
    ids = bulk_insert(session, Line, table, chunk_rows=30)
    names = {line.id: (line.name, line.amount) for line in session.scalars(select(Line))}
    assert [names[key] for key in ids] == [(f"n{number}", number) for number in range(100)]


@pytest.mark.parametrize("rows", [5, "text", None])
def test_what_holds_no_rows_is_refused(session: Session, rows: Any) -> None:
    """If the argument contains no rows, the error says what rows may be."""
    with pytest.raises(ConfigurationError, match="rows must be an iterable of mappings"):
        bulk_insert(session, Line, rows)
    with pytest.raises(ConfigurationError, match="chunk_rows must be an int of 1 or more"):
        bulk_insert(session, Line, [], chunk_rows=0)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_asynchronous_iterables(engine: Engine, driver: str) -> None:
    """In aio the rows may come from an asynchronous iterable, for insert and for upsert."""
    Base.metadata.create_all(engine)

    async def rows() -> AsyncIterator[dict[str, Any]]:
        for row in lines(90):
            await asyncio.sleep(0)
            yield row

    async def run() -> None:
        target = create_async_engine(make_url(engine.url).set(drivername=f"postgresql+{driver}"))
        async with AsyncSession(target) as session, session.begin():
            assert await aio.bulk_insert(session, Line, rows(), returning=None, chunk_rows=40) == 90
            done = await aio.bulk_upsert(session, Line, rows(), conflict=["name"], chunk_rows=40)
            assert (done.inserted, done.updated) == (0, 90)
        await target.dispose()

    asyncio.run(run())


def test_memory_is_bounded(engine: Engine) -> None:
    """By the operating system's count, a long stream takes no more than a short one."""
    Base.metadata.create_all(engine)
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tests/benchmarks/stream_memory.py"),
            "300000",
            engine.url.render_as_string(hide_password=False),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-2]) < 100, done.stdout
