"""What one flush has reserved and written so far, and what its settings allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper

from .. import _host as host
from .._drivers import driver_of
from .._host import State
from .._ids import catalogue
from .._ids.catalogue import TableFacts
from .._ids.engine import Engine, ask_engine
from .._ids.fetch import drop_snapshot
from .._ids.prefetch import forget_after
from .._writers.copy import warn_of_driver
from .._writers.insert import Outbox
from ..reports import Writer
from .aside import Aside, pending_by_mapper, stay_out
from .cycles import Cycle
from .given import GivenKeys
from .refusal import note_refusal
from .reserving import Reserving
from .synchronize import Copied
from .tally import FEW, Tally, tell_failed
from .weighing import (
    FlushSettings,
    class_reason,
    fewest_of,
    transaction_state,
)

__all__ = ["FlushRun"]


class FlushRun:
    """One flush of one session."""

    def __init__(self, settings: FlushSettings, partial: bool) -> None:
        self.settings = settings
        self.partial = partial
        self.aside: Aside | None = None
        """Set where the whole flush is SQLAlchemy's."""
        self.keys = GivenKeys()
        self.tally = Tally(settings)
        self._reserving = Reserving(settings, self.keys, self.tally)
        self._connections: dict[Mapper[Any], Connection] = {}
        self._written: list[Sequence[State]] = []
        self._outboxes: dict[Connection, Outbox] = {}
        self.copied: list[Copied] = []
        """Foreign keys that were copied from parents to children."""

    def connection_for(self, uow: Any, base_mapper: Mapper[Any]) -> Connection:
        """The connection that this flush uses for ``base_mapper``; asked for once."""
        connection = self._connections.get(base_mapper)
        if connection is None:
            connection = self._connections[base_mapper] = host.connection_for(uow, base_mapper)
        return connection

    # Reserving

    def reserve(self, uow: Any, cycle: Cycle | None = None) -> None:
        """Choose the way that each connection's new objects go, and reserve the keys that must be
        known first, in one round trip a connection.
        """
        if self.settings.mode == "off" or host.is_sharded(uow.session):
            return
        needed = False
        if cycle is not None:
            self.keys.generations = cycle.generations or {}
            needed = cycle.can_be_saved_at_once()
        every = pending_by_mapper(uow)
        if cycle is None and not self.partial:
            self.aside = stay_out(uow, self.settings, every)
            if self.aside is not None:
                return
        by_connection: dict[Connection, dict[Mapper[Any], list[State]]] = {}
        for mapper, states in every.items():
            if self.settings.enrols(mapper):
                connection = self.connection_for(uow, mapper.base_mapper)
                if connection in by_connection or self._engine(connection).reason is None:
                    by_connection.setdefault(connection, {})[mapper] = states
        if self.settings.drift_guard is not None:
            self.settings.drift_guard.examine(uow.session, by_connection)
        for connection, pending in by_connection.items():
            self._reserving.reserve_on(
                connection,
                pending,
                may_copy={
                    mapper
                    for mapper in pending
                    if self.stock_reason(uow, mapper.base_mapper) is None
                },
                needed=needed,
            )

    def _engine(self, connection: Connection) -> Engine:
        """What the server is, asked where nothing was ever flushed to it."""
        was_idle = transaction_state(connection) == "idle"
        engine = ask_engine(connection)
        if was_idle:
            drop_snapshot(connection)
        return engine

    def failed(self, error: BaseException) -> None:
        """Tell of the failure, and leave the objects that were not inserted without a key, as a
        failed stock flush does.
        """
        tell_failed(error)
        for connection in self._connections.values():
            forget_after(connection, error)
        self.keys.take_off(set().union(*self._written))

    def _refused(self, error: DBAPIError, table: Table, states: Sequence[State], mark: int) -> None:
        """Note the object that was refused; and take off the foreign keys that were copied since
        its INSERT was made: SQLAlchemy would not have come so far.
        """
        note_refusal(error, table, states)
        self.take_off_copied(mark)

    def take_off_copied(self, mark: int) -> None:
        """Take off the foreign keys that were copied after the first so many."""
        while len(self.copied) > mark:
            row, attribute, before = self.copied.pop()
            if before is host.NO_VALUE:
                row.pop(attribute, None)
            else:
                row[attribute] = before

    # Writing

    def pinned(self, connection: Connection, table: Table) -> TableFacts | None:
        """What is known of a table, if it was compared under the table's lock in this flush."""
        pinned = self._reserving.pinned.get(connection)
        return pinned.get(catalogue.table_name(connection, table)) if pinned else None

    def copies(self, mapper: Mapper[Any]) -> bool:
        """Whether COPY was chosen for the objects of a class."""
        return mapper in self._reserving.copied

    def aside_of(self, base_mapper: Mapper[Any]) -> Aside | None:
        """Set where SQLAlchemy saves all objects of a hierarchy, for nothing costs less."""
        return self.aside or self._reserving.asides.get(base_mapper)

    def fewest(self, facts: TableFacts) -> int:
        """The fewest rows of a kind that are worth a COPY of their own, once COPY was chosen."""
        asked = self.settings.copy_min_rows
        return fewest_of(facts) if asked is None else asked

    def insert_reason(self, mapper: Mapper[Any]) -> tuple[Writer, str]:
        """Who is said to write rows that COPY does not, and why it does not."""
        barred = self._reserving.barred.get(mapper)
        return ("insert", FEW) if barred is None else ("orm", barred)

    def outbox(self, connection: Connection, uow: Any) -> Outbox:
        """The INSERTs that wait on a connection."""
        outbox = self._outboxes.get(connection)
        if outbox is None:
            driver = driver_of(connection.dialect)
            outbox = Outbox(connection, driver, uow, self._refused, lambda: len(self.copied))
            self._outboxes[connection] = outbox
        return outbox

    def drain(self) -> None:
        """Send the INSERTs that wait, before anything else is sent or looked at."""
        for outbox in self._outboxes.values():
            outbox.drain()

    def numbers(self, mapper: Mapper[Any], table: Table) -> bool:
        """Whether the key of the class is generated in ``table``."""
        source = self.keys.sources.get(mapper)
        return source is not None and source.key.table is table

    def is_always_identity(self, mapper: Mapper[Any], table: Table) -> bool:
        """Whether ``table`` numbers the class by ``GENERATED ALWAYS``, so that only COPY may
        write a reserved key.
        """
        source = self.keys.sources.get(mapper)
        return source is not None and source.refuses_keys and source.key.table is table

    def stock_reason(self, uow: Any, base_mapper: Mapper[Any]) -> str | None:
        """Why SQLAlchemy must save this whole hierarchy itself, ``None`` if COPY may."""
        if self.settings.mode == "off":
            return "mode is off"
        if host.is_sharded(uow.session):
            return "the session is sharded"
        if uow.session.twophase:
            return "the session is two-phase"
        if self.partial:
            return "flush(objects) was called"
        connection = self.connection_for(uow, base_mapper)
        if self.settings.mode == "bulk":
            warn_of_driver(connection.dialect)
        return class_reason(self.settings, base_mapper, connection)

    # Reporting

    def numbered(self, states: Sequence[State]) -> None:
        """Note that these objects have their row, and with it their key."""
        self._written.append(states)

    def inserted(
        self, states: Sequence[State], writer: Writer, reason: str | None, seconds: float
    ) -> None:
        """Count objects of one class as inserted by ``writer``."""
        reserved = len(self.keys.reserved.intersection(states))
        self.tally.add(states, reserved, writer, reason, seconds)

    def wrote(self, states: Sequence[State], seconds: float) -> None:
        """Count new objects that SQLAlchemy inserted because their INSERT is as cheap."""
        by_class: dict[Mapper[Any], list[State]] = {}
        for state in states:
            by_class.setdefault(state.manager.mapper, []).append(state)
        for mapper, same in by_class.items():
            writer, reason = self.insert_reason(mapper)
            self.inserted(same, writer, reason, seconds * len(same) / len(states))
