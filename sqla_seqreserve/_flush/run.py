"""Stores what one flush has reserved and written so far, and applies its settings."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper, Session

from .. import _reasons as why
from .._drivers import driver_on
from .._ids import catalogue
from .._ids.prefetch import forget_after
from .._ids.server import ask_server
from .._reasons import Reason
from .._sqlalchemy.listeners import interference_on
from .._sqlalchemy.mapping import watches_delete, watches_insert, watches_update
from .._sqlalchemy.persistence import save_in_order, save_obj
from .._sqlalchemy.session import connection_for, has_one_bind, is_sharded
from .._sqlalchemy.unit_of_work import State, pending_by_mapper
from .._writers.copy import warn_of_driver
from ..reports import Writer
from .commit_along import connection_to_commit, expects_commit
from .cycles import Cycle
from .report import ReportBuilder, log_failed
from .reserved_keys import ReservedKeys
from .reserving import Reserving
from .routing import (
    changes_pay,
    hierarchy_reason,
    may_gather,
    session_reason,
    stay_out,
)
from .settings import Settings
from .synchronize import Copied, put_back, put_back_unsaved
from .way import BY_INSERT, NOT_ENROLLED, Way

if TYPE_CHECKING:
    from .._writers.statement_queue import StatementQueue


class FlushRun:
    """One flush of one session."""

    def __init__(self, settings: Settings, partial: bool) -> None:
        self.settings = settings
        self.partial = partial
        self.way: Way | None = None
        """The way of the whole flush, if SQLAlchemy writes all of it."""
        self.gathers = False
        """Whether its statements travel in one message; SQLAlchemy would send them one by one."""
        self.is_weighed = False
        """Whether it is already decided that SQLAlchemy does not write the whole flush."""
        self._connections: dict[Mapper[Any], Connection] = {}
        self._is_again = False
        self._begin()

    def _begin(self) -> None:
        self.keys = ReservedKeys()
        self.report = ReportBuilder(self.settings)
        self._reserving = Reserving(self.settings, self.keys)
        self._hierarchies: dict[Mapper[Any], Way | None] = {}
        self._written: list[Sequence[State]] = []
        self._whole: list[Sequence[State]] = []
        self._refused_state: State | None = None
        self.queues: dict[Connection, StatementQueue] = {}
        self.saves_at_once = False
        """Whether a cycle may be taken out of the flush's order once all its keys are known."""
        self._interference: tuple[Connection, Reason | None] | None = None
        self.copied: list[Copied] = []
        """Foreign keys that were copied from parents to children."""
        self.cycle: Cycle | None = None
        """The cycle that was taken out of the flush's order: its objects are saved together."""

    def connection_for(self, uow: Any, base_mapper: Mapper[Any]) -> Connection:
        """The connection that this flush uses for ``base_mapper``; the session is asked once."""
        connection = self._connections.get(base_mapper)
        if connection is None:
            connection = self._connections[base_mapper] = connection_for(uow, base_mapper)
        return connection

    # Reserving

    def may_reserve(self, session: Session) -> bool:
        """Whether the settings and the session allow anything but SQLAlchemy's own steps."""
        return self.settings.mode != "off" and not is_sharded(session)

    def reserve(self, uow: Any, cycle: Cycle | None = None) -> None:
        """Choose how each connection's new objects are written, and reserve the keys that must be
        known first, in one round trip for each connection.
        """
        if not self.may_reserve(uow.session):
            return
        needed = False
        if cycle is not None:
            self.keys.generations = cycle.generations or {}
            # Only then are all its keys needed; otherwise SQLAlchemy saves the cycle in its order.
            needed = cycle.can_be_saved_at_once() and not any(
                self.interference(self.connection_for(uow, mapper)) for mapper in cycle.mappers
            )
            self.saves_at_once = needed
        every = pending_by_mapper(uow)
        if cycle is None and not self.partial:
            self.gathers = may_gather(uow, self.settings, every)
            plain = None if self.is_weighed else stay_out(uow, self.settings, every)
            if plain is not None:
                self.way = Way(BY_INSERT.writer, BY_INSERT.reason, plain=plain)
                return
        by_connection: dict[Connection, dict[Mapper[Any], list[State]]] = {}
        for mapper, states in every.items():
            if self.settings.enrols(mapper):
                connection = self.connection_for(uow, mapper.base_mapper)
                if connection in by_connection or ask_server(connection).reason is None:
                    by_connection.setdefault(connection, {})[mapper] = states
        if self.settings.on_drift != "ignore":
            from .drift import DriftGuard  # not needed otherwise

            DriftGuard.of(self.settings).examine(uow.session, by_connection)
        may_restart = cycle is None and self._may_restart(uow, every)
        for connection, pending in by_connection.items():
            ours = {m for m in pending if self._way_of_hierarchy(uow, m.base_mapper) is None}
            way = self._reserving.reserve_on(
                connection,
                pending,
                may_copy=ours,
                needed=needed,
                interference=self.interference(connection),
                may_restart=may_restart,
                commits=expects_commit(uow, self.settings, driver_on(connection)),
            )
            if way is not None and not self.gathers:
                self._hierarchies.update((mapper.base_mapper, way) for mapper in ours)
        for connection, kept in self._reserving.kept.items():
            self.queue(connection, uow).compare_first(kept)

    def _may_restart(self, uow: Any, pending: Iterable[Mapper[Any]]) -> bool:
        """Whether the flush can begin again unnoticed, as long as nothing was written."""
        return (
            bool(self.settings.prefetch)
            and not self._is_again
            and not any(map(watches_insert, pending))
            and not any(map(watches_update, uow.mappers))
            and not any(map(watches_delete, uow.mappers))
            and has_one_bind(uow)
        )

    def begin_again(self) -> None:
        """Put the objects back to their state before the flush, so that it can begin again. Called
        when its kept keys turn out to be no longer valid and nothing is written yet.
        """
        for connection, kept in self._reserving.kept.items():
            names = [source.facts.name for source in kept if source.facts is not None]
            catalogue.forget(connection, names)
        put_back(self.copied, 0)
        self.keys.take_off(set())
        self._is_again = True
        self.is_weighed = False
        self._begin()

    def failed(self, error: BaseException) -> None:
        """Log the failure, and remove the keys of the objects that were not inserted, as
        SQLAlchemy's failed flush leaves them.
        """
        log_failed(error)
        for connection in self._connections.values():
            forget_after(connection, error)
        written: set[State] = set().union(*self._written)
        cycle = self.cycle
        saved = (
            written
            if cycle is None
            else cycle.saved_whole(written, self._whole, self._refused_state)
        )
        self.keys.take_off(written | saved)
        put_back_unsaved(self.copied, saved)

    def _refused(self, error: DBAPIError, table: Table, states: Sequence[State], mark: int) -> None:
        """Record the object that the server refused, and remove the foreign keys that were copied
        since its INSERT was made: SQLAlchemy would not have copied them yet.
        """
        self.note_refusal(error, table, states)
        put_back(self.copied, mark)

    def note_refusal(self, error: DBAPIError, table: Table, states: Sequence[State]) -> None:
        """Record which of these objects the server refused, if the error shows it."""
        # Imported here so that starting an application does not pay for it.
        from .refused_object import note_refusal

        self._refused_state = note_refusal(error, table, states) or self._refused_state

    # Writing

    def way_of(self, mapper: Mapper[Any]) -> Way:
        """The way of a class in a hierarchy that SQLAlchemy does not save by itself."""
        if not self.settings.enrols(mapper):
            return NOT_ENROLLED
        return self._reserving.ways.get(mapper, BY_INSERT)

    def way_of_all(self, uow: Any, base_mapper: Mapper[Any], states: Sequence[State]) -> Way | None:
        """The way of a hierarchy that SQLAlchemy saves, or deletes, by itself; ``None``: each class
        has its own way.

        :param states: the objects that are saved, or deleted.
        """
        together = (
            self.settings.mode == "bulk"
            and changes_pay(base_mapper, len(states))
            and all(state.key is not None for state in states)
        )
        if self.way is not None and not (self.gathers or together):
            return self.way
        way = self._way_of_hierarchy(uow, base_mapper)
        return None if together and way is not None and way.plain is not None else way

    def _way_of_hierarchy(self, uow: Any, base_mapper: Mapper[Any]) -> Way | None:
        if base_mapper not in self._hierarchies:
            reason = self._reason_of_hierarchy(uow, base_mapper)
            self._hierarchies[base_mapper] = None if reason is None else Way("orm", reason)
        return self._hierarchies[base_mapper]

    def _reason_of_hierarchy(self, uow: Any, base_mapper: Mapper[Any]) -> Reason | None:
        """Why SQLAlchemy must save this whole hierarchy itself; ``None`` if COPY may."""
        settings = self.settings
        if settings.mode == "off":
            return why.MODE_OFF
        reason = session_reason(uow.session) or (why.PARTIAL if self.partial else None)
        if reason is not None:
            return reason
        connection = self.connection_for(uow, base_mapper)
        if settings.mode == "bulk":
            warn_of_driver(connection.dialect)
        return hierarchy_reason(settings, base_mapper, connection, self.interference)

    def queue(self, connection: Connection, uow: Any) -> StatementQueue:
        """The queue of the statements that wait to be sent on a connection."""
        queue = self.queues.get(connection)
        if queue is None:
            # Imported here so that starting an application does not pay for it.
            from .._writers.statement_queue import StatementQueue

            driver = driver_on(connection)
            queue = StatementQueue(
                connection,
                driver,
                uow,
                self._refused,
                lambda: len(self.copied),
                self.settings.copy_min_rows,
            )
            queue.gathers = self.gathers
            self.queues[connection] = queue
        return queue

    def drain(self) -> None:
        """Send the waiting statements, before anything else is sent or read."""
        for queue in self.queues.values():
            queue.drain()

    def finish(self, uow: Any) -> None:
        """Send the waiting statements, the last of the flush. The COMMIT travels with them if
        nothing can come between.
        """
        waiting = [queue for queue in self.queues.values() if queue.waits()]
        if len(waiting) == 1 and self.settings.mode == "bulk":
            connection = connection_to_commit(uow, self.settings)
            if isinstance(connection, Connection) and connection in self.queues:
                queue = self.queues[connection]
                queue.drain(commits=True)
                self.report.committed = queue.committed
        self.drain()

    def send_waiting(self) -> None:
        """Send the waiting statements and do nothing else, because the flush has failed."""
        for queue in self.queues.values():
            if queue.waits():
                queue.drain()

    def settle(self, *mappers: Mapper[Any]) -> None:
        """Send the waiting statements if objects of these classes get their keys from them; without
        classes: if any object gets a value from them.
        """
        for queue in self.queues.values():
            for mapper in mappers or (None,):
                queue.settle(mapper)

    def settle_comparison(self) -> None:
        """Send the waiting statements if kept keys are compared in the same message, because the
        flush may begin again after that.
        """
        for queue in self.queues.values():
            if queue.compares:
                queue.drain()

    def copy_keys_again(self) -> None:
        """Fill in the foreign keys of a cycle again if the database gave its objects other keys
        than those reserved.
        """
        if self.cycle is not None and self.keys.released:
            self.keys.released = False
            self.drain()
            self.cycle.copy_keys_again()

    def interference(self, connection: Connection) -> Reason | None:
        """What could see, change, replace or refuse an INSERT, so that SQLAlchemy must send all of
        them. The last connection's answer is kept.
        """
        if self._interference is None or self._interference[0] is not connection:
            self._interference = connection, interference_on(connection)
        return self._interference[1]

    def save(self, base_mapper: Mapper[Any], states: Sequence[State], uow: Any, way: Way) -> None:
        """Let SQLAlchemy save objects by itself, and count them."""
        self.drain()
        pending = [state for state in states if state.key is None]
        if not pending:
            save_obj(base_mapper, states, uow)
            return
        only = None
        if way.plain is not None:
            only = way.plain.look(
                uow,
                self.settings,
                len(pending),
                lambda: self.connection_for(uow, base_mapper),
                lambda: pending_by_mapper(uow),
            )
        started = time.perf_counter()
        try:
            self._save(base_mapper, states, uow)
        except DBAPIError as error:
            if way.plain is not None:
                from .refused_object import note_each

                note_each(error, self.keys.in_order(pending), self.note_refusal)
            if only is not None:
                only.note_loss(error)
            raise
        if only is not None:
            self.report.committed = only.settle()
        if self.report.is_listened_to:
            seconds = time.perf_counter() - started
            if way.plain is not None:
                interference = self.interference(self.connection_for(uow, base_mapper))
                way = way if interference is None else Way("orm", interference)
            by_class: dict[type[Any], list[State]] = {}
            for state in pending:
                by_class.setdefault(state.class_, []).append(state)
            for same in by_class.values():
                share = seconds * len(same) / len(pending)
                self.inserted(same, way.writer, way.reason, share)

    def _save(self, base_mapper: Mapper[Any], states: Sequence[State], uow: Any) -> None:
        """Save objects with SQLAlchemy's function. SQLAlchemy sorts new objects by ``add()`` and
        needs the cycle to put parents before children; if the cycle was taken out, one generation
        is saved after the other.
        """
        save, parts = save_obj, [states]
        if self.cycle is not None and all(state.key is None for state in states):
            generations = groupby(self.keys.in_order(states), self.keys.generation)
            save, parts = save_in_order, [list(group) for _, group in generations]
        for part in parts:
            save(base_mapper, part, uow)
            self._written.append(part)
            self._whole.append(part)

    # Reporting

    def listening(self, uow: Any) -> AbstractContextManager[None]:
        """Listen to the statements of the flush while it executes, if it is reported to anybody."""
        if not self.report.is_listened_to:
            return nullcontext()
        # Imported here so that starting an application does not pay for it.
        from .change_counts import listening

        return listening(uow, self)

    def numbered(self, states: Sequence[State]) -> None:
        """Record that these objects have their row, and with it their key."""
        self._written.append(states)

    def inserted(
        self, states: Sequence[State], writer: Writer, reason: Reason | None, seconds: float
    ) -> None:
        """Count objects of one class as inserted by ``writer``. They have a row in all their
        tables.
        """
        self._whole.append(states)
        reserved = len(self.keys.reserved.intersection(states))
        self.report.add(states, reserved, writer, reason, seconds)
