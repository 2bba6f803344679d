"""Writers, imports and repairs on every node of a real Citus cluster at the same time."""

from __future__ import annotations

import random
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context

from fixtures.cluster import Cluster
from fixtures.node_writers import Entry, write_through
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from sqla_seqreserve import reserve_ids
from sqla_seqreserve.errors import LockTimeoutError
from sqla_seqreserve.health import check_sequences, repair_sequences

SECONDS = 8
SEED = 20261124


def test_no_id_comes_twice_while_all_nodes_write_import_and_repair(citus: Cluster) -> None:
    """While each node has two writers, an importer and a repairer, all ids are distinct, and at the
    end every sequence is healthy.
    """
    print("seed", SEED)
    citus.run(
        # Only the sequence keeps the ids distinct here, because the key is (k, id).
        "CREATE TABLE entry (id bigserial, k bigint NOT NULL, PRIMARY KEY (k, id))",
        "SELECT create_distributed_table('entry', 'k')",
    )
    end = time.monotonic() + SECONDS

    def write(engine: Engine, seed: int) -> list[int]:
        chance, taken = random.Random(seed), list[int]()
        while time.monotonic() < end:
            with Session(engine) as session:
                ids = list(reserve_ids(session, Entry, chance.randint(1, 20)))
                session.add_all(Entry(id=i, k=chance.randint(1, 500)) for i in ids)
                session.commit()
                taken += ids
        return taken

    def repair(engine: Engine) -> int:
        done = 0
        while time.monotonic() < end:
            with engine.begin() as connection:
                try:
                    report = repair_sequences(connection, Entry, lock_timeout=2)
                    done += len(report.moves)
                except LockTimeoutError:
                    pass
            time.sleep(0.05)
        return done

    def drift(engine: Engine, seed: int) -> list[int]:
        # An import of ids that the sequence has not reached. They stay far ahead of where a repair
        # may move the sequence meanwhile; otherwise a writer could get one of them first.
        chance, taken = random.Random(seed), list[int]()
        while time.monotonic() < end:
            with engine.begin() as connection:
                last = connection.scalar(text("SELECT last_value FROM entry_id_seq"))
                first = max([last, *taken[-1:]]) + 100_000
                connection.exec_driver_sql(
                    f"INSERT INTO entry SELECT i, mod(i, 500) FROM generate_series({first}, "
                    f"{first + 9}) i"
                )
                taken += range(first, first + 10)
            time.sleep(chance.uniform(0.2, 0.5))
        return taken

    with ThreadPoolExecutor(12) as pool:
        writers = [
            pool.submit(write, engine, SEED + number)
            for number, engine in enumerate([*citus.engines, *citus.engines])
        ]
        repairs = [pool.submit(repair, engine) for engine in citus.engines]
        imports = [
            pool.submit(drift, engine, SEED + 100 + n) for n, engine in enumerate(citus.engines)
        ]
        taken = [i for job in [*writers, *imports] for i in job.result()]
        moved = sum(job.result() for job in repairs)
    assert len(taken) == len(set(taken))
    for engine in citus.engines:
        with engine.begin() as connection:
            # On a very busy machine it is no failure if no repair got its lock while others wrote.
            moved += len(repair_sequences(connection, Entry).moves)
            assert check_sequences(connection, Entry).healthy
    assert moved
    with citus.coordinator.connect() as connection:
        rows, ids = connection.execute(text("SELECT count(*), count(DISTINCT id) FROM entry")).one()
    print(f"{rows} rows, {moved} repairs")
    assert rows == ids == len(taken)


def test_no_id_comes_twice_in_six_processes(citus: Cluster) -> None:
    """While two processes per node save in every way, and each node's sequence falls behind by
    imports and is repaired, all ids are distinct, all rows are stored, and at the end every
    sequence is healthy.
    """
    print("seed", SEED)
    citus.run(
        "CREATE TABLE entry (id bigserial, k bigint NOT NULL, PRIMARY KEY (k, id))",
        "SELECT create_distributed_table('entry', 'k')",
    )
    end = time.monotonic() + SECONDS

    def import_and_repair(engine: Engine) -> tuple[list[int], int, int]:
        taken, repairs, moves = list[int](), 0, 0
        while time.monotonic() < end:
            with engine.begin() as connection:
                last = connection.scalar(text("SELECT last_value FROM entry_id_seq"))
                first = max([last, *taken[-1:]]) + 100_000
                connection.exec_driver_sql(
                    f"INSERT INTO entry SELECT i, mod(i, 500) FROM generate_series({first}, "
                    f"{first + 9}) i"
                )
                taken += range(first, first + 10)
            with engine.begin() as connection:
                repairs += 1
                with suppress(LockTimeoutError):
                    moves += len(repair_sequences(connection, Entry, lock_timeout=2).moves)
        return taken, repairs, moves

    with (
        ThreadPoolExecutor(len(citus.engines)) as threads,
        ProcessPoolExecutor(6, mp_context=get_context("spawn")) as processes,
    ):
        writers = [
            processes.submit(write_through, citus.urls[number % 3], SEED + number, SECONDS)
            for number in range(6)
        ]
        repairers = [threads.submit(import_and_repair, engine) for engine in citus.engines]
        imported = [job.result() for job in repairers]
        written = [job.result() for job in writers]
    taken = [i for ids in [*written, *(ids for ids, _, _ in imported)] for i in ids]
    repairs, moves = (sum(job[n] for job in imported) for n in (1, 2))
    print(f"{len(taken)} ids, {repairs} repairs, {moves} moved a sequence")
    assert all(written)
    assert len(taken) == len(set(taken))
    for engine in citus.engines:
        with engine.begin() as connection:
            # On a very busy machine it is no failure if no repair got its lock while others wrote.
            moves += len(repair_sequences(connection, Entry).moves)
            assert check_sequences(connection, Entry).healthy
    assert moves
    with citus.coordinator.connect() as connection:
        rows, ids = connection.execute(text("SELECT count(*), count(DISTINCT id) FROM entry")).one()
    assert rows == ids == len(taken)
