"""Rows of pandas frames, and the values in them that mean a missing value."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from fixtures.bulk_keys import DRIVERS
from fixtures.bulk_keys import on_driver as on_driver
from sqlalchemy import DateTime, Engine, Identity, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_insert, bulk_upsert
from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError
from sqla_seqreserve.testing import record_statements

NAN = float("nan")
NUMBER = Decimal("NaN")


class Base(DeclarativeBase):
    pass


class Reading(Base):
    __tablename__ = "reading"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    amount: Mapped[int | None]
    at: Mapped[dt.datetime | None] = mapped_column(DateTime(timezone=True))
    local: Mapped[dt.datetime | None]
    day: Mapped[dt.date | None]
    ratio: Mapped[float | None]
    lasted: Mapped[dt.timedelta | None]


@pytest.fixture(autouse=True)
def tables(engine: Engine) -> Iterator[None]:
    Base.metadata.create_all(engine)
    yield


def write(session: Session, function: str, rows: Any) -> None:
    if function == "insert":
        bulk_insert(session, Reading, rows)
    else:
        bulk_upsert(session, Reading, rows, conflict=["number"])


def stored(session: Session, *names: str) -> list[tuple[Any, ...]]:
    columns = [getattr(Reading, name) for name in names]
    return [tuple(row) for row in session.execute(select(*columns).order_by(Reading.number))]


def ids_taken(session: Session) -> Any:
    return session.execute(text("SELECT last_value, is_called FROM reading_id_seq")).one()


FRAME = pd.DataFrame({"number": range(40), "amount": [n * 10 for n in range(40)]})


@pytest.mark.parametrize("function", ["insert", "upsert"])
@pytest.mark.parametrize(
    "frame",
    [
        FRAME[FRAME.number % 7 > 2],
        FRAME.sort_values("number", key=lambda values: values % 7),
        FRAME.set_index("number"),
        FRAME[FRAME.number > 7].set_index("number").iloc[::-3],
        FRAME.set_index(FRAME.amount.rename("not mapped")),
        FRAME.set_index([FRAME.amount.rename(None), "number"]),
    ],
    ids=[
        "filtered",
        "sorted",
        "index of the class",
        "part of it",
        "index that is not mapped",
        "two indexes",
    ],
)
def test_the_index_of_a_frame(on_driver: Any, function: str, frame: Any) -> None:
    """An index of a frame is ignored unless the class has an attribute of its name; then it is a
    column.
    """
    is_index = "number" in frame.index.names
    kept = frame.index.get_level_values("number") if is_index else frame.number
    expected = [(n, n * 10) for n in sorted(kept)]

    def scenario(session: Session) -> None:
        write(session, function, frame)
        assert stored(session, "number", "amount") == expected

    on_driver("psycopg", scenario)


def test_a_column_that_is_no_index(on_driver: Any) -> None:
    """A column that the class does not have is refused once, with the number of its rows."""

    def scenario(session: Session) -> None:
        with pytest.raises(InvalidRowsError) as refused:
            bulk_insert(session, Reading, FRAME.assign(extra=1))
        assert len(refused.value.problems) == 40
        assert str(refused.value).splitlines() == [
            "Reading: 40 of 40 rows cannot be written; nothing was reserved or written",
            "  row 0, extra: Reading has no such column (40 rows: also 1, 2, 3, 4, 5, …)",
            "  all are in the error's `problems`",
        ]

    on_driver("psycopg", scenario)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("function", ["insert", "upsert"])
@pytest.mark.parametrize("count", [3, 300])
def test_gaps_in_columns(on_driver: Any, driver: str, function: str, count: int) -> None:
    """NaN and NaT become NULL, and COPY writes a float column of whole numbers as integers."""
    numbers, gaps = list(range(count)), [n % 3 == 1 for n in range(count)]
    moment = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
    amounts = [NAN if gap else float(n) for n, gap in enumerate(gaps)]
    at = [None if gap else moment for gap in gaps]
    columns: dict[str, Any] = {"number": numbers, "amount": amounts}
    frame = pd.DataFrame({**columns, "at": at})
    shapes: list[tuple[bool, Any]] = [
        (False, frame),
        (False, {name: frame[name] for name in frame}),
        (True, {**columns, "at": [pd.NaT if when is None else when for when in at]}),
        (True, pa.table({**columns, "at": at})),
    ]

    def scenario(session: Session) -> None:
        for is_copied, rows in shapes:
            with record_statements(session.get_bind()) as sent:  # type: ignore[arg-type]  # an Engine
                write(session, function, rows)
            words = {str(statement).split()[0] for statement in sent}
            assert "COPY" in words or not is_copied or function == "upsert"
            assert stored(session, "number", "amount", "at") == [
                (n, None if gap else n, at[n]) for n, gap in enumerate(gaps)
            ]
            session.query(Reading).delete()

    on_driver(driver, scenario)


@pytest.mark.parametrize("function", ["insert", "upsert"])
def test_a_float_column_of_a_frame_goes_by_copy(on_driver: Any, function: str) -> None:
    """Whole numbers with gaps, which pandas stores as floats, go by COPY without a cast."""
    frame = FRAME.assign(amount=[NAN, *map(float, range(39))])
    frame = pd.concat([frame.assign(number=frame.number + 40 * n) for n in range(10)])

    def scenario(session: Session) -> None:
        with record_statements(session.get_bind()) as sent:  # type: ignore[arg-type]  # an Engine
            write(session, function, frame)
        words = {str(statement).split()[0] for statement in sent}
        assert "COPY" in words
        assert function == "upsert" or "INSERT" not in words

    on_driver("psycopg", scenario)


def test_gaps_in_a_float_column(on_driver: Any) -> None:
    """Gaps of a pandas column become NULL; NaN of a list is stored as NaN in a float column."""

    def scenario(session: Session) -> None:
        gap = pd.Series([NAN, 1.5])
        for start, ratio in ((0, gap), (2, [NAN, 1.5]), (4, gap.astype("Float64"))):
            bulk_insert(session, Reading, {"number": [start, start + 1], "ratio": ratio})
        found = [repr(ratio) for (ratio,) in stored(session, "ratio")]
        assert found == ["None", "1.5", "nan", "1.5", "None", "1.5"]

    on_driver("psycopg", scenario)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("function", ["insert", "upsert"])
def test_rows_without_a_value_of_the_column(on_driver: Any, driver: str, function: str) -> None:
    """A missing-value marker in a mapping is refused before an id is taken, and the error names the
    row.
    """
    values = [("amount", NAN), ("amount", float("inf")), ("amount", pd.NA), ("amount", NUMBER)]
    values += [("at", pd.NaT), ("local", pd.NaT), ("day", pd.NaT), ("lasted", pd.NaT)]

    def scenario(session: Session) -> None:
        before = ids_taken(session)
        for count in (20, 300):
            for attribute, value in values:
                rows: list[dict[str, Any]] = [{"number": n, attribute: None} for n in range(count)]
                for index in (7, 15):
                    rows[index][attribute] = value
                for given in (rows, iter(rows)):
                    with pytest.raises(InvalidRowsError) as refused:
                        write(session, function, given)
                    problems = [(each.index, each.attribute) for each in refused.value.problems]
                    assert problems == [(7, attribute), (15, attribute)]
                    assert len(str(refused.value)) < 400
        assert ids_taken(session) == before

    on_driver(driver, scenario)


class Listing:
    """A column as polars has it."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def to_list(self) -> list[Any]:
        return self.values


