"""What the process knows of an engine's database lives as long as the engine."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from sqlalchemy import Dialect, create_engine

from sqla_seqreserve._database import is_first_time, known_of

URL = "postgresql+psycopg://nowhere.invalid/x"


class Part(list[str]):
    """A part of what is known of a database."""


def test_an_engine_and_its_copies_with_options_share_a_database() -> None:
    """``execution_options()`` makes another engine of the same database; ``create_engine()`` of the
    same URL makes another database.
    """
    engine = create_engine(URL)
    copy = engine.execution_options(isolation_level="AUTOCOMMIT")
    assert known_of(copy.dialect, Part) is known_of(engine.dialect, Part)
    assert known_of(create_engine(URL).dialect, Part) is not known_of(engine.dialect, Part)


def test_a_database_is_forgotten_with_its_engine() -> None:
    """An application that makes engines and lets them go does not fill the memory."""
    engines = [create_engine(URL) for _ in range(20)]
    known = [weakref.ref(engine.dialect) for engine in engines]
    # What other tests have left goes now, and not in between.
    gc.collect()
    before = parts()
    for engine in engines:
        known_of(engine.dialect, Part)
    assert parts() == before + len(engines)
    del engine, engines
    gc.collect()
    assert all(dialect() is None for dialect in known)
    assert parts() <= before


def parts() -> int:
    return sum(isinstance(item, Part) for item in gc.get_objects())


def test_threads_that_ask_first_at_once_get_the_same_database() -> None:
    """What one thread remembers is not lost to another that asked at the same time."""
    threads = 8

    def ask(dialect: Dialect, start: Barrier) -> int:
        start.wait()
        return id(known_of(dialect, Part))

    with ThreadPoolExecutor(threads) as pool:
        for _ in range(50):
            dialect, start = create_engine(URL).dialect, Barrier(threads)
            assert len(set(pool.map(ask, [dialect] * threads, [start] * threads))) == 1


def test_a_warning_is_logged_once_for_each_engine() -> None:
    """A warning is new to an engine once; another warning, or another engine, has its own turn."""
    dialect = create_engine(URL).dialect
    assert is_first_time(dialect, "a")
    assert not is_first_time(dialect, "a")
    assert is_first_time(dialect, "b")
    assert is_first_time(create_engine(URL).dialect, "a")
