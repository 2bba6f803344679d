"""bulk_upsert: rows inserted, updated and unchanged; errors; and results."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.bulk_keys import DRIVERS
from fixtures.bulk_keys import on_driver as on_driver
from fixtures.upsert_ways import way as way
from sqlalchemy import (
    Computed,
    Engine,
    Identity,
    Index,
    String,
    UniqueConstraint,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_insert, bulk_upsert
from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError
from sqla_seqreserve.testing import record_statements

# Every rule holds for few rows and for many.
pytestmark = pytest.mark.usefixtures("way")


class Base(DeclarativeBase):
    pass


class Price(Base):
    __tablename__ = "price"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    fund: Mapped[int]
    day: Mapped[dt.date]
    value: Mapped[int]
    note: Mapped[str | None] = mapped_column(default="made")
    source: Mapped[str] = mapped_column(server_default="import")
    changed: Mapped[int] = mapped_column(default=0, onupdate=9)
    __table_args__ = (UniqueConstraint("fund", "day", name="price_of_day"),)


class Account(Base):
    """Keys and indexes of the less usual kinds."""

    __tablename__ = "account"
    number: Mapped[int] = mapped_column("Nr", Identity(always=True), primary_key=True)
    email: Mapped[str] = mapped_column(String(40))
    slot: Mapped[int | None]
    active: Mapped[bool] = mapped_column(default=True)
    balance: Mapped[int] = mapped_column(default=0)
    doubled: Mapped[int] = mapped_column(Computed("balance * 2", persisted=True))
    __table_args__ = (
        Index("account_email", text("lower(email)"), unique=True),
        Index("account_slot", "slot", unique=True, postgresql_where=text("active")),
        Index("account_doubled", "doubled", unique=True),
    )


class Tag(Base):
    __tablename__ = "tag"
    name: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[uuid.UUID] = mapped_column(default=uuid.uuid4)
    uses: Mapped[int]


class Pair(Base):
    __tablename__ = "pair"
    left: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    right: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    weight: Mapped[int]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Event(Base):
    __tablename__ = "event"
    id: Mapped[uuid.UUID] = mapped_column(
        primary_key=True, server_default=text("gen_random_uuid()")
    )
    code: Mapped[str | None] = mapped_column(unique=True)
    value: Mapped[int]


class Share(Base):
    __tablename__ = "share"
    region: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int]
    __table_args__ = {"postgresql_partition_by": "LIST (region)"}


MAY = dt.date(2024, 5, 1)


@pytest.fixture
def tables(engine: Engine) -> Engine:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE share_all PARTITION OF share DEFAULT"))
    return engine


@pytest.fixture
def session(tables: Engine) -> Iterator[Session]:
    with Session(tables) as session:
        yield session


def prices(funds: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"fund": fund, "day": MAY, "value": fund * 10, **more} for fund in funds]


def last_id(session: Session) -> Any:
    return session.scalar(text("SELECT last_value FROM price_id_seq"))


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("returning", ["ids", "objects", None])
def test_counts_and_keys(tables: Engine, on_driver: Any, driver: str, returning: Any) -> None:
    """New rows are inserted and existing ones updated; keys and objects are aligned
    with the rows.
    """

    def scenario(session: Session) -> None:
        there = bulk_insert(session, Price, prices(range(10)))
        rows = prices([12, 3, 11, 7, 10])
        for row in rows:
            row["value"] += 1
        done = bulk_upsert(session, Price, rows, conflict=["fund", "day"], returning=returning)
        assert (done.inserted, done.updated, done.unchanged) == (3, 2, 0)
        stored = {price.id: price for price in session.scalars(select(Price))}
        assert sorted(price.fund for price in stored.values()) == [*range(10), 10, 11, 12]
        if returning == "ids":
            assert [(stored[key].fund, stored[key].value) for key in done.ids] == [
                (row["fund"], row["value"]) for row in rows
            ]
            assert [done.ids[1], done.ids[3]] == [there[3], there[7]]
        if returning == "objects":
            assert [(item.fund, item.value) for item in done.objects] == [
                (row["fund"], row["value"]) for row in rows
            ]
            assert all(item is stored[item.id] for item in done.objects)
        by_fund = {price.fund: price for price in stored.values()}
        assert {(by_fund[n].note, by_fund[n].source) for n in range(13)} == {("made", "import")}
        assert {by_fund[n].changed for n in (3, 7)} == {9}
        assert {by_fund[n].changed for n in (0, 10, 11, 12)} == {0}

    Base.metadata.create_all(tables)
    on_driver(driver, scenario)


def test_rows_that_are_there_take_no_id(session: Session) -> None:
    """Existing rows take no id: the sequence moves by the number of new rows, in the order of the
    rows.
    """
    bulk_insert(session, Price, prices(range(100)))
    before = last_id(session)
    bulk_upsert(session, Price, prices(range(100)), conflict="price_of_day")
    assert last_id(session) == before
    done = bulk_upsert(
        session, Price, prices([500, 3, 400, 300]), conflict="price_of_day", returning="ids"
    )
    assert last_id(session) == before + 3
    assert [done.ids[0], done.ids[2], done.ids[3]] == [before + 1, before + 2, before + 3]


def test_what_is_sent(session: Session, way: str) -> None:
    """Many rows go by COPY into a temporary table and one INSERT; few go by one INSERT."""
    bulk_upsert(session, Price, prices(range(3)), conflict=["fund", "day"])
    for rows in (2, 200, 201, 5000):
        with record_statements(session.get_bind()) as sent:  # type: ignore[arg-type]  # an Engine
            bulk_upsert(session, Price, prices(range(rows)), conflict=["fund", "day"])
        words = [str(statement).split()[0] for statement in sent]
        if way == "few" and rows <= 200:
            assert words == ["WITH", "WITH"]
        else:
            assert words == ["WITH", "CREATE", "COPY", "WITH", "DROP"]


@pytest.mark.parametrize("update", [(), ["value"], ["note"], None])
def test_update_names_what_is_overwritten(session: Session, update: Any) -> None:
    """``update`` names the attributes to overwrite; None: all that the rows give; (): none, and
    existing rows are unchanged.
    """
    bulk_insert(session, Price, prices([1], note="old"))
    rows = prices([1, 2], note="new")
    rows[0]["value"] = 99
    done = bulk_upsert(
        session, Price, rows, conflict=["fund", "day"], update=update, returning="ids"
    )
    assert (done.inserted, done.updated, done.unchanged) == (
        (1, 0, 1) if update == () else (1, 1, 0)
    )
    price = session.get_one(Price, done.ids[0])
    assert price.value == (99 if update is None or "value" in update else 10)
    assert price.note == ("new" if update is None or "note" in update else "old")


def test_where_decides_which_rows_are_updated(session: Session) -> None:
    """In ``where`` the class is the existing row, and excluded the given one, as in
    on_conflict_do_update().
    """
    bulk_insert(session, Price, prices([1, 2, 3]))
    rows = prices([1, 2, 3])
    rows[1]["value"] = 5
    rows[2]["value"] = 500
    excluded = pg_insert(Price).excluded
    done = bulk_upsert(
        session,
        Price,
        rows,
        conflict=["fund", "day"],
        where=Price.value < excluded.value,
        returning="ids",
    )
    assert (done.inserted, done.updated, done.unchanged) == (0, 1, 2)
    assert [session.get_one(Price, key).value for key in done.ids] == [10, 20, 500]


def test_duplicates_are_named_before_anything_is_written(session: Session) -> None:
    """Two rows for one row of the table are refused with both positions, counted over the whole
    stream.
    """
    rows = [*prices(range(50)), *prices([7]), *prices(range(50, 60)), *prices([7, 55])]
    with pytest.raises(InvalidRowsError) as refused:
        bulk_upsert(session, Price, iter(rows), conflict=["fund", "day"], chunk_rows=20)
    assert [(p.index, p.attribute, p.problem) for p in refused.value.problems] == [
        (50, "fund, day", "is the same row as row 7"),
        (61, "fund, day", "is the same row as row 7"),
        (62, "fund, day", "is the same row as row 56"),
    ]
    assert session.scalar(select(func.count()).select_from(Price)) == 0
    assert session.scalar(text("SELECT is_called FROM price_id_seq")) is False
    assert bulk_upsert(session, Price, prices([7]), conflict=["fund", "day"]).inserted == 1


def test_expression_index(session: Session) -> None:
    """``conflict`` may name an index of an expression; values that it makes equal are one row."""
    bulk_insert(session, Account, [{"email": "Ann@x", "balance": 1}])
    rows = [{"email": "ann@X", "balance": 5}, {"email": "bob@x", "balance": 6}]
    done = bulk_upsert(session, Account, rows, conflict="account_email", returning="ids")
    assert (done.inserted, done.updated) == (1, 1)
    found = {row.number: row.email for row in session.scalars(select(Account))}
    assert [found[key] for key in done.ids] == ["ann@X", "bob@x"]
    with pytest.raises(InvalidRowsError, match="row 1, lower.*same row as row 0"):
        bulk_upsert(session, Account, [{"email": "A"}, {"email": "a"}], conflict="account_email")


def test_partial_index(session: Session) -> None:
    """A partial index decides only about the rows that it contains; other rows, and NULLs, are
    always new.
    """
    bulk_insert(session, Account, [{"email": "a", "slot": 1, "balance": 1}])
    rows = [
        {"email": "b", "slot": 1, "active": True, "balance": 2},
        {"email": "c", "slot": 1, "active": False, "balance": 3},
        {"email": "d", "slot": 1, "active": False, "balance": 4},
        {"email": "e", "slot": None, "active": True, "balance": 5},
        {"email": "f", "slot": None, "active": True, "balance": 6},
    ]
    done = bulk_upsert(session, Account, rows, conflict="account_slot", returning="ids")
    assert (done.inserted, done.updated) == (4, 1)
    found = {row.number: row.email for row in session.scalars(select(Account))}
    assert [found[key] for key in done.ids] == ["b", "c", "d", "e", "f"]
    with pytest.raises(ConfigurationError, match="names no unique index"):
        bulk_upsert(session, Account, rows, conflict=["slot"])


def test_index_of_a_computed_column(session: Session) -> None:
    """A unique column that the database computes may identify rows, too."""
    bulk_insert(session, Account, [{"email": "a", "balance": 4}])
    done = bulk_upsert(
        session, Account, [{"email": "b", "balance": 4}], conflict=["doubled"], returning="ids"
    )
    assert (done.inserted, done.updated) == (0, 1)
    assert session.get_one(Account, done.ids[0]).email == "b"


def test_natural_composite_and_server_keys(session: Session) -> None:
    """bulk_upsert works with keys that no sequence numbers; a version is counted up; NULLs are
    never equal.
    """
    for _ in range(2):
        tags = bulk_upsert(
            session, Tag, [{"name": n, "uses": 1} for n in "ab"], conflict=["name"], returning="ids"
        )
        assert list(tags.ids) == ["a", "b"]
        pairs = bulk_upsert(
            session,
            Pair,
            [{"left": n, "right": n, "weight": n} for n in (2, 1)],
            conflict=["right", "left"],
            returning="ids",
        )
        assert list(pairs.ids) == [(2, 2), (1, 1)]
    assert (tags.updated, pairs.updated) == (2, 2)
    assert session.scalars(select(Pair.version)).all() == [2, 2]
    rows = [{"code": "x", "value": 1}, {"code": "y", "value": 2}]
    first = bulk_upsert(session, Event, rows, conflict=["code"], returning="ids")
    again = bulk_upsert(session, Event, rows[::-1], conflict=["code"], returning="ids")
    assert list(again.ids) == list(first.ids)[::-1]
    nulls = [{"code": None, "value": 3}, {"code": None, "value": 4}]
    assert bulk_upsert(session, Event, nulls, conflict=["code"]).inserted == 2


@pytest.mark.parametrize("returning", ["ids", None])
def test_partitioned_table(session: Session, returning: Any) -> None:
    """In a partitioned table the counts and keys are right."""
    bulk_insert(session, Share, [{"region": "eu", "code": 1, "value": 1}])
    rows = [{"region": "us", "code": 1, "value": 2}, {"region": "eu", "code": 1, "value": 3}]
    done = bulk_upsert(session, Share, rows, conflict=["region", "code"], returning=returning)
    assert (done.inserted, done.updated) == (1, 1)
    assert list(done.ids) == ([("us", 1), ("eu", 1)] if returning else [])


def test_updated_objects_are_expired(session: Session) -> None:
    """An object of the session whose row was updated is loaded again; unflushed changes stay."""
    one, two = bulk_insert(session, Price, prices([1, 2]), returning="objects")
    assert (one.value, two.value) == (10, 20)
    two.note = "mine"
    bulk_upsert(session, Price, prices([1, 2], source="feed"), conflict=["fund", "day"])
    rows = prices([1, 3])
    rows[0]["value"] = 77
    bulk_upsert(session, Price, rows, conflict=["fund", "day"])
    assert (one.value, one.source, two.source, two.note) == (77, "feed", "feed", "mine")


def test_values_that_copy_does_not_take(session: Session) -> None:
    """SQL expressions, and values that the server casts, are staged by INSERT."""
    rows = prices(range(5))
    rows[1]["value"] = func.abs(-5)
    rows[2]["value"] = "22"
    done = bulk_upsert(session, Price, rows, conflict=["fund", "day"], returning="ids")
    values = [session.get_one(Price, key).value for key in done.ids]
    assert values == [0, 5, 22, 30, 40]


def test_columns_and_streams(session: Session) -> None:
    """Rows given as columns, and a stream in chunks, are one upsert."""
    columns = {"fund": [1, 2, 3], "day": [MAY] * 3, "value": [1, 2, 3]}
    assert bulk_upsert(session, Price, columns, conflict=["fund", "day"]).inserted == 3
    seen: list[int] = []
    done = bulk_upsert(
        session,
        Price,
        (row for row in prices(range(100))),
        conflict=["fund", "day"],
        chunk_rows=30,
        progress=seen.append,
    )
    assert (done.inserted, done.updated, sum(seen)) == (97, 3, 100)


@pytest.mark.parametrize(
    ("rows", "conflict", "update", "message"),
    [
        (prices([1]), ["fund"], None, "names no unique index"),
        (prices([1]), ["nope"], None, "no column nope"),
        (prices([1]), ["fund", "day"], ["note"], "do not give note"),
        (prices([1]), ["fund", "day"], ["nope"], "no column nope"),
        ([{"fund": 1, "value": 1}], ["fund", "day"], None, "looks at day"),
    ],
)
def test_what_cannot_be_told_is_refused(
    session: Session, rows: Any, conflict: Any, update: Any, message: str
) -> None:
    """Each wrong argument or row has a message of its own, and nothing is written."""
    with pytest.raises(ConfigurationError, match=message):
        bulk_upsert(session, Price, rows, conflict=conflict, update=update)
    assert session.scalar(select(func.count()).select_from(Price)) == 0


def test_rows_must_give_the_same(session: Session) -> None:
    """If one row gives an attribute and another does not, each is named, because its value would be
    unclear.
    """
    with pytest.raises(InvalidRowsError) as refused:
        bulk_upsert(
            session, Price, [*prices([1]), *prices([2], note="x")], conflict=["fund", "day"]
        )
    assert [(p.index, p.attribute) for p in refused.value.problems] == [(1, "note")]
    assert bulk_upsert(session, Price, [], conflict=["fund", "day"]).inserted == 0
