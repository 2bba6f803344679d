"""bulk_delete: compared with plain SQLAlchemy's deletes, and its errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures.changes import Animal, Base, Bird, Counted, Manager, Pair, Person
from fixtures.listeners import comment, target_of
from fixtures.sides import DRIVERS, Side, both
from fixtures.upsert_ways import way as way
from sqlalchemy import Engine, event, func, inspect, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from sqla_seqreserve import ReservedIds, bulk_delete
from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError
from sqla_seqreserve.testing import record_statements

pytestmark = pytest.mark.usefixtures("way")

EACH = pytest.mark.parametrize("driver", DRIVERS)
ROWS = [
    "INSERT INTO counted SELECT n, 'a', 0, n FROM generate_series(1, 9) n",
    "INSERT INTO pair SELECT n, 'x' || n % 2, NULL, 0 FROM generate_series(1, 9) n",
    "INSERT INTO person SELECT n, CASE WHEN n < 5 THEN 'manager' ELSE 'person' END, 'p' || n, NULL"
    " FROM generate_series(1, 9) n",
    "INSERT INTO animal SELECT n, CASE WHEN n < 9 THEN 'bird' ELSE 'animal' END, 'a' || n, 0"
    " FROM generate_series(1, 12) n",
    "INSERT INTO bird SELECT n, 2, NULL FROM generate_series(1, 8) n",
]
KEYS: list[tuple[type[Any], list[Any]]] = [
    (Counted, [4, 2, 99, 2]),
    (Pair, [(1, "x1"), (2, "x1"), (4, "x0")]),
    (Manager, [1, 7]),
    (Person, [8, 2]),
    (Bird, [3, 11]),
    (Animal, [5, 12, 77]),
]


def remove(side: Side, session: Session, model: type[Any], keys: list[Any]) -> int:
    if side.registered:
        return bulk_delete(session, model, keys)
    found = [item for key in dict.fromkeys(keys) if (item := session.get(model, key)) is not None]
    for item in found:
        session.delete(item)
    session.flush()
    return len(found)


def left(side: Side) -> list[Any]:
    tables = ("counted", "pair", "person", "animal", "bird")
    return [side.rows(f"SELECT t::text FROM {table} t ORDER BY 1") for table in tables]  # ours


@EACH
def test_rows_are_deleted_as_objects_are(twin_urls: tuple[str, str], driver: str) -> None:
    """bulk_delete deletes the rows, and returns the count, that plain SQLAlchemy does: keys of one
    column and of several, classes of one table and of several.
    """

    def trial(side: Side) -> Any:
        side.execute(*ROWS)

        def work(session: Session) -> Any:
            counts = [remove(side, session, model, keys) for model, keys in KEYS]
            session.commit()
            return counts

        return side.run(work), left(side)

    counts, _ = both(twin_urls, Base, trial, driver=driver)
    assert counts == [2, 2, 1, 2, 1, 2]


@pytest.fixture
def session(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for statement in ROWS:
            session.execute(text(statement))
        session.commit()
        yield session


def test_objects_leave_the_session(session: Session) -> None:
    """Objects whose row was deleted are removed from the session; a rollback brings them back."""
    gone, stays = session.get_one(Counted, 3), session.get_one(Counted, 4)
    assert bulk_delete(session, Counted, [3]) == 1
    assert gone not in session
    assert stays in session
    assert inspect(gone).deleted
    session.rollback()
    assert gone in session
    assert gone.name == "a"


def test_keys_of_every_shape(session: Session) -> None:
    """bulk_delete takes keys as a list, a generator, ReservedIds, a range, and none at all."""
    sent: list[int] = []
    assert bulk_delete(session, Counted, ReservedIds([1, 2]), progress=sent.append) == 2
    assert bulk_delete(session, Counted, (n for n in (3, 4)), chunk_rows=1) == 2
    assert bulk_delete(session, Counted, range(5, 7)) == 2
    assert bulk_delete(session, Counted, iter(())) == 0
    assert bulk_delete(session, Counted, []) == 0
    assert sent == [2]
    assert session.scalars(select(Counted.id).order_by(Counted.id)).all() == [7, 8, 9]


def test_what_is_no_key_is_named_and_nothing_is_deleted(session: Session) -> None:
    """Values that are no keys are listed with their positions, and nothing is deleted."""
    with pytest.raises(InvalidRowsError, match="row 2.*no key"):
        bulk_delete(session, Counted, [1, 2, None])
    with pytest.raises(InvalidRowsError, match="tuple of 2 values") as caught:
        bulk_delete(session, Pair, [(1, "x1"), 2, (3,), "ab"])
    assert [problem.index for problem in caught.value.problems] == [1, 2, 3]
    for wrong in ("abc", {"id": 1}, 7):
        with pytest.raises(ConfigurationError, match="iterable of keys"):
            bulk_delete(session, Counted, wrong)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ConfigurationError, match="chunk_rows"):
        bulk_delete(session, Counted, [1], chunk_rows=0)
    assert session.scalar(select(func.count()).select_from(Counted)) == 9


def test_what_refers_to_a_row_is_the_databases_business(session: Session) -> None:
    """If a foreign key refuses the deletion, the error is SQLAlchemy's."""
    session.execute(text("CREATE TABLE child (id int REFERENCES counted)"))
    session.execute(text("INSERT INTO child VALUES (3)"))
    with pytest.raises(IntegrityError):
        bulk_delete(session, Counted, [2, 3])


