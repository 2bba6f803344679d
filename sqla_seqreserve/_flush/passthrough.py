"""A flush, or one connection's part of it, that SQLAlchemy's own INSERTs write as cheaply as any
other way.

Most flushes have few rows, and any work beside SQLAlchemy's own must be paid for by fewer round
trips. If nobody needs a key before its row is written, and no other way costs less, SQLAlchemy
writes the whole flush: its own save, its own statements. Two round trips can still be saved: the
BEGIN travels with the first statement if the driver can send it so, and the COMMIT travels with the
statement if there is only one.

This code runs in every flush of a few objects, so it checks nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.orm import Mapper

from .._drivers import Driver
from .._drivers.execution import begin_along, commit_along, time_no_begin
from .._routes import MOST_TIMED, Distance
from .._sqlalchemy.session import connection_for
from .._sqlalchemy.unit_of_work import State, pending_by_mapper
from .commit_along import OnlyInsert
from .report import log_failed
from .settings import Settings

_SOME: Final = 100
"""With more rows, the answer to the BEGIN may arrive while they are sent, so it is not timed."""


class Passthrough:
    """A flush, or one connection's part of it, that SQLAlchemy writes.

    :param driver: ``None``: nothing is to be sent along or measured.
    :param begun: the transaction had begun before the flush.
    :param commits: the COMMIT may travel with the flush, as far as is known.
    """

    __slots__ = ("_commits", "_distance", "_driver", "_is_first", "begun")

    def __init__(
        self, driver: Driver | None, distance: Distance, *, begun: bool, commits: bool
    ) -> None:
        self._commits = commits
        self._driver = driver
        self._distance = distance
        self._is_first = driver is not None
        self.begun = begun

    def flush(
        self,
        uow: Any,
        pending: Mapping[Mapper[Any], Sequence[State]],
        execute: Callable[[], None],
    ) -> None:
        """Let SQLAlchemy's unit of work execute the whole flush.

        :param pending: the new objects; may be empty if there is no driver.
        :param execute: SQLAlchemy's method that executes it.
        """
        only: OnlyInsert | None = None
        if self._driver is not None:
            only = self.look(
                uow,
                uow.settings,
                sum(map(len, pending.values())),
                lambda: connection_for(uow, next(iter(pending)).base_mapper),
                lambda: pending,
            )
        try:
            execute()
        except BaseException as error:
            log_failed(error)
            if isinstance(error, DBAPIError):
                # Imported here so that starting an application does not pay for it.
                from .refused_object import note_change, note_each

                if only is not None:
                    only.note_loss(error)
                for states in (pending or pending_by_mapper(uow)).values():
                    note_each(error, sorted(states, key=attrgetter("insert_order")))
                note_change(error, uow)
            if isinstance(error, StatementError):
                from .refused_object import note_values

                note_values(error, uow)
            raise
        if only is not None:
            only.settle()

    def look(
        self,
        uow: Any,
        settings: Settings,
        rows: int,
        connection: Callable[[], Connection],
        pending: Callable[[], Mapping[Mapper[Any], Sequence[State]]],
    ) -> OnlyInsert | None:
        """Prepare the first INSERT. If it is the only one and the COMMIT may travel with it, return
        it. Now and then arrange to measure how long it takes. The BEGIN is set to travel, and is
        timed, when the session gets its connection (``bulk_statements.follow``).

        :param pending: returns all new objects of the flush.
        """
        if not self._is_first:
            return None
        self._is_first = False
        driver, distance = self._driver, self._distance
        assert driver is not None
        if not self.begun and driver.times_begin:
            if rows > _SOME:
                time_no_begin(connection())
        elif rows <= MOST_TIMED and distance.is_due():
            took = distance.note_bound
            begin_along(
                connection(),
                took if self.begun else partial(took, round_trips=2),
                times_statement=True,
            )
        if not self._commits:
            return None
        known = connection()
        only = OnlyInsert.of(uow, settings, pending(), known)
        if only is not None:
            commit_along(known, only.commit_with)
        return only
