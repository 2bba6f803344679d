"""Missing values in columns of every type, and numpy's times."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pytest
from fixtures.bulk_keys import DRIVERS, OnDriver
from fixtures.bulk_keys import on_driver as on_driver
from sqlalchemy import JSON, Engine, Identity, Text, event, insert, select, text, true
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_delete, bulk_insert, bulk_sync, bulk_update, bulk_upsert
from sqla_seqreserve.errors import InvalidRowsError

NAN = float("nan")
DAY = dt.datetime(2024, 5, 1)  # noqa: DTZ001  # of a naive column


class Base(DeclarativeBase):
    pass


class Paper(Base):
    __tablename__ = "paper"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    plain: Mapped[Any] = mapped_column(JSON, nullable=True)
    data: Mapped[Any] = mapped_column(JSONB, nullable=True)
    null: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)
    filled: Mapped[Any] = mapped_column(JSON, server_default="[]")
    title: Mapped[str | None] = mapped_column(Text)
    at: Mapped[dt.datetime | None]
    lasted: Mapped[dt.timedelta | None]


@pytest.fixture(autouse=True)
def tables(engine: Engine) -> None:
    Base.metadata.create_all(engine)


Write = Callable[[Session, Any], object]


def update(session: Session, rows: Any) -> None:
    there = [{"number": n, "plain": {}, "data": {}, "null": {}} for n in range(400)]
    bulk_insert(session, Paper, there)
    bulk_update(session, Paper, rows, key="number")


WAYS: dict[str, Write] = {
    "insert": lambda session, rows: bulk_insert(session, Paper, rows),
    "upsert": lambda session, rows: bulk_upsert(session, Paper, rows, conflict="number"),
    "update": update,
    "sync": lambda session, rows: bulk_sync(session, Paper, rows, key="number", scope=true()),
}
JSONS = ("plain", "data", "null")


def texts(session: Session) -> list[tuple[Any, ...]]:
    """The columns as text, in which JSON's null differs from NULL."""
    columns = ", ".join(f"{name}::text" for name in JSONS)
    found = session.execute(text(f"SELECT {columns} FROM paper ORDER BY number LIMIT 300"))  # ours
    return [tuple(row) for row in found]


SHAPES: dict[str, Callable[[list[Any]], Any]] = {
    "pandas": lambda values: {name: pd.Series(values) for name in JSONS},
    "frame": lambda values: pd.DataFrame(dict.fromkeys(JSONS, values)),
    "arrow": lambda values: pa.table(dict.fromkeys(JSONS, values)),
    "NaN": lambda values: {key: [NAN if v is None else v for v in values] for key in JSONS},
    "NA": lambda values: {key: [pd.NA if v is None else v for v in values] for key in JSONS},
    "numpy": lambda values: {name: pd.Series(values).fillna(NAN).to_numpy() for name in JSONS},
}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("many", [3, 300])
def test_a_gap_in_a_column_of_json_is_null(
    on_driver: OnDriver[Any], driver: str, write: Write, shape: str, many: int
) -> None:
    """A gap of a column is NULL for JSON as for other types, and not the null of JSON."""
    rows: Any = SHAPES[shape]([None if n % 3 == 1 else {"n": n} for n in range(many)])
    if shape == "arrow":
        rows = rows.append_column("number", pa.array(range(many)))
    elif shape == "frame":
        rows = rows.assign(number=range(many))
    else:
        rows["number"] = list(range(many))

    def scenario(session: Session) -> None:
        write(session, rows)
        assert [row == (None, None, None) for row in texts(session)[:many]] == [
            n % 3 == 1 for n in range(many)
        ]

    on_driver(driver, scenario)


@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
def test_none_in_a_list_is_what_sqlalchemy_makes_of_it(engine: Engine, write: Write) -> None:
    """None that is given in a mapping or a list is JSON's null, as in plain SQLAlchemy."""
    values = [None, {"n": 1}]
    found = []
    mappings = [{"number": n, **dict.fromkeys(JSONS, v)} for n, v in enumerate(values)]
    with Session(engine) as session:
        for rows in (mappings, {"number": [0, 1], **dict.fromkeys(JSONS, values)}):
            write(session, rows)
            found.append(texts(session)[:2])
            session.rollback()
        session.execute(insert(Paper), mappings)
        assert found == [texts(session)] * 2


