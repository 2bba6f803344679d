"""``on_drift`` if two threads flush at the same time, and each flush is the engine's first."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fixtures.drifting import factory_of, save
from fixtures.patience import PATIENCE
from sqlalchemy import Engine, event

from sqla_seqreserve.errors import (
    SequenceDriftError,
    SequenceDriftWarning,
)
from sqla_seqreserve.portfolio.models import Base


def at_once(engine: Engine, work: Callable[[], list[int]]) -> list[list[int]]:
    """Run the work in two threads; neither goes on with its check before both have begun it."""
    barrier, local = threading.Barrier(2, timeout=PATIENCE), threading.local()

    def before_cursor_execute(*_: Any) -> None:
        if not getattr(local, "met", False):
            local.met = True
            barrier.wait()

    with engine.connect():  # SQLAlchemy's own first queries
        pass
    event.listen(engine, "before_cursor_execute", before_cursor_execute)
    with ThreadPoolExecutor(2) as pool:
        return [future.result() for future in [pool.submit(work) for _ in range(2)]]


def test_two_first_flushes_at_once_repair_without_harm(production_engine: Engine) -> None:
    """Two simultaneous first flushes may both repair, and their ids are distinct and beyond the
    table.
    """
    factory = factory_of(production_engine, classes=[Base], on_drift="repair")
    first, second = at_once(production_engine, lambda: save(factory, 20))
    assert len({*first, *second}) == 40
    assert min(*first, *second) == 2249


def test_two_first_flushes_at_once_warn_once(production_engine: Engine) -> None:
    """Of two simultaneous first flushes only one warns."""
    factory = factory_of(production_engine, classes=[Base], on_drift="warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        at_once(production_engine, lambda: save(factory))
    assert [warning.category for warning in caught] == [SequenceDriftWarning]


def test_two_first_flushes_at_once_are_both_refused(production_engine: Engine) -> None:
    """Two simultaneous first flushes are both refused."""
    factory = factory_of(production_engine, classes=[Base], on_drift="raise")

    def refused() -> list[int]:
        with pytest.raises(SequenceDriftError):
            save(factory)
        return []

    assert at_once(production_engine, refused) == [[], []]
