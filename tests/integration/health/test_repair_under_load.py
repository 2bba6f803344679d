"""Repairs in a loop while writers insert, reserve and import: no id collides, no sequence moves
back.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from fixtures.patience import wait_until
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, create_engine, text

from sqla_seqreserve.errors import LockTimeoutError
from sqla_seqreserve.health import check_sequences, repair_sequences

SECONDS = 5
# Between two transactions of a writer, so that all of them run on a machine of two cores.
PAUSE = 0.003
RESERVE = text(
    "SELECT array_agg(id) FROM"
    " (SELECT nextval(:sequence) AS id FROM generate_series(1, :count)) AS reserved"
)

metadata = MetaData()
# Imports land ahead here: writers do not get that far between two repairs.
near = Table("near", metadata, Column("id", Integer, primary_key=True))
far = Table("far", metadata, Column("id", Integer, primary_key=True))
# And within the reservers' reach here, where nobody inserts what they draw.
close = Table("close", metadata, Column("id", Integer, primary_key=True))


@dataclass
class Load:
    """The writers' records: every id taken or inserted, in each writer's order, and every error."""

    url: str
    ids: dict[str, list[list[int]]] = field(
        default_factory=lambda: {"near": [], "far": [], "close": []}
    )
    errors: list[BaseException] = field(default_factory=list)
    timeouts: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    done: threading.Event = field(default_factory=threading.Event)

    def repeat(self, step: Callable[[Connection], None]) -> threading.Thread:
        """Return a thread that runs the step on a connection of its own, until the load is done."""

        def loop() -> None:
            engine = create_engine(self.url)
            try:
                with engine.connect() as connection:
                    while not self.done.is_set():
                        try:
                            step(connection)
                        except LockTimeoutError:
                            self.timeouts += 1
                            connection.rollback()
            except BaseException as error:  # the main thread asserts that there is none
                self.errors.append(error)
            finally:
                engine.dispose()

        return threading.Thread(target=loop)


@pytest.fixture
def load(engine: Engine) -> Load:
    metadata.create_all(engine)
    return Load(engine.url.render_as_string(hide_password=False))


def inserter(load: Load, name: str) -> Callable[[Connection], None]:
    """Insert through the column default, a few rows per transaction."""
    seen: list[int] = []
    load.ids[name].append(seen)
    insert = text(f"INSERT INTO {name} DEFAULT VALUES RETURNING id")

    def step(connection: Connection) -> None:
        ids = [connection.execute(insert).scalar_one() for _ in range(3)]
        connection.commit()
        seen.extend(ids)
        time.sleep(PAUSE)

    return step


def reserver(load: Load, name: str, *, insert: bool, seed: int) -> Callable[[Connection], None]:
    """Reserve a block, and insert it in the same transaction: sequence first, table second."""
    seen: list[int] = []
    load.ids[name].append(seen)
    chance = random.Random(seed)
    statement = text(f"INSERT INTO {name} (id) SELECT unnest(CAST(:ids AS int[]))")

    def step(connection: Connection) -> None:
        count = chance.randint(1, 500 if insert else 50)
        ids = connection.execute(
            RESERVE, {"sequence": f"{name}_id_seq", "count": count}
        ).scalar_one()
        if insert:
            connection.execute(statement, {"ids": ids})
        connection.commit()
        seen.extend(ids)
        time.sleep(PAUSE)

    return step


def importer(load: Load, name: str, ahead: int, *, seed: int) -> Callable[[Connection], None]:
    """Insert an explicit id ahead of the sequence, once the last one was repaired or overtaken."""
    seen: list[int] = []
    if name != "close":
        load.ids[name].append(seen)
    chance = random.Random(seed)
    previous = 0
    statement = text(f"INSERT INTO {name} (id) VALUES (:id)")

    def step(connection: Connection) -> None:
        nonlocal previous
        last = connection.scalar(text(f"SELECT last_value FROM {name}_id_seq"))
        assert last is not None
        # Were the sequence moved between the reading and the insert, the id could be one that a
        # writer is about to draw: so nothing is imported while there is something to repair.
        if last >= previous:
            previous = last + ahead + chance.randint(0, 50)
            connection.execute(statement, {"id": previous})
            seen.append(previous)
        connection.commit()
        time.sleep(0.01)

    return step


def repairer(load: Load, *, seed: int) -> Callable[[Connection], None]:
    """Repair everything, and now and then roll back."""
    chance = random.Random(seed)

    def step(connection: Connection) -> None:
        report = repair_sequences(
            connection, metadata, headroom=chance.choice((0, 100)), lock_timeout=3
        )
        load.actions.update(f"{result.table} {result.action}" for result in report.results)
        if chance.random() < 0.3:
            connection.rollback()
        connection.commit()

    return step


def test_repairs_under_load_collide_with_nobody(engine: Engine, load: Load) -> None:
    """Eight writers, three importers and two repairers cause no duplicate, no step back, and no
    errors but timeouts.
    """
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    steps = [
        inserter(load, "near"),
        inserter(load, "far"),
        inserter(load, "far"),
        reserver(load, "near", insert=True, seed=seed + 1),
        reserver(load, "far", insert=True, seed=seed + 2),
        reserver(load, "far", insert=True, seed=seed + 3),
        reserver(load, "close", insert=False, seed=seed + 4),
        reserver(load, "close", insert=False, seed=seed + 5),
        importer(load, "near", 40_000, seed=seed + 6),
        importer(load, "far", 200_000, seed=seed + 7),
        importer(load, "close", 300, seed=seed + 8),
        repairer(load, seed=seed + 9),
        repairer(load, seed=seed + 10),
    ]
    threads = [load.repeat(step) for step in steps]
    for thread in threads:
        thread.start()
    load.done.wait(SECONDS)
    try:
        wait_until(
            lambda: load.errors or all(load.actions[f"{name} REPAIRED"] for name in load.ids),
            "each sequence needed a repair",
        )
    finally:
        load.done.set()
    for thread in threads:
        thread.join()

    all_ids = {name: [i for ids in lists for i in ids] for name, lists in load.ids.items()}
    print({name: len(ids) for name, ids in all_ids.items()}, load.actions, load.timeouts)
    assert load.errors == []
    for name, lists in load.ids.items():
        assert len(set(all_ids[name])) == len(all_ids[name]), f"{name}: an id was drawn twice"
        for ids in lists:
            assert ids == sorted(ids), f"{name}: a session saw the sequence move back"
    with engine.begin() as connection:
        repair_sequences(connection, metadata)
        assert check_sequences(connection, metadata).healthy