def test_what_is_sent(session: Session, way: str) -> None:
    """Few keys are deleted by one statement; many go by COPY into a temporary table, and one
    DELETE.
    """
    bulk_delete(session, Counted, [1])
    for keys in (2, 200, 201, 2000):
        with record_statements(session.get_bind()) as sent:  # type: ignore[arg-type]  # an Engine
            bulk_delete(session, Counted, range(keys))
        words = [str(statement).split()[0] for statement in sent]
        few = way == "few" and keys <= 200
        asked = ["SELECT", "WITH"]
        assert words[1:] == (asked if few else ["CREATE", "COPY", *asked, "DROP"])


def keeps_one(engine: Any) -> None:
    """Keep one row: a statement that would delete it deletes another one."""

    @event.listens_for(engine, "before_execute", retval=True)
    def keeps(_c: Any, clause: Any, many: Any, one: Any, _options: Any) -> Any:
        if clause.is_delete and clause.table.name == "counted":
            many = [
                {key: -1 if value == 4 else value for key, value in row.items()} for row in many
            ]
        return clause, many, one


@EACH
@pytest.mark.parametrize("listener", [keeps_one, comment])
def test_whoever_listens_is_heard(
    twin_urls: tuple[str, str], driver: str, listener: Callable[[Any], None]
) -> None:
    """If a listener may change a DELETE, each row has a DELETE of its own with its key as
    parameter.
    """

    def trial(side: Side) -> Any:
        side.execute(*ROWS)
        if side.registered:
            listener(target_of(side))

        def work(session: Session) -> None:
            for model, keys in KEYS:
                remove(side, session, model, keys)
            session.commit()

        side.run(work)
        kept = side.rows("SELECT 1 FROM counted WHERE id = 4")
        assert bool(kept) == (side.registered and listener is keeps_one)
        side.execute("DELETE FROM counted WHERE id = 4")
        return left(side)

    both(twin_urls, Base, trial, driver=driver)


OTHERS = {
    "rule": [
        "CREATE RULE no AS ON DELETE TO counted DO INSTEAD UPDATE counted SET name = 'gone' "
        "WHERE id = OLD.id"
    ],
    "statement trigger": [
        "CREATE TABLE noted (n int)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN INSERT INTO noted VALUES (1); RETURN NULL; END$$",
        "CREATE TRIGGER note AFTER DELETE ON counted FOR EACH STATEMENT EXECUTE FUNCTION note()",
    ],
    "view": [
        "ALTER TABLE counted RENAME TO counted_rows",
        "CREATE VIEW counted AS SELECT * FROM counted_rows",
    ],
}


@pytest.mark.parametrize("other", OTHERS)
def test_tables_of_the_less_usual_kinds(twin_urls: tuple[str, str], other: str) -> None:
    """Rules, triggers and views have the same effect as when objects are deleted."""

    def trial(side: Side) -> Any:
        side.execute(*ROWS)
        side.execute(*OTHERS[other])

        def work(session: Session) -> None:
            if not side.registered:
                session.execute(text("DELETE FROM counted WHERE id IN (4, 2)"))
            else:
                bulk_delete(session, Counted, [4, 2])
            session.commit()

        side.run(work)
        return side.rows("SELECT id, name FROM counted ORDER BY id")

    both(twin_urls, Base, trial)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "AUTOCOMMIT"])
def test_in_every_transaction(session: Session, engine: Engine, level: str) -> None:
    """bulk_delete works in each kind of transaction."""
    other = engine.execution_options(isolation_level=level)
    with Session(other) as there:
        there.execute(text("SELECT 1"))
        assert bulk_delete(there, Counted, [1, 2, 44]) == 2
        there.commit()
    assert session.scalar(select(func.count()).select_from(Counted)) == 7


def test_a_role_that_may_delete_and_not_update(session: Session, engine: Engine) -> None:
    """bulk_delete needs no privileges but those of DELETE."""
    session.execute(text("CREATE ROLE deletes_only"))
    try:
        session.execute(text("GRANT SELECT, DELETE ON counted TO deletes_only"))
        session.execute(text("SET LOCAL ROLE deletes_only"))
        assert bulk_delete(session, Counted, [1, 2, 44]) == 2
    finally:
        session.rollback()
