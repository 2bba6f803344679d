"""What one flush has reserved and written so far, and what its settings allow."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Protocol, TypeAlias

from sqlalchemy import Connection, Table
from sqlalchemy.orm import Mapper

from .. import _audit as audit
from .. import _host as host
from .._host import State
from .._ids import catalogue
from .._ids.fetch import IdRequest, check_range, try_to_fetch_ids
from .._ids.keys import KeySequence, resolve
from .._ids.prefetch import shelf_of
from .._rows.plan import insert_plan
from .._writers.copy import no_copy_reason, warn_of_driver
from ..reports import FlushEntry, FlushReport, Writer
from .drift import DriftGuard

__all__ = ["FlushRun", "FlushSettings", "Record"]

log = logging.getLogger("sqla_seqreserve.flush")

Record: TypeAlias = tuple[State, dict[str, Any], Mapper[Any], Connection]
"""A state to insert, as SQLAlchemy's own steps pass it: with its dictionary, mapper and
connection.
"""

_insert_order: Final = attrgetter("insert_order")
_maximum: Final = attrgetter("maximum")


class FlushSettings(Protocol):
    """What the flush asks of a registration."""

    @property
    def mode(self) -> str: ...
    @property
    def copy_threshold(self) -> int: ...
    @property
    def prefetch(self) -> int: ...
    @property
    def drift_guard(self) -> DriftGuard | None: ...
    @property
    def is_watched(self) -> bool: ...
    def enrols(self, mapper: Mapper[Any]) -> bool: ...
    def flushed(self, report: FlushReport) -> None: ...


@dataclass(slots=True, eq=False)
class _Tally:
    rows: int = 0
    reserved: int = 0
    seconds: float = 0.0


class FlushRun:
    """One flush of one session."""

    def __init__(self, settings: FlushSettings, partial: bool) -> None:
        self.settings = settings
        self.partial = partial
        self.reserved: set[State] = set()
        """Objects whose key was reserved by this flush."""
        self._connections: dict[Mapper[Any], Connection] = {}
        self._sources: dict[Mapper[Any], KeySequence] = {}
        self._given: dict[Mapper[Any], list[State]] = {}
        self._had_none: set[State] = set()
        self._written: list[Sequence[State]] = []
        self._tallies: dict[tuple[type[Any], Writer, str | None], _Tally] = {}

    def connection_for(self, uow: Any, base_mapper: Mapper[Any]) -> Connection:
        """The connection that this flush uses for ``base_mapper``; asked for once."""
        connection = self._connections.get(base_mapper)
        if connection is None:
            connection = self._connections[base_mapper] = host.connection_for(uow, base_mapper)
        return connection

    # Reserving

    def reserve(self, uow: Any) -> None:
        """Reserve the keys of everything that this flush inserts, in one round trip a
        connection.
        """
        if self.settings.mode == "off" or host.is_sharded(uow.session):
            return
        by_connection: dict[Connection, dict[Mapper[Any], list[State]]] = {}
        for mapper, states in _pending_by_mapper(uow).items():
            if self.settings.enrols(mapper):
                connection = self.connection_for(uow, mapper.base_mapper)
                if connection.dialect.name == "postgresql":
                    by_connection.setdefault(connection, {})[mapper] = states
        if self.settings.drift_guard is not None:
            self.settings.drift_guard.examine(uow.session, by_connection)
        for connection, pending in by_connection.items():
            self._reserve_on(connection, pending)

    def _reserve_on(self, connection: Connection, pending: dict[Mapper[Any], list[State]]) -> None:
        found = resolve(connection, pending)
        self._sources.update(found)
        wanted: dict[str, dict[KeySequence, list[State]]] = {}
        left_alone: set[str] = set()
        for mapper, states in pending.items():
            source = found[mapper]
            if source.sequence is None:
                continue
            if source.always_identity and self._no_copy_reason(connection) is not None:
                assert source.facts is not None
                left_alone.add(source.facts.name)
                continue
            if self.settings.mode == "bulk" and self._casts(connection, mapper):
                assert source.facts is not None
                left_alone.add(source.facts.name)
                continue
            attribute = source.key.attribute
            needing = [state for state in states if state.dict.get(attribute) is None]
            if needing:
                wanted.setdefault(source.sequence.name, {})[source] = needing
        to_copy = self._tables_to_copy(connection, pending)
        requests, shelves = [], []
        for sharing in wanted.values():
            source = max(sharing, key=_maximum)
            assert source.facts is not None
            # GENERATED ALWAYS is written by COPY however few the rows.
            whole = source.facts.name in to_copy or source.always_identity
            shelf = shelf_of(connection, source, self.settings.prefetch)
            count = shelf.lacking(sum(map(len, sharing.values())), asks_anyway=whole)
            requests.append(IdRequest(source, count, whole))
            shelves.append(shelf)
        requested = {request.source.facts.name for request in requests if request.source.facts}
        guarded = catalogue.cached_facts(connection, (to_copy | left_alone) - requested)
        fetched, altered = try_to_fetch_ids(connection, requests, guarded)
        for slot, (sharing, shelf) in enumerate(zip(wanted.values(), shelves, strict=True)):
            if slot not in altered:
                count = sum(map(len, sharing.values()))
                self._hand_out(sharing, shelf.take(count, fetched[slot]))
        if altered or len(catalogue.cached_facts(connection, left_alone)) < len(left_alone):
            # A table is another than it was looked up as: whether its key may be given, and from
            # where, is decided anew.
            self._reserve_on(connection, pending)

    def _casts(self, connection: Connection, mapper: Mapper[Any]) -> bool:
        """Whether INSERT casts values to another type than the column's, as it does only for rows
        that the database numbers.
        """
        for table in mapper.tables:
            if isinstance(table, Table):
                known = catalogue.cached_facts(
                    connection, [catalogue.table_name(connection, table)]
                )
                if known and insert_plan(mapper, table, known[0], connection.dialect).cast_reason:
                    return True
        return False

    def _tables_to_copy(
        self, connection: Connection, pending: dict[Mapper[Any], list[State]]
    ) -> set[str]:
        threshold = self.settings.copy_threshold
        return {
            catalogue.table_name(connection, table)
            for mapper, states in pending.items()
            if len(states) >= threshold
            for table in mapper.tables
            if isinstance(table, Table)
        }

    def _hand_out(self, sharing: dict[KeySequence, list[State]], ids: list[int]) -> None:
        """Give the ids of one sequence to the objects of the classes that share it, in the order
        of ``add()``.
        """
        if len(sharing) > 1:
            sources = {state: source for source, states in sharing.items() for state in states}
            ordered = sorted(sources, key=_insert_order)
            if len(set(map(_maximum, sharing))) > 1:
                for state, value in zip(ordered, ids, strict=True):
                    check_range(sources[state], [value])
            value_of = dict(zip(ordered, ids, strict=True))
        for source, states in sharing.items():
            states.sort(key=_insert_order)
            values = ids if len(sharing) == 1 else [value_of[state] for state in states]
            if source.to_python is not None:
                values = list(map(source.to_python, values))
            attribute = source.key.attribute
            for state, value in zip(states, values, strict=True):
                row = state.dict
                if attribute in row:
                    self._had_none.add(state)
                row[attribute] = value
            self.reserved.update(states)
            self._given[source.key.mapper] = states

    def failed(self, error: BaseException) -> None:
        """Tell of the failure, and leave the objects that were not inserted without a key, as a
        failed stock flush does.
        """
        audit.failed(log, error)
        written = set().union(*self._written)
        for mapper, states in self._given.items():
            self._release(mapper, [state for state in states if state not in written])

    def release_always_identity(self, records: Iterable[Record]) -> None:
        """Leave it to ``GENERATED ALWAYS`` to number rows that COPY cannot write: INSERT would
        refuse their key.
        """
        for state, _, mapper, _ in records:
            if state in self.reserved and self._sources[mapper].always_identity:
                self._release(mapper, [state])

    def _release(self, mapper: Mapper[Any], states: Iterable[State]) -> None:
        attribute = self._sources[mapper].key.attribute
        for state in states:
            if state in self._had_none:
                state.dict[attribute] = None
            else:
                state.dict.pop(attribute, None)
            self.reserved.discard(state)

    # Writing

    def is_always_identity(self, mapper: Mapper[Any], table: Table) -> bool:
        """Whether ``table`` numbers the class by ``GENERATED ALWAYS``, so that only COPY may
        write a reserved key.
        """
        source = self._sources.get(mapper)
        return source is not None and source.always_identity and source.key.table is table

    def stock_reason(self, uow: Any, base_mapper: Mapper[Any]) -> str | None:
        """Why SQLAlchemy must save this whole hierarchy itself, ``None`` if COPY may."""
        if self.settings.mode == "off":
            return "mode is off"
        if host.is_sharded(uow.session):
            return "the session is sharded"
        if uow.session.twophase:
            return "the session is two-phase"
        if not base_mapper.batch:
            return "the mapper has batch=False"
        connection = self.connection_for(uow, base_mapper)
        if connection.dialect.name != "postgresql":
            return f"the database is {connection.dialect.name}"
        return self._no_copy_reason(connection)

    def _no_copy_reason(self, connection: Connection) -> str | None:
        if self.settings.mode == "reserve":
            return "mode is reserve"
        if self.partial:
            return "flush(objects) was called"
        warn_of_driver(connection.dialect)
        return no_copy_reason(connection.dialect)

    # Reporting

    def numbered(self, states: Sequence[State]) -> None:
        """Note that these objects have their row, and with it their key."""
        self._written.append(states)

    def inserted(
        self, states: Sequence[State], writer: Writer, reason: str | None, seconds: float
    ) -> None:
        """Count objects of one class as inserted by ``writer``."""
        tally = self._tallies.setdefault((states[0].class_, writer, reason), _Tally())
        tally.rows += len(states)
        tally.reserved += len(self.reserved.intersection(states))
        tally.seconds += seconds

    def report(self) -> None:
        """Hand the report to the registration, if anything was inserted."""
        if not self._tallies or not (self.settings.is_watched or audit.is_heard(log)):
            return
        entries = tuple(
            FlushEntry(model, tally.rows, tally.reserved, writer, reason, tally.seconds)
            for (model, writer, reason), tally in self._tallies.items()
        )
        report = FlushReport(entries)
        self.settings.flushed(report)
        audit.flushed(log, report)


def _pending_by_mapper(uow: Any) -> dict[Mapper[Any], list[State]]:
    """The objects that this flush inserts, by their mapper."""
    fate = uow.states
    found = {}
    for mapper, states in uow.mappers.items():
        pending = [state for state in states if state.key is None and fate[state] == (False, False)]
        if pending:
            found[mapper] = pending
    return found
