"""Stays out of a flush that SQLAlchemy's own INSERTs write as cheaply as anything else could.

Most flushes have few rows, and what is done about them beside what SQLAlchemy does has to be paid
for by fewer round trips. Where nobody needs a key before its row is written, and no other way costs
less, the whole flush is SQLAlchemy's: its own save, its own statements. What is left to gain is the
BEGIN, which travels with the first of them on a driver that can.

All of this runs in every flush of a few objects, so that it asks for nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper

from .._database import database_of
from .._drivers import Driver, driver_of, driver_on
from .._drivers.statements import begin_along
from .._ids.keys import lacks_key
from .._ids.server import server_kind
from .._routes import Distance, Pending, Wishes
from .._sqlalchemy.mapping import watches_insert
from .._sqlalchemy.persistence import save_obj
from .._sqlalchemy.session import connection_for, peek_connection
from .._sqlalchemy.unit_of_work import State
from .committing import OnlyInsert, expects_commit
from .refusal import note_refusal
from .settings import Settings
from .tally import tell_failed
from .weighing import chosen_route, transaction_status

_FEW: Final = 5
"""An INSERT of so many rows takes little work beside its round trip."""

_SOME: Final = 100
"""So many rows are sent before the answer to the BEGIN before them could have been read."""


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
            save_obj(base_mapper, states, uow)
            return
        run = uow.seqreserve
        only: OnlyInsert | None = None
        if self._is_first:
            self._is_first = False
            connection = run.connection_for(uow, base_mapper)
            if expects_commit(uow, run.settings, self._driver):
                only = OnlyInsert.of(uow, run.settings, pending_by_mapper(uow), connection)
            self._look(len(pending), lambda: connection, only)
        started = time.perf_counter()
        try:
            run.save(base_mapper, states, uow)
        except DBAPIError as error:
            _note(error, run.keys.in_order(pending), run.note_refusal)
            if only is not None:
                only.note_loss(error)
            raise
        run.tally.committed = only is not None and only.settle()
        run.numbered(pending)
        if run.tally.is_told:
            seconds = time.perf_counter() - started
            run.wrote(pending, seconds, run.connection_for(uow, base_mapper))

    def flush(
        self,
        uow: Any,
        pending: Mapping[Mapper[Any], Sequence[State]],
        execute: Callable[[], None],
    ) -> None:
        """Have SQLAlchemy's unit of work execute the whole flush."""
        only: OnlyInsert | None = None
        if self._driver is not None:
            base_mapper = next(iter(pending)).base_mapper
            rows = sum(map(len, pending.values()))
            if expects_commit(uow, uow.settings, self._driver):
                connection = connection_for(uow, base_mapper)
                only = OnlyInsert.of(uow, uow.settings, pending, connection)
            self._look(rows, lambda: connection_for(uow, base_mapper), only)
        try:
            execute()
        except BaseException as error:
            tell_failed(error)
            if isinstance(error, DBAPIError):
                if only is not None:
                    only.note_loss(error)
                for states in pending.values():
                    _note(error, sorted(states, key=attrgetter("insert_order")))
            raise
        if only is not None:
            only.settle()

    def _look(
        self, rows: int, connection: Callable[[], Connection], only: OnlyInsert | None
    ) -> None:
        """Have the BEGIN travel with the first statement, and the COMMIT with the only one; and
        measure now and then how long that takes.
        """
        driver, distance = self._driver, self._distance
        assert driver is not None
        took: Callable[[float], object] | None = None
        whole = False
        if rows <= _SOME and distance.is_due():
            if not self.begun and driver.times_begin:
                took = distance.note
            elif rows <= _FEW:
                took, whole = distance.note_bound, True
                if not self.begun:
                    took = partial(distance.note_bound, round_trips=2)
        if took is not None or only is not None or (driver.begins_along and not self.begun):
            commits = None if only is None else only.commit_with
            begin_along(connection(), took, whole=whole, commits=commits)


def _note(
    error: DBAPIError, states: Sequence[State], note: Callable[..., object] = note_refusal
) -> None:
    for table in {table: None for state in states for table in state.manager.mapper.tables}:
        if isinstance(table, Table):
            note(error, table, states)


_SPREAD: Final[Mapping[str | None, int]] = {"citus": 2, None: 8}
"""From how many rows one INSERT may change so many shards at once that it is to be weighed; where
the engine was not asked yet what it is, from how many it is worth asking, once.
"""

_NOTHING_TO_INSERT: Final = Aside(None, Distance(), begun=False)


def stay_out(
    uow: Any, settings: Settings, pending: Mapping[Mapper[Any], Sequence[State]]
) -> Aside | None:
    """How to stay out of the flush, ``None`` where something of it has to be ours; asked before it
    has its connection.

    :param pending: the new objects that the flush inserts.
    """
    if not pending:
        return _NOTHING_TO_INSERT
    if not settings.is_plain or uow.session.twophase:
        return None
    for mapper in pending:
        if watches_insert(mapper) or not settings.enrols(mapper) or not mapper.base_mapper.batch:
            return None
    peeked = peek_connection(uow, pending)
    if peeked is None:
        return None
    dialect, connection = peeked
    driver = driver_of(dialect) if connection is None else driver_on(connection)
    if driver is None:
        return None
    begun = connection is not None and transaction_status(connection) == "open"
    weighed = [
        (len(states), len(mapper.tables), lacks_key(mapper, states))
        for mapper, states in pending.items()
    ]
    distance = database_of(dialect).distance
    commits, keeps = expects_commit(uow, settings, driver), bool(settings.prefetch)
    key = (begun, driver, commits, keeps, *weighed)
    is_numbered: bool | None = distance.chosen.get(key)
    if is_numbered is None:
        fewest = _SPREAD.get(server_kind(dialect))
        if fewest is not None and any(rows >= fewest for rows, _, _ in weighed):
            return None
        classes = tuple(Pending(*one) for one in weighed)
        wishes = Wishes(kept=keeps, commits=commits)
        route = chosen_route(classes, driver, distance, begun=begun, wishes=wishes)
        is_numbered = distance.keep(key, not (route.reserve or route.copies))
    return Aside(driver, distance, begun=begun) if is_numbered else None


def pending_by_mapper(uow: Any) -> dict[Mapper[Any], list[State]]:
    """The objects that this flush inserts, by their mapper."""
    fate = uow.states
    found = {}
    for mapper, states in uow.mappers.items():
        pending = [state for state in states if state.key is None and fate[state] == (False, False)]
        if pending:
            found[mapper] = pending
    return found
