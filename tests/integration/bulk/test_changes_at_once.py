"""bulk_update, bulk_delete and bulk_sync of the same rows at the same time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fixtures.changes import Base, Counted, Pair
from fixtures.patience import PATIENCE
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from sqla_seqreserve import bulk_delete, bulk_sync, bulk_update

WRITERS, TURNS, ROWS = 4, 12, 260


def updates(session: Session, chance: random.Random, rows: list[int]) -> None:
    done = bulk_update(session, Pair, [{"a": n, "b": f"{n % 7}", "count": 1} for n in rows])
    assert done.updated + len(done.missing) == len(rows)


def updates_by_another_key(session: Session, chance: random.Random, rows: list[int]) -> None:
    bulk_update(session, Pair, [{"a": n, "count": 2} for n in rows], key="a")


def deletes(session: Session, chance: random.Random, rows: list[int]) -> None:
    bulk_delete(session, Pair, [(n, f"{n % 7}") for n in rows[: chance.choice([3, 9])]])


def flushes(session: Session, chance: random.Random, rows: list[int]) -> None:
    statement = select(Pair).where(Pair.a.in_(rows)).with_for_update().order_by(Pair.a, Pair.b)
    for item in session.scalars(statement):
        item.count += 1
    session.flush()


def syncs(session: Session, chance: random.Random, rows: list[int]) -> None:
    given = [{"a": n, "b": f"{n % 7}", "count": chance.choice([5, 6])} for n in rows]
    done = bulk_sync(session, Pair, given, key=["a", "b"], scope=Pair.count >= 0)
    assert done.inserted + done.updated + done.unchanged == len(rows)


TOGETHER: dict[str, tuple[Callable[..., None], ...]] = {
    "updates": (updates, updates_by_another_key),
    "updates and deletes": (updates, deletes, flushes),
    "syncs": (syncs,),
}


@pytest.mark.parametrize("together", TOGETHER)
def test_the_same_rows_in_any_order(engine: Engine, together: str) -> None:
    """Concurrent calls for the same rows wait for each other and do not deadlock."""
    seed = random.randrange(10**6)
    print("seed", seed)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        insert = "INSERT INTO pair SELECT n, n % 7, NULL, 0 FROM generate_series(0, 259) n"
        connection.execute(text(insert))

    def write(number: int) -> None:
        chance = random.Random(seed + number)
        own = create_engine(engine.url, poolclass=NullPool)
        for _ in range(TURNS):
            # More than are sent within one statement, or fewer.
            rows = chance.sample(range(ROWS), chance.choice([40, 150, ROWS]))
            with Session(own) as session, session.begin():
                chance.choice(TOGETHER[together])(session, chance, rows)

    with ThreadPoolExecutor(WRITERS) as threads:
        for done in [threads.submit(write, number) for number in range(WRITERS)]:
            done.result(timeout=PATIENCE)


def test_a_row_that_is_changed_meanwhile(engine: Engine) -> None:
    """The changes of another transaction to a row are kept in attributes that the given
    rows omit.
    """
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO counted SELECT n, 'a', 0, 1 FROM generate_series(1, 3) n")
        )

    def run() -> Any:
        with Session(engine) as session, session.begin():
            rows = [{"id": n, "name": "ours"} for n in (3, 1, 2)]
            return bulk_update(session, Counted, rows, where=Counted.name == "a")

    with ThreadPoolExecutor(1) as threads, engine.connect() as other:
        other.execute(text("UPDATE counted SET version = 7 WHERE id = 1"))
        other.execute(text("UPDATE counted SET name = 'theirs' WHERE id = 2"))
        other.execute(text("DELETE FROM counted WHERE id = 3"))
        running = threads.submit(run)
        waits = text(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as third:
            while not running.done() and not third.scalar(waits):
                time.sleep(0.01)  # asks the server again, until it says so
        other.commit()
        done = running.result(timeout=PATIENCE)
    assert (done.updated, done.unchanged, done.missing) == (1, 1, (0,))
    with engine.connect() as connection:
        stored = connection.execute(text("SELECT id, name, version FROM counted ORDER BY id")).all()
    assert stored == [(1, "ours", 8), (2, "theirs", 1)]