@pytest.mark.parametrize(
    "column",
    [
        Listing([1, None, 3]),
        pa.array([1, None, 3]),
        pa.chunked_array([[1, None], [3]]),
        np.ma.array([1, 2, 3], mask=[False, True, False]),
        pd.array([1, None, 3], dtype="Int64"),
        pd.Index([1, None, 3]),
    ],
    ids=["polars", "array", "chunked", "numpy", "pandas", "index"],
)
def test_a_column_of_each_package(on_driver: Any, column: Any) -> None:
    """Rows given by columns may have columns of polars, pyarrow, numpy and pandas."""

    def scenario(session: Session) -> None:
        assert len(bulk_insert(session, Reading, {"number": [0, 1, 2], "amount": column})) == 3
        assert stored(session, "amount") == [(1,), (None,), (3,)]

    on_driver("psycopg", scenario)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("unit", ["D", "s", "us", "ns"])
def test_times_of_numpy(on_driver: Any, driver: str, unit: str) -> None:
    """An array of numpy's times is written in each unit, to the microsecond."""
    times = np.array(["2024-05-01T00:00:00", "NaT"], dtype=f"M8[{unit}]")
    columns = {"number": [0, 1], "local": times, "day": times, "lasted": times - times[0]}

    def scenario(session: Session) -> None:
        bulk_insert(session, Reading, columns)
        assert stored(session, "local", "day", "lasted") == [
            (dt.datetime.fromisoformat("2024-05-01"), dt.date(2024, 5, 1), dt.timedelta(0)),
            (None, None, None),
        ]

    on_driver(driver, scenario)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"number": np.int64(5)}, "^Column 'number' must be a sequence of values, found int64"),
        ({"number": np.array(5)}, "^Column 'number' must be a sequence of values, found ndarray"),
        (pd.Series([1], name="number"), "^rows must be a table, found Series"),
        (pa.table([[1], [2]], names=["number", "number"]), "several columns named 'number'"),
    ],
)
def test_what_is_no_table(on_driver: Any, rows: Any, message: str) -> None:
    """A single number, a single column, and a table with two columns of one name are refused."""

    def scenario(session: Session) -> None:
        with pytest.raises(ConfigurationError, match=message):
            bulk_insert(session, Reading, rows)

    on_driver("psycopg", scenario)
