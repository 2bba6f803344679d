"""The error for many rows that cannot be written: it counts all of them, and stays short."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import BigInteger, Engine, ForeignKey, Identity, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import bulk_delete, bulk_insert, bulk_sync, bulk_update, bulk_upsert
from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError


class Base(DeclarativeBase):
    pass


class Station(Base):
    __tablename__ = "station"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)


class Reading(Base):
    __tablename__ = "reading"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    level: Mapped[int]
    amount: Mapped[int | None] = mapped_column("amount_cm")
    station_id: Mapped[int | None] = mapped_column(ForeignKey(Station.id))
    station: Mapped[Station | None] = relationship()


class Pair(Base):
    __tablename__ = "pair"

    left: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    right: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Named(Base):
    __tablename__ = "named"

    name: Mapped[str] = mapped_column(primary_key=True)


@pytest.fixture
def session(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session


Write = Callable[[Session, Any], object]

WAYS: dict[str, Write] = {
    "insert": lambda session, rows: bulk_insert(session, Reading, rows),
    "upsert": lambda session, rows: bulk_upsert(session, Reading, rows, conflict="number"),
    "update": lambda session, rows: bulk_update(session, Reading, rows),
    "sync": lambda session, rows: bulk_sync(
        session, Reading, rows, key="number", scope=Reading.level > 0
    ),
}
EACH = pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)


def refused(write: Write, session: Session, rows: Any) -> InvalidRowsError:
    with pytest.raises(InvalidRowsError) as caught:
        write(session, rows)
    session.rollback()
    assert len(str(caught.value)) < 2_000
    return caught.value


@EACH
def test_rows_of_each_problem_are_counted_together(session: Session, write: Write) -> None:
    """The error counts all wrong rows, and sums up each problem in a line, the commonest first."""
    good = [{"number": n, "level": 1, "amount": 1} for n in range(10)]
    rows = [
        *good,
        *({**good[0], "number": n, "levle": 2} for n in range(10, 1010)),
        *({**good[0], "number": n, "amount": float("nan")} for n in range(1010, 2010)),
        *({**good[0], "number": n, "level": None} for n in range(2010, 3010)),
        "no row",
    ]
    error = refused(write, session, rows)
    first, *lines = str(error).splitlines()
    assert first.startswith("Reading: 3001 of 3011 rows cannot be written")
    assert sorted(lines[:3]) == [
        "  row 10, levle: Reading has no such column; did you mean 'level'? "
        "(1,000 rows: also 11, 12, 13, 14, 15, …)",
        "  row 1010, amount: is nan, and the column holds a whole number or NULL: give None for no "
        "value (1,000 rows: also 1011, 1012, 1013, 1014, 1015, …)",
        "  row 2010, level: has no value, and the column takes no NULL and has no default "
        "(1,000 rows: also 2011, 2012, 2013, 2014, 2015, …)",
    ]
    assert lines[3:] == [
        "  row 3010: expected a mapping, found str",
        "  all are in the error's `problems`",
    ]
    assert [problem.index for problem in error.problems] == list(range(10, 3011))


def test_a_name_that_is_nearly_right(session: Session) -> None:
    """The error says what was probably meant: the attribute of the column, or the key of the
    relationship.
    """
    row = {"number": 1, "level": 1, "amount_cm": 1, "station": 1, "altitude": 1, 5: 1}
    error = refused(WAYS["insert"], session, [row])
    assert {problem.attribute: problem.problem for problem in error.problems} == {
        "amount_cm": "Reading has no such column: its attribute is 'amount'",
        "station": "is a relationship: give 'station_id'",
        "altitude": "Reading has no such column",
        "5": "Reading has no such column: expected the attribute's name, found int",
    }
    rows = [{"number": 1, "level": 1}]
    with pytest.raises(ConfigurationError, match="no column nubmer; did you mean 'number'"):
        bulk_upsert(session, Reading, rows, conflict=["nubmer"])
    with pytest.raises(ConfigurationError, match="no column levle, x; did you mean 'level'"):
        bulk_upsert(session, Reading, rows, conflict="number", update=["levle", "x"])


@pytest.mark.parametrize("name", ["upsert", "update"])
def test_rows_that_give_other_attributes_than_the_first(session: Session, name: str) -> None:
    """Rows with other attributes than the first one are counted with those that lack a value, each
    row once.
    """
    rows: list[dict[str, Any]] = [{"number": n, "level": 1, "amount": 1} for n in range(6)]
    del rows[2]["amount"]
    rows[3]["station_id"] = None
    error = refused(WAYS[name], session, rows)
    assert str(error).splitlines() == [
        "Reading: 2 of 6 rows give other attributes than row 0, and all must give the same; "
        "nothing was written",
        "  row 2, amount: is not given, and row 0 gives it",
        "  row 3, station_id: is given, and row 0 does not give it",
    ]
    del rows[4]["level"]
    rows[5]["number"] = None
    error = refused(WAYS[name], session, rows)
    assert "4 of 6 rows cannot be written" in str(error)
    assert [(p.index, p.attribute) for p in error.problems] == [
        (2, "amount"),
        (3, "station_id"),
        (4, "level"),
        (5, "number"),
    ]


@pytest.mark.parametrize("name", ["upsert", "update", "sync"])
def test_rows_for_the_same_row_are_summed_up(session: Session, name: str) -> None:
    """Each duplicate is a problem that names its twin, and the message has one line for all of
    them.
    """
    rows = [{"number": n % 1500, "level": 1} for n in range(3000)]
    error = refused(WAYS[name], session, rows)
    assert "1500 of 3000 rows" in str(error)
    assert str(error).splitlines()[1] == (
        "  row 1500, number: is the same row as row 0 "
        "(1,500 rows: also 1501, 1502, 1503, 1504, 1505, …)"
    )
    assert error.problems[-1].problem == "is the same row as row 1499"


def test_many_kinds_of_problems(session: Session) -> None:
    """The least common kinds of problems are counted in one line."""
    rows = [{"number": n, "level": 1, f"{'long' * 100} {n % 50}": 1} for n in range(3000)]
    error = refused(WAYS["insert"], session, rows)
    assert "3000 of 3000 rows" in str(error)
    assert "and 2,520 more problems" in str(error)
    assert len(error.problems) == 3000


def test_a_later_part_of_a_stream(session: Session) -> None:
    """For a later chunk of a stream the message says which rows were checked, and does not claim
    that nothing was reserved.
    """
    rows = ({"number": n, "level": None if n == 21 else 1} for n in range(30))
    with pytest.raises(InvalidRowsError) as caught:
        bulk_insert(session, Reading, rows, chunk_rows=10)
    assert str(caught.value).splitlines()[0] == (
        "Reading: 1 of 10 rows from row 20 on cannot be written"
    )


def test_keys_that_are_no_tuples(session: Session) -> None:
    """Wrong values for a key of several columns are summed up, too."""
    error = refused(
        lambda session, keys: bulk_delete(session, Pair, keys), session, list(range(3000))
    )
    assert len(error.problems) == 3000
    assert "(3,000 rows: also 1, 2" in str(error)


@pytest.mark.parametrize("many", [0, 300])
def test_what_is_given_in_place_of_a_key(session: Session, many: int) -> None:
    """A row, a tuple or an object in place of its key is named by the error, and so is a fraction,
    which the server would round to another key; whole numbers of every type are keys.
    """
    keys = range(1, many + 1)
    wrong = [{"number": 1}, (1,), session.execute(select(1)).one(), Reading(), 1.5, Decimal("0.5")]
    error = refused(
        lambda session, keys: bulk_delete(session, Reading, keys), session, [*keys, *wrong]
    )
    assert [problem.index for problem in error.problems] == [many + at for at in range(len(wrong))]
    held = ", and the column holds a whole number"
    assert [problem.problem for problem in error.problems] == [
        *(f"is an object of type {name}{held}" for name in ("dict", "tuple", "Row", "Reading")),
        "is 1.5, which is no key of a row",
        "is Decimal('0.5'), which is no key of a row",
    ]
    error = refused(
        lambda session, keys: bulk_delete(session, Named, keys), session, ["a", ["b"], None]
    )
    assert [problem.problem for problem in error.problems] == [
        "is an object of type list, and the column holds a single value",
        "is None, which is no key of a row",
    ]
    bulk_insert(session, Reading, [{"number": n, "level": 1} for n in range(4)])
    assert bulk_delete(session, Reading, [1.0, Decimal(2), True]) == 2


def test_a_fraction_finds_no_row_to_update(session: Session) -> None:
    """A fraction in the key of an update is refused, and in an attribute that is set it is
    rounded as in an INSERT.
    """
    bulk_insert(session, Reading, [{"number": 2, "level": 1}])
    error = refused(WAYS["update"], session, [{"number": 1.6, "level": 2}])
    assert [str(problem) for problem in error.problems] == [
        "row 0, number: is 1.6, which is no key of a row"
    ]
    bulk_insert(session, Reading, [{"number": 2, "level": 1}])
    assert bulk_update(session, Reading, [{"number": 2, "level": 1.6}]).updated == 1
    assert session.scalars(select(Reading.level)).all() == [2]


@EACH
def test_an_object_in_place_of_its_key(session: Session, write: Write) -> None:
    """If a row gives an object for a foreign key and not the object's key, the error names the
    row.
    """
    rows = [{"number": 1, "level": 1, "station_id": Station(id=1)}]
    error = refused(write, session, rows)
    assert [str(problem) for problem in error.problems] == [
        "row 0, station_id: is an object of type Station, and the column holds a whole number"
    ]
