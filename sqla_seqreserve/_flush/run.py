"""What one flush has reserved and written so far, and what its settings allow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper, Session

from .. import _reasons as why
from .._drivers import driver_on
from .._ids import catalogue
from .._ids.catalogue import TableFacts
from .._ids.fetch import drop_snapshot
from .._ids.prefetch import forget_after
from .._ids.server import Server, ask_server
from .._reasons import Reason
from .._rows.reasons import FEW
from .._sqlalchemy.attributes import NO_VALUE
from .._sqlalchemy.listeners import interference_on
from .._sqlalchemy.mapping import watches_delete, watches_insert, watches_update
from .._sqlalchemy.persistence import save_in_order, save_obj
from .._sqlalchemy.session import connection_for, has_one_bind, is_sharded
from .._sqlalchemy.unit_of_work import State
from .._writers.copy import warn_of_driver
from .._writers.insert import Outbox
from ..reports import Writer
from .aside import Aside, pending_by_mapper, stay_out
from .committing import connection_to_commit, expects_commit
from .cycles import Cycle
from .gathering import may_gather
from .given import GivenKeys, Record
from .refusal import note_refusal
from .reserving import Reserving
from .settings import Settings
from .synchronize import Copied
from .tally import Tally, tell_failed
from .weighing import (
    class_reason,
    fewest_of,
    transaction_status,
)


class FlushRun:
    """One flush of one session."""

    def __init__(self, settings: Settings, partial: bool) -> None:
        self.settings = settings
        self.partial = partial
        self.aside: Aside | None = None
        """Set where the whole flush is SQLAlchemy's."""
        self.gathers = False
        """Whether its statements travel in one message, where SQLAlchemy would send one after the
        other.
        """
        self._connections: dict[Mapper[Any], Connection] = {}
        self._is_again = False
        self._begin()

    def _begin(self) -> None:
        self.keys = GivenKeys()
        self.tally = Tally(self.settings)
        self._reserving = Reserving(self.settings, self.keys, self.tally)
        self._written: list[Sequence[State]] = []
        self._whole: list[Sequence[State]] = []
        self._refused_state: State | None = None
        self._outboxes: dict[Connection, Outbox] = {}
        self.saves_at_once = False
        """Whether a circle is taken out of the flush's order."""
        self._interference: tuple[Connection, Reason | None] | None = None
        self.copied: list[Copied] = []
        """Foreign keys that were copied from parents to children."""
        self.taken_out: Cycle | None = None
        """The circle that was taken out of the flush's order: its objects are saved together."""

    def connection_for(self, uow: Any, base_mapper: Mapper[Any]) -> Connection:
        """The connection that this flush uses for ``base_mapper``; asked for once."""
        connection = self._connections.get(base_mapper)
        if connection is None:
            connection = self._connections[base_mapper] = connection_for(uow, base_mapper)
        return connection

    # Reserving

    def may_reserve(self, session: Session) -> bool:
        """Whether anything of this flush may be done otherwise than SQLAlchemy does it."""
        return self.settings.mode != "off" and not is_sharded(session)

    def reserve(self, uow: Any, cycle: Cycle | None = None) -> None:
        """Choose the way that each connection's new objects go, and reserve the keys that must be
        known first, in one round trip a connection.
        """
        if not self.may_reserve(uow.session):
            return
        needed = False
        if cycle is not None:
            self.keys.generations = cycle.generations or {}
            # SQLAlchemy would save it in an order of its own.
            needed = cycle.can_be_saved_at_once() and not any(
                self.interference(self.connection_for(uow, mapper)) for mapper in cycle.mappers
            )
            self.saves_at_once = needed
        every = pending_by_mapper(uow)
        if cycle is None and not self.partial:
            self.gathers = may_gather(uow, self.settings, every)
            self.aside = stay_out(uow, self.settings, every)
            if self.aside is not None:
                return
        by_connection: dict[Connection, dict[Mapper[Any], list[State]]] = {}
        for mapper, states in every.items():
            if self.settings.enrols(mapper):
                connection = self.connection_for(uow, mapper.base_mapper)
                if connection in by_connection or self._server(connection).reason is None:
                    by_connection.setdefault(connection, {})[mapper] = states
        if self.settings.drift_guard is not None:
            self.settings.drift_guard.examine(uow.session, by_connection)
        may_restart = cycle is None and self._may_restart(uow, every)
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
                interference=self.interference(connection),
                may_restart=may_restart,
                commits=expects_commit(uow, self.settings, driver_on(connection)),
            )
        for connection, kept in self._reserving.kept.items():
            self.outbox(connection, uow).compare_first(kept)

    def _may_restart(self, uow: Any, pending: Iterable[Mapper[Any]]) -> bool:
        """Whether nobody sees it if the flush begins anew before anything was written."""
        return (
            bool(self.settings.prefetch)
            and not self._is_again
            and not any(map(watches_insert, pending))
            and not any(map(watches_update, uow.mappers))
            and not any(map(watches_delete, uow.mappers))
            and has_one_bind(uow)
        )

    def begin_again(self) -> None:
        """Leave the objects as they were before the flush, whose kept keys turned out to be no
        longer good when nothing was written yet.
        """
        for connection, kept in self._reserving.kept.items():
            names = [source.facts.name for source in kept if source.facts is not None]
            catalogue.forget(connection, names)
        self.take_off_copied(0)
        self.keys.take_off(set())
        self._is_again = True
        self._begin()

    def _server(self, connection: Connection) -> Server:
        """What the server is, asked where nothing was ever flushed to it."""
        was_idle = transaction_status(connection) == "idle"
        engine = ask_server(connection)
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
        written: set[State] = set().union(*self._written)
        saved = self._saved_whole(written)
        self.keys.take_off(written | saved)
        self._take_off_unwritten(saved)

    def _refused(self, error: DBAPIError, table: Table, states: Sequence[State], mark: int) -> None:
        """Note the object that was refused; and take off the foreign keys that were copied since
        its INSERT was made: SQLAlchemy would not have come so far.
        """
        self.note_refusal(error, table, states)
        self.take_off_copied(mark)

    def note_refusal(self, error: DBAPIError, table: Table, states: Sequence[State]) -> None:
        """Note which of these objects was refused, where the error tells."""
        self._refused_state = note_refusal(error, table, states) or self._refused_state

    def take_off_copied(self, mark: int) -> None:
        """Take off the foreign keys that were copied after the first so many."""
        while len(self.copied) > mark:
            _put_back(*self.copied.pop())

    def _saved_whole(self, written: set[State]) -> set[State]:
        """Of the objects that have a row, those that SQLAlchemy would have saved before the flush
        failed: of a tree it saves one generation after the other, in all tables.
        """
        tree = self.taken_out
        if tree is None:
            return written
        generation = self.keys.generation
        circle = set(tree.new_objects())
        left = (
            [self._refused_state]
            if self._refused_state in circle
            else circle.difference(*self._whole)
        )
        first = min(map(generation, left), default=None)
        if first is None:
            return written
        return written - circle | {state for state in circle if generation(state) < first}

    def _take_off_unwritten(self, saved: set[State]) -> None:
        """Take off the foreign keys that refer to new objects other than these, which SQLAlchemy
        copies once it has saved them. Trees have them before.
        """
        for copied in reversed(self.copied):
            parent = copied[3]
            if parent is not None and parent.key is None and parent not in saved:
                _put_back(*copied)

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

    def insert_reason(self, mapper: Mapper[Any]) -> tuple[Writer, Reason]:
        """Who is said to write rows that COPY does not, and why it does not."""
        barred = self._reserving.barred.get(mapper)
        return ("insert", FEW) if barred is None else ("orm", barred)

    def outbox(self, connection: Connection, uow: Any) -> Outbox:
        """The statements that wait on a connection."""
        outbox = self._outboxes.get(connection)
        if outbox is None:
            driver = driver_on(connection)
            outbox = Outbox(
                connection,
                driver,
                uow,
                self._refused,
                lambda: len(self.copied),
                self.settings.copy_min_rows,
            )
            outbox.gathers = self.gathers
            self._outboxes[connection] = outbox
        return outbox

    def drain(self) -> None:
        """Send the statements that wait, before anything else is sent or looked at."""
        for outbox in self._outboxes.values():
            outbox.drain()

    def finish(self, uow: Any) -> None:
        """Send the statements that wait, which are the flush's last; their COMMIT with them, where
        nothing can come between.
        """
        waiting = [outbox for outbox in self._outboxes.values() if outbox.waits()]
        if len(waiting) == 1 and self.settings.mode == "bulk":
            connection = connection_to_commit(uow, self.settings)
            if isinstance(connection, Connection) and connection in self._outboxes:
                outbox = self._outboxes[connection]
                outbox.drain(commits=True)
                self.tally.committed = outbox.committed
        self.drain()

    def send_waiting(self) -> None:
        """Send the statements that wait, and ask nothing else: the flush has failed."""
        for outbox in self._outboxes.values():
            if outbox.waits():
                outbox.drain()

    def settle(self, *mappers: Mapper[Any]) -> None:
        """Send what waits if objects of these classes lack their keys until then; of none: if
        objects lack anything.
        """
        for outbox in self._outboxes.values():
            for mapper in mappers or (None,):
                outbox.settle(mapper)

    def settle_comparison(self) -> None:
        """Send what waits if kept keys are compared with it, after which the flush may begin
        anew.
        """
        for outbox in self._outboxes.values():
            if outbox.compares:
                outbox.drain()

    def copy_keys_again(self) -> None:
        """Fill in the foreign keys of a circle anew, if the database has numbered objects of it
        otherwise than was foreseen.
        """
        if self.taken_out is not None and self.keys.released:
            self.keys.released = False
            self.drain()
            self.taken_out.copy_keys_again()

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

    def updates_together(self, base_mapper: Mapper[Any], states: Sequence[State]) -> bool:
        """Whether these are changed objects of classes that count their versions, of which
        SQLAlchemy would send one UPDATE after the other.
        """
        return (
            len(states) > 1
            and base_mapper.version_id_col is not None
            and self.settings.mode == "bulk"
            and all(state.key is not None for state in states)
        )

    def stock_reason(self, uow: Any, base_mapper: Mapper[Any]) -> Reason | None:
        """Why SQLAlchemy must save this whole hierarchy itself, ``None`` if COPY may."""
        if self.settings.mode == "off":
            return why.MODE_OFF
        if is_sharded(uow.session):
            return why.SHARDED
        if uow.session.twophase:
            return why.TWO_PHASE
        if self.partial:
            return why.PARTIAL
        connection = self.connection_for(uow, base_mapper)
        if self.settings.mode == "bulk":
            warn_of_driver(connection.dialect)
        reason = class_reason(self.settings, base_mapper, connection)
        return reason or self.interference(connection)

    def interference(self, connection: Connection) -> Reason | None:
        """Who could see, change, replace or refuse an INSERT, so that all are SQLAlchemy's; asked
        for once.
        """
        if self._interference is None or self._interference[0] is not connection:
            self._interference = connection, interference_on(connection)
        return self._interference[1]

    def save(self, base_mapper: Mapper[Any], states: Iterable[State], uow: Any) -> None:
        """Have SQLAlchemy save objects. It sorts new ones by ``add()``, for their own order it has
        from the circle: where that was taken out, one generation is saved after the other.
        """
        if self.taken_out is None or any(state.key is not None for state in states):
            save_obj(base_mapper, states, uow)
            return
        for _, group in groupby(self.keys.in_order(states), self.keys.generation):
            alike = list(group)
            save_in_order(base_mapper, alike, uow)
            self.numbered(alike)
            self._whole.append(alike)

    def in_parts(self, records: list[Record]) -> Iterable[list[Record]]:
        """Records as they may be given to one INSERT: of a tree one generation, where the driver
        does not tell which row was refused.
        """
        driver = driver_on(records[0][3])
        if self.taken_out is None or (driver is not None and driver.sends_several):
            return (records,)
        parts = groupby(records, lambda record: self.keys.generation(record[0]))
        return [list(part) for _, part in parts]

    # Reporting

    def listening(self, uow: Any) -> AbstractContextManager[None]:
        """Listen to the statements of the flush while it executes, if anybody is told of it."""
        if not self.tally.is_told:
            return nullcontext()
        # Here: an application asks while it runs, and not each time that it starts.
        from .changes import listening

        return listening(uow, self)

    def numbered(self, states: Sequence[State]) -> None:
        """Note that these objects have their row, and with it their key."""
        self._written.append(states)

    def inserted(
        self, states: Sequence[State], writer: Writer, reason: Reason | None, seconds: float
    ) -> None:
        """Count objects of one class, whose rows are in all their tables, as inserted by
        ``writer``.
        """
        self._whole.append(states)
        reserved = len(self.keys.reserved.intersection(states))
        self.tally.add(states, reserved, writer, reason, seconds)

    def wrote(self, states: Sequence[State], seconds: float, connection: Connection) -> None:
        """Count new objects that SQLAlchemy inserted because their INSERT is as cheap."""
        by_class: dict[Mapper[Any], list[State]] = {}
        for state in states:
            by_class.setdefault(state.manager.mapper, []).append(state)
        interference = self.interference(connection)
        for mapper, same in by_class.items():
            writer, reason = self.insert_reason(mapper)
            if interference is not None:
                writer, reason = "orm", interference
            self.inserted(same, writer, reason, seconds * len(same) / len(states))


def _put_back(row: dict[str, Any], attribute: str, before: Any, _: State | None) -> None:
    """Have a row hold what it held before a foreign key was copied to it."""
    if before is NO_VALUE:
        row.pop(attribute, None)
    else:
        row[attribute] = before
