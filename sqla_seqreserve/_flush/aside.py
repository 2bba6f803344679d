"""Stays out of a flush that SQLAlchemy's own INSERTs write as cheaply as anything else could.

Most flushes have few rows, and what is done about them beside what SQLAlchemy does has to be paid
for by fewer round trips. Where nobody needs a key before its row is written, and no other way costs
less, the whole flush is SQLAlchemy's: its own save, its own statements. What is left to gain is the
BEGIN, which travels with the first of them on a driver that can.

All of this runs in every flush of a few objects, so that it asks for nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper

from .. import _host as host
from .._drivers import Driver, driver_of
from .._drivers.statements import begin_along
from .._host import State
from .._ids.distances import distance_to
from .._ids.keys import lacks_key
from .._routes import Distance, Pending
from .refusal import note_refusal
from .weighing import FlushSettings, chosen_route, heed_messages, transaction_state

__all__ = ["Aside", "stay_out"]

_FEW: Final = 5
"""An INSERT of so many rows takes little work beside its round trip."""


class Aside:
    """A flush, or what one connection has of it, that is SQLAlchemy's.

    :param driver: ``None``: nothing is inserted, so that nothing is to be learnt.
    :param begun: the transaction had begun before the flush.
    """

    __slots__ = ("_distance", "_driver", "_is_first", "begun")

    def __init__(self, driver: Driver | None, distance: Distance, *, begun: bool) -> None:
        self._driver = driver
        self._distance = distance
        self._is_first = driver is not None
        self.begun = begun

    def save(self, base_mapper: Mapper[Any], states: Sequence[State], uow: Any) -> None:
        """Save objects as SQLAlchemy does."""
        pending = [state for state in states if state.key is None]
        if not pending:
            host.save_obj(base_mapper, states, uow)
            return
        run = uow.seqreserve
        if self._is_first:
            self._is_first = False
            self._look(run, base_mapper, uow, len(pending))
        started = time.perf_counter()
        try:
            host.save_obj(base_mapper, states, uow)
        except DBAPIError as error:
            for table in pending[0].manager.mapper.tables:
                if isinstance(table, Table):
                    note_refusal(error, table, run.keys.in_order(pending))
            raise
        if run.tally.is_told:
            seconds = time.perf_counter() - started
            connection = run.connection_for(uow, base_mapper)
            run.wrote(pending, seconds, connection, begun=self.begun)

    def _look(self, run: Any, base_mapper: Mapper[Any], uow: Any, rows: int) -> None:
        """Have the BEGIN travel with the first statement, and measure that; where it does not
        travel, measure now and then.
        """
        driver, distance = self._driver, self._distance
        assert driver is not None
        along = driver.begins_along and not self.begun
        due = distance.is_due() and rows <= _FEW
        if along or due:
            round_trips = 1 if self.begun or driver.begins_along else 2

            def took(seconds: float) -> None:
                if rows <= _FEW:
                    distance.note(seconds, round_trips)

            begin_along(run.connection_for(uow, base_mapper), took)


_NOTHING_TO_INSERT: Final = Aside(None, Distance(), begun=False)


def stay_out(
    uow: Any, settings: FlushSettings, pending: Mapping[Mapper[Any], Sequence[State]]
) -> Aside | None:
    """How to stay out of the flush, ``None`` where something of it has to be ours; asked before it
    has its connection.

    :param pending: the new objects that the flush inserts.
    """
    if not pending:
        return _NOTHING_TO_INSERT
    if (
        settings.mode != "bulk"
        or settings.reserve != "auto"
        or settings.copy_min_rows is not None
        or settings.prefetch
        or settings.drift_guard is not None
        or uow.session.twophase
    ):
        return None
    for mapper in pending:
        if (
            host.watches_insert(mapper)
            or not settings.enrols(mapper)
            or not mapper.base_mapper.batch
        ):
            return None
    peeked = host.peek_connection(uow, pending)
    if peeked is None:
        return None
    dialect, connection = peeked
    heed_messages(settings, dialect)
    driver = driver_of(dialect)
    if driver is None:
        return None
    begun = connection is not None and transaction_state(connection) == "open"
    weighed = tuple(
        [
            Pending(len(states), len(mapper.tables), lacks_key(mapper, states))
            for mapper, states in pending.items()
        ]
    )
    distance = distance_to(dialect)
    route = chosen_route(weighed, driver, distance, begun=begun)
    if route.reserve or route.copies:
        return None
    return Aside(driver, distance, begun=begun)
