"""bulk_update: compared with a loop over objects of plain SQLAlchemy, and its errors."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pytest
from fixtures.changes import (
    COUNTED,
    Animal,
    Base,
    Bird,
    Colour,
    Counted,
    Manager,
    Pair,
    Person,
    Price,
    change,
)
from fixtures.sides import DRIVERS, Side, both
from fixtures.upsert_ways import way as way
from sqlalchemy import Engine, func, select, text
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from sqla_seqreserve import bulk_update
from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError
from sqla_seqreserve.testing import record_statements

# Every rule holds for few rows and for many.
pytestmark = pytest.mark.usefixtures("way")

EACH = pytest.mark.parametrize("driver", DRIVERS)
MAY = dt.date(2024, 5, 1)
PRICES = (
    "INSERT INTO price (fund, day, constant, made) "
    "SELECT n, '2024-05-01', 0, 0 FROM generate_series(0, 29) n"
)


def price_rows() -> list[dict[str, Any]]:
    return [
        {
            "fund": fund,
            "day": MAY,
            "value": Decimal(fund) / 4 if fund % 3 else None,
            "note": f"it's \\{fund}" if fund % 2 else None,
            "weight": fund / 7,
            "at": dt.datetime(2024, 5, 1, 12, fund % 60),  # noqa: DTZ001  # of a naive column
            "of": uuid.UUID(int=fund),
            "colour": Colour.BLUE,
            "data": {"n": fund, "l": [1, None]},
            "plain": [fund, "ü"],
        }
        for fund in (20, 3, 40, 7, 11, 29)
    ]


@EACH
@pytest.mark.parametrize("left_out", [(), ("data", "plain")])
def test_rows_become_what_objects_write(
    twin_urls: tuple[str, str], driver: str, left_out: tuple[str, ...]
) -> None:
    """bulk_update has the results of a loop over objects, with every kind of value, each onupdate,
    and missing rows.
    """

    def trial(side: Side) -> Any:
        side.execute(PRICES)
        rows = [{k: v for k, v in row.items() if k not in left_out} for row in price_rows()]

        def work(session: Session) -> Any:
            told = change(side, session, Price, rows, ["fund", "day"])
            session.commit()
            return told

        told = side.run(work)
        return told, [str(row) for row in side.rows("SELECT p::text FROM price p ORDER BY fund")]

    told, _ = both(twin_urls, Base, trial, driver=driver)
    assert told == (5, [2])


@EACH
def test_classes_of_several_tables(twin_urls: tuple[str, str], driver: str) -> None:
    """For a class of several tables each changed table is updated, with its onupdate, and rows are
    found by a key of either.
    """

    def trial(side: Side) -> Any:
        side.execute(
            "INSERT INTO animal SELECT n, CASE WHEN n < 9 THEN 'bird' ELSE 'animal' END, 'a' || n,"
            " 0 FROM generate_series(1, 12) n",
            "INSERT INTO bird SELECT n, 2, NULL FROM generate_series(1, 8) n",
        )
        by_id = [{"id": n, "name": f"b{n}", "wings": n} for n in (3, 1, 9, 99)]
        wings = [{"id": n, "wings": 40 + n} for n in (5, 4)]
        names = [{"id": n, "name": f"c{n}"} for n in (6, 10)]
        by_name = [{"name": f"a{n}", "wings": 70} for n in (8, 7)]

        def work(session: Session) -> Any:
            told = [
                change(side, session, Bird, by_id, ["id"]),
                change(side, session, Bird, wings, ["id"]),
                change(side, session, Animal, names, ["id"]),
                change(side, session, Bird, by_name, ["name"]),
            ]
            session.commit()
            return told

        told = side.run(work)
        tables = [
            "SELECT a::text FROM animal a ORDER BY id",
            "SELECT b::text FROM bird b ORDER BY 1",
        ]
        return told, [side.rows(table) for table in tables]

    told, _ = both(twin_urls, Base, trial, driver=driver)
    assert told == [(2, [2, 3]), (2, []), (2, []), (2, [])]


@EACH
def test_versions_composite_keys_and_classes_of_one_table(
    twin_urls: tuple[str, str], driver: str
) -> None:
    """A version is counted up; a key of several columns finds its row; a row of another class is
    missing.
    """

    def trial(side: Side) -> Any:
        side.execute(
            COUNTED,
            "INSERT INTO pair SELECT n, 'x' || n % 2, NULL, 0 FROM generate_series(1, 9) n",
            "INSERT INTO person SELECT n, CASE WHEN n < 5 THEN 'manager' ELSE 'person' END, "
            "'p' || n, NULL FROM generate_series(1, 9) n",
        )

        def work(session: Session) -> Any:
            counted = [{"id": n, "name": f"b{n}"} for n in (4, 2, 11)]
            pairs = [{"a": n, "b": "x1", "value": f"v{n}", "count": n} for n in (1, 2, 3)]
            people = [{"name": f"p{n}", "level": n} for n in (2, 7)]
            told = [
                change(side, session, Counted, counted, ["id"]),
                change(side, session, Pair, pairs, ["a", "b"]),
                change(side, session, Manager, people, ["name"]),
                change(side, session, Person, people[1:], ["name"]),
            ]
            session.commit()
            return told

        told = side.run(work)
        return told, [
            side.rows("SELECT id, name, version FROM counted ORDER BY 1"),
            side.rows("SELECT p::text FROM pair p ORDER BY 1"),
            side.rows("SELECT p::text FROM person p ORDER BY 1"),
        ]

    told, _ = both(twin_urls, Base, trial, driver=driver)
    assert told == [(2, [2]), (2, [1]), (1, [1]), (1, [])]


@pytest.fixture
def session(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(text(PRICES))
        session.execute(text(COUNTED))
        session.commit()
        yield session


def test_a_python_onupdate_is_called_for_each_row(session: Session) -> None:
    """A Python onupdate gives each row a value of its own, as in a flush of objects."""
    bulk_update(session, Counted, [{"id": n, "name": "b"} for n in range(1, 6)])
    changes = session.scalars(select(Counted.change).where(Counted.name == "b")).all()
    assert len(set(changes)) == 5


def test_versions_that_rows_give_are_compared(session: Session) -> None:
    """If a row gives another version than the table's, all rows are refused, and the error names
    it.
    """
    rows = [{"id": n, "name": "b", "version": n} for n in (1, 2, 3)]
    assert bulk_update(session, Counted, rows).updated == 3
    stale = [{"id": 4, "name": "c", "version": 4}, {"id": 1, "name": "c", "version": 1}]
    with pytest.raises(StaleDataError, match=r"1 rows give another version .*\(rows 1\)"):
        bulk_update(session, Counted, stale)
    found = session.execute(text("SELECT id, name, version FROM counted ORDER BY id")).all()
    assert found[:4] == [(1, "b", 2), (2, "b", 3), (3, "b", 4), (4, "a", 4)]


def test_where_and_columns(session: Session) -> None:
    """``where`` can use the existing row and the given one; ``columns`` names the attributes to
    set.
    """
    rows = [{"fund": n, "day": MAY, "value": n, "note": "x"} for n in range(5)]
    given = pg_insert(Price).excluded
    done = bulk_update(
        session,
        Price,
        rows,
        key=["fund", "day"],
        columns="value",
        where=(Price.fund > 1) & (given.value != 3),
    )
    assert (done.updated, done.unchanged, done.missing) == (2, 3, ())
    stored = session.execute(
        select(Price.fund, Price.note).where(Price.value.is_not(None)).order_by(Price.fund)
    ).all()
    assert stored == [(2, None), (4, None)]


def test_keys_and_objects_come_back(session: Session) -> None:
    """Ids and objects are aligned with the rows, with None for a missing one; objects of the
    session are expired, except for unflushed changes.
    """
    ids = dict(session.execute(select(Price.fund, Price.id)).all())
    seen = session.scalars(select(Price).where(Price.fund == 3)).one()
    seen.note = "mine"
    rows = [{"fund": n, "day": MAY, "value": n} for n in (5, 77, 3)]
    with session.no_autoflush:
        done = bulk_update(session, Price, rows, key=["fund", "day"], returning="ids")
        assert list(done.ids) == [ids[5], None, ids[3]]
        assert (seen.note, seen.value) == ("mine", 3)
    more = bulk_update(
        session,
        Price,
        [{**row, "value": 8} for row in rows],
        key=["fund", "day"],
        returning="objects",
    )
    assert [item and item.value for item in more.objects] == [8, None, 8]
    assert more.objects[2] is seen


def test_a_primary_key_can_be_changed(session: Session) -> None:
    """bulk_update changes a primary key that ``columns`` names, and returns the new one."""
    rows = [{"fund": n, "day": MAY, "id": 1000 + n} for n in (4, 2)]
    done = bulk_update(session, Price, rows, key=["fund", "day"], columns=["id"], returning="ids")
    assert list(done.ids) == [1004, 1002]
    assert session.get_one(Price, 1002).fund == 2


REFUSED: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "the same key twice": (
        [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 1, "name": "c"}],
        {},
        "is the same row as row 0",
    ),
    "no key": ([{"id": 1, "name": "a"}, {"id": None, "name": "b"}], {}, "finds|found"),
    "no attribute": ([{"id": 1, "name": "a"}, {"id": 2, "nmae": "b"}], {}, "no such column"),
    "NULL": ([{"id": 1, "name": "a"}, {"id": 2, "name": None}], {}, "takes no NULL"),
    "others": ([{"id": 1, "name": "a"}, {"id": 2}], {}, "takes no NULL|row 0 gives it"),
    "no mapping": ([{"id": 1, "name": "a"}, 7], {}, "expected a mapping"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_bad_rows_are_named_and_nothing_is_written(session: Session, why: str) -> None:
    """Each wrong row is listed, whatever is wrong with it, and nothing is written."""
    rows, options, problem = REFUSED[why]
    with pytest.raises(InvalidRowsError, match=problem) as caught:
        bulk_update(session, Counted, rows, **options)
    assert {p.index for p in caught.value.problems} == {len(rows) - 1}
    assert session.scalar(select(func.count()).where(Counted.name != "a")) == 0


def test_what_is_asked_wrongly(session: Session) -> None:
    """If arguments of bulk_update are wrong, the error says what is wrong."""
    row = {"id": 1, "name": "b"}
    with pytest.raises(ConfigurationError, match="has no column nmae; did you mean 'name'"):
        bulk_update(session, Counted, [row], columns=["nmae"])
    with pytest.raises(ConfigurationError, match="do not give change"):
        bulk_update(session, Counted, [row], columns=["change"])
    with pytest.raises(ConfigurationError, match="has no column nmae"):
        bulk_update(session, Counted, [row], key="nmae")
    with pytest.raises(ConfigurationError, match="no attribute to set"):
        bulk_update(session, Counted, [{"id": 1}])
    with pytest.raises(ConfigurationError, match="finds no row"):
        bulk_update(session, Counted, [row], key=())
    with pytest.raises(ConfigurationError, match="returning"):
        bulk_update(session, Counted, [row], returning="all")  # type: ignore[arg-type]  # wrong
    with pytest.raises(ConfigurationError, match="changes no key"):
        bulk_update(session, Bird, [{"name": "a", "id": 4}], key="name", columns="id")
    assert bulk_update(session, Counted, []).updated == 0


def test_streams_and_progress(session: Session) -> None:
    """A stream is staged chunk by chunk, and a wrong row in it is named by its position."""
    sent: list[int] = []
    rows = ({"id": n % 9 + 1 if n < 9 else 100 + n, "name": "s"} for n in range(25))
    done = bulk_update(session, Counted, rows, chunk_rows=10, progress=sent.append)
    assert (done.updated, sum(sent)) == (9, 25)
    assert done.missing == tuple(range(9, 25))
    wrong = ({"id": n, "name": None if n == 21 else "t"} for n in range(25))
    with pytest.raises(InvalidRowsError, match="row 21"):
        bulk_update(session, Counted, wrong, chunk_rows=10)
    assert session.scalar(select(func.count()).where(Counted.name == "t")) == 0


def test_what_is_sent(session: Session, way: str) -> None:
    """Few rows are updated by one statement; many go by COPY into a temporary table, and one
    UPDATE.
    """
    bulk_update(session, Counted, [{"id": 1, "name": "b"}])
    for rows in (2, 200, 201, 2000):
        given = [{"id": n, "name": "b"} for n in range(rows)]
        with record_statements(session.get_bind()) as sent:  # type: ignore[arg-type]  # an Engine
            bulk_update(session, Counted, given)
        words = [str(statement).split()[0] for statement in sent]
        few = way == "few" and rows <= 200
        assert words[1:] == (["WITH"] if few else ["CREATE", "COPY", "WITH", "DROP"])
