"""bulk_sync: compared with a loop over objects of plain SQLAlchemy, and its errors."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal
from typing import Any

import pytest
from fixtures.changes import Animal, Base, Colour, Counted, Manager, Pair, Person, Price
from fixtures.listeners import comment, mask, target_of
from fixtures.sides import DRIVERS, Side, both
from fixtures.upsert_ways import way as way
from sqlalchemy import Engine, func, select, text, true
from sqlalchemy.orm import Session

from sqla_seqreserve import SyncResult, bulk_sync
from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError
from sqla_seqreserve.testing import record_statements

pytestmark = pytest.mark.usefixtures("way")

EACH = pytest.mark.parametrize("driver", DRIVERS)
MAY = dt.date(2024, 5, 1)

PLACES = text("SELECT id, ctid::text FROM counted")
"""Where the rows are stored: a row that was written is somewhere else."""


def sync_objects(
    session: Session, model: type[Any], rows: list[dict[str, Any]], key: list[str], scope: Any
) -> tuple[int, int, int, int]:
    """Do the same by objects; return the numbers inserted, updated, unchanged, deleted."""
    there = {
        tuple(getattr(o, k) for k in key): o for o in session.scalars(select(model).where(scope))
    }
    inserted = updated = unchanged = 0
    for row in rows:
        item = there.pop(tuple(row[k] for k in key), None)
        if item is None:
            session.add(model(**row))
            inserted += 1
        elif any(getattr(item, name) != value for name, value in row.items()):
            updated += 1
            for name, value in row.items():
                setattr(item, name, value)
        else:
            unchanged += 1
    for item in there.values():
        session.delete(item)
    session.flush()
    return inserted, updated, unchanged, len(there)


def sync(
    side: Side,
    session: Session,
    model: type[Any],
    rows: list[dict[str, Any]],
    key: list[str],
    scope: Any,
) -> tuple[int, int, int, int]:
    if not side.registered:
        return sync_objects(session, model, rows, key, scope)
    before = bulk_sync(session, model, rows, key=key, scope=scope, dry_run=True)
    done = bulk_sync(session, model, rows, key=key, scope=scope)
    assert done == before
    again = bulk_sync(session, model, rows, key=key, scope=scope)
    assert again == SyncResult(0, 0, len(rows), 0)
    return done.inserted, done.updated, done.unchanged, done.deleted


def prices(chance: random.Random, days: int) -> list[dict[str, Any]]:
    """Rows of fund 1, with few different values, so that some stay unchanged."""
    return [
        {
            "fund": 1,
            "day": MAY + dt.timedelta(days=day),
            "value": chance.choice([None, Decimal("1.50"), Decimal("2.25")]),
            "note": chance.choice([None, "a", "A", "it's"]),
            "weight": chance.choice([None, 0.1]),
            "colour": chance.choice(list(Colour)),
            "data": chance.choice([{"a": 1}, {"a": 2}, [1, None]]),
            "plain": chance.choice([{"a": 1}, [2]]),
        }
        for day in chance.sample(range(days), days * 2 // 3)
    ]


@EACH
@pytest.mark.parametrize("with_json", [True, False])
def test_the_scope_becomes_what_objects_make_of_it(
    twin_urls: tuple[str, str], driver: str, with_json: bool
) -> None:
    """With random rows, again and again, bulk_sync leaves the same rows and counts as a loop over
    objects.
    """
    seed = random.randrange(10**6)
    print("seed", seed)

    def trial(side: Side) -> Any:
        chance = random.Random(seed)
        side.execute(
            "INSERT INTO price (fund, day, note, constant, made) "
            "VALUES (2, '2024-05-01', 'b', 0, 0)"
        )
        told = []
        for days in (9, 12, 0, 6):
            rows = prices(chance, days)
            if not with_json:
                json = {"data", "plain"}
                rows = [{k: v for k, v in row.items() if k not in json} for row in rows]

            def work(session: Session, rows: Any = rows) -> Any:
                done = sync(side, session, Price, rows, ["fund", "day"], Price.fund == 1)
                session.commit()
                return done

            told.append(side.run(work))
        columns = "fund, day, value, note, weight, colour, data, plain, constant, made, in_sql"
        return told, side.rows(f"SELECT ROW({columns})::text FROM price ORDER BY fund, day")  # ours

    both(twin_urls, Base, trial, driver=driver)


@EACH
def test_keys_versions_and_classes_of_one_table(twin_urls: tuple[str, str], driver: str) -> None:
    """bulk_sync works with a composite key, a version, a class of a shared table, and the whole
    table as the scope.
    """

    def trial(side: Side) -> Any:
        side.execute(
            "INSERT INTO counted SELECT n, 'a', 0, n FROM generate_series(1, 9) n",
            "INSERT INTO pair SELECT n, 'x' || n % 2, NULL, 0 FROM generate_series(1, 9) n",
            "INSERT INTO person SELECT n, CASE WHEN n < 5 THEN 'manager' ELSE 'person' END, "
            "'p' || n, NULL FROM generate_series(1, 9) n",
        )

        def work(session: Session) -> Any:
            counted = [{"id": n, "name": "b" if n > 3 else "a"} for n in (4, 2, 11)]
            pairs = [{"a": n, "b": "x1", "value": f"v{n}"} for n in (1, 2, 3)]
            people = [{"id": 20 + n, "name": f"q{n}", "level": n} for n in (2, 7)]
            told = [
                sync(side, session, Counted, counted, ["id"], true()),
                sync(side, session, Pair, pairs, ["a", "b"], Pair.b == "x1"),
                sync(side, session, Manager, people, ["name"], true()),
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
    assert told == [(1, 1, 1, 7), (1, 2, 0, 3), (2, 0, 0, 4)]


@pytest.fixture
def session(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(
            text(
                "INSERT INTO price (fund, day, note, constant, made) "
                "SELECT n % 3, date '2024-05-01' + n, 'a', 0, 0 FROM generate_series(0, 29) n"
            )
        )
        session.execute(
            text("INSERT INTO counted SELECT n, 'a', 0, n FROM generate_series(1, 9) n")
        )
        session.commit()
        yield session


def rows_of(fund: int, numbers: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"fund": fund, "day": MAY + dt.timedelta(days=n), "note": "a", **more} for n in numbers]


def test_a_dry_run_writes_nothing_and_takes_no_id(session: Session) -> None:
    """A dry run counts what would be done, writes nothing and takes no id."""
    taken = text('SELECT last_value FROM "price_Nr_seq"')
    stored = select(func.count()).select_from(Price)
    before = session.scalar(taken), session.scalar(stored)
    scope = Price.fund == 0
    rows = rows_of(0, [0, 3, 6, 100, 101])
    done = bulk_sync(session, Price, rows, key=["fund", "day"], scope=scope, dry_run=True)
    assert done == SyncResult(2, 0, 3, 7)
    assert bulk_sync(session, Price, [], key=["fund", "day"], scope=scope, dry_run=True) == (
        SyncResult(0, 0, 0, 10)
    )
    assert (
        session.scalar(taken),
        session.scalar(select(func.count()).select_from(Price)),
    ) == before


def test_no_rows_empty_the_scope_and_nothing_else(session: Session) -> None:
    """Without rows bulk_sync deletes all rows of the scope, and those of other scopes stay."""
    done = bulk_sync(session, Price, iter(()), key=["fund", "day"], scope=Price.fund == 0)
    assert done == SyncResult(0, 0, 0, 10)
    assert bulk_sync(session, Price, [], key="id", scope=False).deleted == 0  # type: ignore[arg-type]  # as where() takes it
    assert session.scalars(select(Price.fund).distinct().order_by(Price.fund)).all() == [1, 2]


@pytest.mark.parametrize("key", [["fnud", "day"], ["note"], "no_such_index"])
def test_no_rows_do_not_hide_a_wrong_key(session: Session, key: Any) -> None:
    """A key that names no unique index is refused although no rows are given, and nothing is
    deleted.
    """
    with pytest.raises(ConfigurationError):
        bulk_sync(session, Price, [], key=key, scope=true())
    assert session.scalar(select(func.count()).select_from(Price)) == 30


def test_new_rows_alone_take_an_id(session: Session) -> None:
    """Only new rows take an id; existing rows keep theirs."""
    before = session.scalar(text('SELECT last_value FROM "price_Nr_seq"'))
    bulk_sync(session, Price, rows_of(0, [0, 3, 300]), key="price_of_day", scope=Price.fund == 0)
    assert session.scalar(text('SELECT last_value FROM "price_Nr_seq"')) == before + 1


def test_objects_of_the_session(session: Session) -> None:
    """Updated objects are expired, except for unflushed changes; deleted objects leave
    the session.
    """
    [same, changed, mine, gone] = session.scalars(
        select(Price).where(Price.fund == 0).order_by(Price.day).limit(4)
    )
    mine.weight = 7.5
    rows = rows_of(0, [0]) + rows_of(0, [3, 6])
    for row in rows[1:]:
        row["note"] = "new"
    with session.no_autoflush:
        bulk_sync(session, Price, rows, key=["fund", "day"], scope=Price.fund == 0)
        assert "note" in same.__dict__
        assert changed.note == "new"
        assert (mine.note, mine.weight) == ("new", 7.5)
        assert gone not in session


@pytest.mark.parametrize("certain", [True, False])
def test_rows_outside_the_scope_are_refused(session: Session, certain: bool) -> None:
    """Rows outside the scope are each named, and nothing is written or deleted."""
    scope: Any = Price.fund == 0
    if not certain:
        # What the rows do not give decides.
        scope = scope & (func.coalesce(Price.weight, 0) < 1) & (Price.made == 0)
    rows = rows_of(0, [0, 3]) + rows_of(4, [400])
    with pytest.raises(InvalidRowsError, match="1 of 3 rows are not in the scope") as caught:
        bulk_sync(session, Price, rows, key=["fund", "day"], scope=scope)
    assert [problem.index for problem in caught.value.problems] == [2]
    session.commit()
    assert session.scalar(select(func.count()).select_from(Price)) == 30


def test_rows_outside_the_scope_stay_written_in_autocommit(
    session: Session, engine: Engine
) -> None:
    """If only the written rows show that they are outside the scope, the error of a connection in
    autocommit says that they stay.
    """
    rows = [{"id": 400, "name": "z"}]
    with (
        Session(engine.execution_options(isolation_level="AUTOCOMMIT")) as there,
        pytest.raises(InvalidRowsError, match="all rows stay written, by autocommit"),
    ):
        bulk_sync(there, Counted, rows, key="id", scope=func.coalesce(Counted.change, 0) > 5)
    assert session.scalar(select(Counted.name).where(Counted.id == 400)) == "z"


def test_a_row_that_another_scope_has_is_refused(session: Session) -> None:
    """A row whose unique key exists in another scope is refused, and the existing row stays
    unchanged.
    """
    rows = [{"id": n, "name": "z"} for n in (2, 50)]
    with pytest.raises(InvalidRowsError, match="is a row of the table outside the scope") as caught:
        bulk_sync(session, Counted, rows, key="id", scope=Counted.change > 5)
    assert [problem.index for problem in caught.value.problems] == [0]
    assert session.scalar(select(func.count()).where(Counted.name == "z")) == 0


def test_bad_rows_are_named_and_nothing_is_written(session: Session) -> None:
    """Duplicates, rows without a key, and unknown columns are named, and nothing is written."""
    key, scope = ["fund", "day"], Price.fund == 0
    for rows, problem in (
        (rows_of(0, [1, 2, 1]), "is the same row as row 0"),
        ([*rows_of(0, [1, 2]), {"fund": 0, "day": None, "note": "a"}], "has no value"),
        ([*rows_of(0, [1, 2]), {"fund": 0, "day": MAY, "nose": "a"}], "no such column"),
    ):
        with pytest.raises(InvalidRowsError, match=problem) as caught:
            bulk_sync(session, Price, rows, key=key, scope=scope)
        assert {p.index for p in caught.value.problems} == {2}
    assert session.scalar(select(func.count()).select_from(Price)) == 30


def test_what_is_asked_wrongly(session: Session) -> None:
    """If an argument of bulk_sync is wrong, the error names it."""
    row = {"id": 1, "name": "b"}
    with pytest.raises(ConfigurationError, match="key=.*names no unique index"):
        bulk_sync(session, Counted, [row], key="name", scope=true())
    with pytest.raises(ConfigurationError, match=r"has no column nmae"):
        bulk_sync(session, Counted, [row], key=["nmae"], scope=true())
    with pytest.raises(ConfigurationError, match="has no column nmae"):
        bulk_sync(session, Counted, [row], key="id", scope=true(), update=["nmae"])
    with pytest.raises(ConfigurationError, match=r"several tables \(bird, animal\)"):
        bulk_sync(session, Animal, [row], key="id", scope=true())


def test_update_says_what_is_compared(session: Session) -> None:
    """``update`` names the attributes that are compared and overwritten; others are for new rows
    only, and with () none is overwritten.
    """
    rows = rows_of(0, [0, 3, 300], weight=1.0)
    scope, key = Price.fund == 0, ["fund", "day"]
    done = bulk_sync(session, Price, rows, key=key, scope=scope, update="note", dry_run=True)
    assert done == SyncResult(1, 0, 2, 8)
    assert bulk_sync(session, Price, rows, key=key, scope=scope, update=()) == done


def test_streams(session: Session) -> None:
    """bulk_sync stages a stream chunk by chunk."""
    sent: list[int] = []
    rows = ({"id": n, "name": "s"} for n in range(5, 30))
    done = bulk_sync(
        session, Counted, rows, key="id", scope=true(), chunk_rows=10, progress=sent.append
    )
    assert done == SyncResult(20, 5, 0, 4)
    assert sum(sent) == 25


def test_what_is_sent(session: Session, way: str) -> None:
    """If all rows are unchanged, bulk_sync takes one statement, and sends none for work that there
    is not. A change takes one more, which leaves the unchanged rows alone.
    """
    rows = [{"id": n, "name": "a"} for n in range(1, 10)]
    bulk_sync(session, Counted, rows, key="id", scope=true())
    with record_statements(session.get_bind()) as sent:  # type: ignore[arg-type]  # an Engine
        bulk_sync(session, Counted, rows, key="id", scope=true())
    words = [str(statement).split()[0] for statement in sent]
    few = way == "few"
    unchanged = ["SELECT", "WITH"] if few else ["CREATE", "COPY", "SELECT", "SELECT", "DROP"]
    assert words[1:] == unchanged
    rows[3]["name"] = "b"
    before = session.execute(PLACES).all()
    with record_statements(session.get_bind()) as sent:  # type: ignore[arg-type]  # an Engine
        bulk_sync(session, Counted, rows, key="id", scope=true())
    words = [str(statement).split()[0] for statement in sent]
    last = [] if few else ["DROP"]
    assert words[1:] == [*unchanged[: len(unchanged) - len(last)], "WITH", *last]
    after = session.execute(PLACES).all()
    assert [id_ for id_, _ in set(after) - set(before)] == [4]


@EACH
@pytest.mark.parametrize("listener", [mask, comment])
def test_whoever_listens_is_heard(twin_urls: tuple[str, str], driver: str, listener: Any) -> None:
    """If a listener may change a statement, each row has a statement of its own with its values."""

    def trial(side: Side) -> Any:
        side.execute("INSERT INTO person SELECT n, 'person', 'p' || n FROM generate_series(1, 9) n")
        if side.registered:
            listener(target_of(side))

        def work(session: Session) -> Any:
            rows = [{"id": n, "name": f"p{n}", "level": n} for n in (4, 2, 11)]
            told = sync(side, session, Person, rows, ["name"], true())
            session.commit()
            return told

        return side.run(work), side.rows("SELECT p::text FROM person p ORDER BY 1")

    told, _ = both(twin_urls, Base, trial, driver=driver)
    assert told == (1, 2, 0, 7)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "AUTOCOMMIT"])
def test_in_every_transaction(session: Session, engine: Engine, level: str) -> None:
    """bulk_sync works in each kind of transaction."""
    other = engine.execution_options(isolation_level=level)
    with Session(other) as there:
        there.execute(text("SELECT 1"))
        rows = [{"id": n, "name": "z"} for n in (1, 2, 44)]
        assert bulk_sync(there, Counted, rows, key="id", scope=true()) == SyncResult(1, 2, 0, 7)
        there.commit()
    assert session.scalar(select(func.count()).where(Counted.name == "z")) == 3
