"""bulk_upsert while other transactions write the same rows."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fixtures import many_upserters
from fixtures.patience import PATIENCE
from fixtures.upsert_ways import way as way
from sqlalchemy import Engine, Identity, Index, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_upsert


class Base(DeclarativeBase):
    pass


class Seat(Base):
    __tablename__ = "seat"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    hall: Mapped[int]
    number: Mapped[int | None]
    guest: Mapped[str]
    __table_args__ = (
        UniqueConstraint("hall", "number", name="seat_in_hall", postgresql_nulls_not_distinct=True),
        Index(
            "seat_by_guest", text("lower(guest)"), unique=True, postgresql_where=text("hall > 0")
        ),
    )


@pytest.fixture
def engine(engine: Engine) -> Engine:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO seat (hall, number, guest) VALUES (1, 1, 'Ann'), (1, NULL, 'Bob')")
        )
    return engine


def waits(engine: Engine) -> bool:
    asked = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with engine.connect() as connection:
        return bool(connection.scalar(asked))


MEANWHILE = {
    "moved": "UPDATE seat SET number = 7, guest = 'Zoe' WHERE id = 1",
    "deleted": "DELETE FROM seat WHERE id = 1",
    "updated": "UPDATE seat SET hall = 1 WHERE id = 1",
    "given another key": "UPDATE seat SET id = 99 WHERE id = 1",
}


@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("conflict", ["seat_in_hall", "seat_by_guest"])
@pytest.mark.parametrize("update", [["guest"], ["number", "guest"], ()])
@pytest.mark.parametrize("returning", ["ids", None])
def test_a_row_that_was_there(
    engine: Engine, way: str, meanwhile: str, conflict: str, update: Any, returning: Any
) -> None:
    """If another transaction changes a row that was found, the upsert waits, and then does what the
    table requires, without a duplicate key error.
    """
    rows = [{"hall": 1, "number": 1, "guest": "ANN"}, {"hall": 1, "number": 2, "guest": "Cid"}]

    def run() -> Any:
        with Session(engine) as session, session.begin():
            return bulk_upsert(
                session, Seat, rows, conflict=conflict, update=update, returning=returning
            )

    with ThreadPoolExecutor(1) as threads, engine.connect() as other:
        other.execute(text(MEANWHILE[meanwhile]))
        running = threads.submit(run)
        until, waited = time.monotonic() + PATIENCE, False
        while time.monotonic() < until and not running.done() and not waited:
            time.sleep(0.01)  # asks the server again, until it says so
            waited = waits(engine)
        other.commit()
        done = running.result(timeout=PATIENCE)
    # Without anything to update, a row that was there needs no lock.
    assert waited == bool(update)
    with engine.connect() as connection:
        stored = connection.execute(text("SELECT id, hall, number, guest FROM seat")).all()
    assert len({row.id for row in stored}) == len(stored)
    by_place = {(row.hall, row.number): row for row in stored}
    assert by_place[1, None].guest == "Bob"
    assert by_place[1, 2].guest == "Cid"
    if meanwhile in ("updated", "given another key"):
        key = 1 if meanwhile == "updated" else 99
        assert by_place[1, 1][::3] == (key, "ANN" if update else "Ann")
        assert len(stored) == 3
        assert (done.inserted, done.updated) == (1, 1 if update else 0)
    elif update:
        assert by_place[1, 1].guest == "ANN"
        assert by_place[1, 1].id not in (1, 2)
        assert (done.inserted, done.updated) == (2, 0)
    if returning is not None:
        assert done.ids[1] == by_place[1, 2].id
        # With nothing to update we were through before the other transaction ended.
        assert done.ids[0] == (by_place[1, 1].id if update else 1)


def test_upserts_of_the_same_rows_wait_in_one_order(engine: Engine) -> None:
    """Processes that upsert the same rows in different orders never deadlock, and store no row
    twice.
    """
    seed = random.randrange(10**6)
    print("seed", seed)
    many_upserters.Base.metadata.create_all(engine)
    done = subprocess.run(
        [
            sys.executable,
            many_upserters.__file__,
            engine.url.render_as_string(hide_password=False),
            str(seed),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["errors"] == []
    with engine.connect() as connection:
        stored = connection.scalar(text("SELECT count(*) FROM quote"))
    # Each row is new to the one that inserted it alone.
    assert stored == told["inserted"] <= many_upserters.ROWS