@pytest.mark.parametrize("many", [3, 300])
def test_objects_of_rows_with_gaps(on_driver: OnDriver[Any], many: int) -> None:
    """A gap gets the default of its column, and the object of the row has what is stored."""
    data = pd.Series([None if n % 2 else {"n": n} for n in range(many)])

    def scenario(session: Session) -> None:
        rows: Any = {"number": list(range(many)), "data": data, "filled": data}
        papers = bulk_insert(session, Paper, rows, returning="objects")
        expected = [(None, []) if n % 2 else ({"n": n}, {"n": n}) for n in range(many)]
        assert [(paper.data, paper.filled) for paper in papers] == expected
        session.expire_all()
        assert [(paper.data, paper.filled) for paper in papers] == expected

    on_driver("psycopg", scenario)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("gap", [NAN, pd.NA, pd.NaT], ids=repr)
def test_gaps_of_texts(on_driver: OnDriver[Any], driver: str, gap: Any) -> None:
    """Markers in a column of texts are gaps; in a mapping, NA and NaT are refused and the error
    names the row.
    """

    def scenario(session: Session) -> None:
        columns = {"number": [0, 1], "title": np.array(["a", gap], dtype=object)}
        bulk_insert(session, Paper, columns)
        assert session.scalars(select(Paper.title).order_by(Paper.number)).all() == ["a", None]
        if gap is not NAN:
            rows = [{"number": 2, "title": "b"}, {"number": 3, "title": gap}]
            with pytest.raises(InvalidRowsError, match=f"row 1, title: is {gap!r}"):
                bulk_insert(session, Paper, rows)

    on_driver(driver, scenario)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("unit", ["D", "s", "us", "ns"])
def test_single_times_of_numpy(on_driver: OnDriver[Any], driver: str, unit: str) -> None:
    """A list of numpy's times is a column like their array; in a mapping each is refused, and the
    error says what to give.
    """
    at, gap = (np.datetime64(each, unit) for each in ("2024-05-01", "NaT"))
    lasted = np.timedelta64(1, "D").astype(f"m8[{unit}]")

    def scenario(session: Session) -> None:
        rows = {"number": [0, 1], "at": [at, gap], "lasted": [None, lasted]}
        bulk_insert(session, Paper, rows)
        found = session.execute(select(Paper.at, Paper.lasted).order_by(Paper.number))
        assert found.all() == [(DAY, None), (None, dt.timedelta(days=1))]
        wrong = [{"number": 2}, {"number": 3, "at": at, "lasted": lasted, "title": gap}]
        with pytest.raises(InvalidRowsError) as refused:
            bulk_insert(session, Paper, wrong)
        [when, long, named] = sorted(refused.value.problems, key=lambda each: each.attribute)
        assert str(when) == (
            f"row 1, at: is {at!r}, which the driver does not take: give Python's own, "
            "value.astype('M8[us]').item()"
        )
        assert (long.attribute, named.attribute) == ("lasted", "title")
        with pytest.raises(InvalidRowsError, match="row 0, id: is np.datetime64"):
            bulk_delete(session, Paper, [at])

    on_driver(driver, scenario)


def test_the_driver_decides_where_it_was_told_to(engine: Engine) -> None:
    """A marker in a mapping is not refused where the application has registered it with the
    driver.
    """

    class NullDumper(psycopg.adapt.Dumper):
        def dump(self, _: Any) -> None:
            return None

    @event.listens_for(engine, "connect")
    def register(connection: Any, _: Any) -> None:
        connection.adapters.register_dumper(type(pd.NaT), NullDumper)

    engine.dispose()
    with Session(engine) as session:
        rows = [{"number": 0, "at": pd.NaT}, {"number": 1, "at": DAY}]
        session.execute(insert(Paper), rows)
        session.rollback()
        bulk_insert(session, Paper, rows)
        assert session.scalars(select(Paper.at).order_by(Paper.number)).all() == [None, DAY]
