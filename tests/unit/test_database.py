"""The memory of an engine's database: one object per engine, which lives as long as the engine."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from sqlalchemy import Dialect, create_engine

from sqla_seqreserve._database import Database, database_of

URL = "postgresql+psycopg://nowhere.invalid/x"


def test_an_engine_and_its_copies_with_options_share_a_database() -> None:
    """``execution_options()`` makes another engine of the same database; ``create_engine()`` of the
    same URL makes another database.
    """
    engine = create_engine(URL)
    copy = engine.execution_options(isolation_level="AUTOCOMMIT")
    assert database_of(copy.dialect) is database_of(engine.dialect)
    assert database_of(create_engine(URL).dialect) is not database_of(engine.dialect)


def test_a_database_is_forgotten_with_its_engine() -> None:
    """An application that makes engines and lets them go does not fill the memory."""
    engines = [create_engine(URL) for _ in range(20)]
    known = [weakref.ref(engine.dialect) for engine in engines]
    # What other tests have left goes now, and not in between.
    gc.collect()
    before = databases()
    for engine in engines:
        database_of(engine.dialect)
    assert databases() == before + len(engines)
    del engine, engines
    gc.collect()
    assert all(dialect() is None for dialect in known)
    assert databases() <= before


def databases() -> int:
    return sum(isinstance(item, Database) for item in gc.get_objects())


def test_threads_that_ask_first_at_once_get_the_same_database() -> None:
    """What one thread remembers is not lost to another that asked at the same time."""
    threads = 8

    def ask(dialect: Dialect, start: Barrier) -> int:
        start.wait()
        return id(database_of(dialect))

    with ThreadPoolExecutor(threads) as pool:
        for _ in range(50):
            dialect, start = create_engine(URL).dialect, Barrier(threads)
            assert len(set(pool.map(ask, [dialect] * threads, [start] * threads))) == 1
