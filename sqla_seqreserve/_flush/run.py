"""What one flush has reserved and written so far, and what its settings allow."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Protocol, TypeAlias

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper, class_mapper

from .. import _audit as audit
from .. import _host as host
from .._drivers import driver_of
from .._host import State
from .._ids import catalogue
from .._ids.catalogue import TableFacts
from .._ids.distances import distance_to
from .._ids.fetch import IdRequest, check_range, drop_snapshot, take_ids
from .._ids.keys import KeySequence, generated_key, resolve
from .._ids.prefetch import forget_after, shelf_of
from .._routes import Pending, Route, choose
from .._rows.plan import insert_plan
from .._writers.copy import warn_of_driver
from .._writers.insert import Outbox
from ..reports import FlushEntry, FlushReport, Writer
from .cycles import Cycle
from .drift import DriftGuard
from .refusal import note_refusal
from .synchronize import Copied
from .weighing import (
    FEWEST,
    Settings,
    about_copy_from,
    class_reason,
    heed_messages,
    hindrance,
    transaction_state,
    wishes_for,
)

__all__ = ["FlushRun", "FlushSettings", "Record"]

log = logging.getLogger("sqla_seqreserve.flush")

Record: TypeAlias = tuple[State, dict[str, Any], Mapper[Any], Connection]
"""A state to insert, as SQLAlchemy's own steps pass it: with its dictionary, mapper and
connection.
"""

_maximum: Final = attrgetter("maximum")

_ATTEMPTS: Final = 10
"""How often facts are read again in one flush. Under DDL that never rests SQLAlchemy writes."""


_RESTLESS: Final = "its tables are altered faster than they can be looked at"

_FEW: Final = "few rows"
"""The reason of rows that an INSERT was cheaper for, until a report says from where COPY pays."""


class FlushSettings(Settings, Protocol):
    """What the flush asks of a registration."""

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
        self._given: dict[Mapper[Any], dict[str, list[State]]] = {}
        self._had_none: set[tuple[State, str]] = set()
        self._written: list[Sequence[State]] = []
        self._tallies: dict[tuple[type[Any], Writer, str | None], _Tally] = {}
        self._pinned: dict[Connection, dict[str, TableFacts]] = {}
        self._copied: set[Mapper[Any]] = set()
        self._barred: dict[Mapper[Any], str] = {}
        self._begun: dict[Mapper[Any], tuple[Connection, bool]] = {}
        self._outboxes: dict[Connection, Outbox] = {}
        self.generations: dict[State, int] = {}
        """How many parents stand above an object, where objects refer to their own class."""
        self._needed = False
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
        if cycle is not None:
            self.generations = cycle.generations or {}
            self._needed = cycle.can_be_saved_at_once()
        by_connection: dict[Connection, dict[Mapper[Any], list[State]]] = {}
        for mapper, states in _pending_by_mapper(uow).items():
            if self.settings.enrols(mapper):
                connection = self.connection_for(uow, mapper.base_mapper)
                if connection.dialect.name == "postgresql":
                    by_connection.setdefault(connection, {})[mapper] = states
        if self.settings.drift_guard is not None:
            self.settings.drift_guard.examine(uow.session, by_connection)
        for connection, pending in by_connection.items():
            self._reserve_on(uow, connection, pending)

    def _reserve_on(
        self, uow: Any, connection: Connection, pending: dict[Mapper[Any], list[State]]
    ) -> None:
        heed_messages(self.settings, connection.dialect)
        state = transaction_state(connection)
        held = hindrance(connection, state)
        copies = {mapper: self.stock_reason(uow, mapper.base_mapper) is None for mapper in pending}
        weighed = [
            Pending(len(states), len(mapper.tables), _lacks_key(mapper, states), copies[mapper])
            for mapper, states in pending.items()
        ]
        driver = driver_of(connection.dialect)
        route = choose(
            weighed,
            driver,
            distance_to(connection.dialect).round_trip,
            begun=state == "open",
            wishes=wishes_for(self.settings, pending, needed=self._needed),
        )
        self._begun.update(dict.fromkeys(pending, (connection, state == "open")))
        may_copy = {mapper for mapper, possible in copies.items() if possible}
        # Travels with the BEGIN that SQLAlchemy would wait for.
        is_free = driver is not None and driver.begins_along and state == "idle"
        for _ in range(_ATTEMPTS if route.reserve else 0):
            # Looking at the catalogue begins the transaction, so it is asked each time.
            held = held or hindrance(connection, transaction_state(connection))
            if held is not None:
                break
            if self._try_to_reserve(connection, pending, route, may_copy, is_free):
                return
        for number, mapper in enumerate(pending):
            if number in route.copies:
                # Without a lock, or without a look at the present: SQLAlchemy writes.
                self._barred.setdefault(mapper, held or _RESTLESS)

    def _try_to_reserve(
        self,
        connection: Connection,
        pending: dict[Mapper[Any], list[State]],
        route: Route,
        may_copy: set[Mapper[Any]],
        is_free: bool,
    ) -> bool:
        """Take the keys in one message; false where a table is another than it was looked up as,
        so that all of it is decided anew.

        :param is_free: the message costs no round trip, so that it is worth sending to ask whether
            what kept a class from its keys, or from COPY, is still there.
        """
        driver = driver_of(connection.dialect)
        is_idle = driver is not None and driver.state(connection.connection) == "idle"
        found = resolve(connection, pending)
        self._sources.update(found)
        chosen = [mapper for number, mapper in enumerate(pending) if number in route.copies]
        if self.settings.reserve == "always":
            # INSERT would refuse their keys.
            chosen += [
                mapper
                for mapper, states in pending.items()
                if found[mapper].refuses_keys
                and mapper in may_copy
                and mapper not in chosen
                and _lacks_key(mapper, states)
            ]
        to_copy, barred = self._to_copy(connection, chosen)
        self._copied = to_copy.keys() & pending.keys()
        pinned = {facts.name: facts for tables in to_copy.values() for facts in tables}
        compared = {facts.name: facts for facts in barred if facts.lockable} | pinned
        wanted: dict[object, dict[KeySequence, list[State]]] = {}
        for mapper, states in pending.items():
            source = found[mapper]
            if not source.is_reservable or (source.refuses_keys and mapper not in to_copy):
                if source.facts is not None and source.facts.lockable:
                    # What keeps a class from its keys may have been taken away since.
                    compared[source.facts.name] = source.facts
                continue
            if self._casts(connection, mapper):
                continue
            for part in source.parts:
                attribute = part.key.attribute
                needing = [state for state in states if state.dict.get(attribute) is None]
                if needing:
                    wanted.setdefault(part.place, {})[part] = needing
        requests, shelves = [], []
        for sharing in wanted.values():
            source = max(sharing, key=_maximum)
            assert source.facts is not None
            shelf = shelf_of(connection, source, self.settings.prefetch)
            count = shelf.lacking(sum(map(len, sharing.values())), asks_anyway=bool(pinned))
            requests.append(IdRequest(source, count))
            shelves.append(shelf)
        asks = is_free or bool(pinned) or any(request.count for request in requests)
        if is_idle:
            drop_snapshot(connection)
        taken = take_ids(connection, requests, compared.values() if asks else ())
        if not taken.holds:
            return False
        self._pinned[connection] = pinned
        for sharing, shelf, ids in zip(wanted.values(), shelves, taken.ids, strict=True):
            values = shelf.take(sum(map(len, sharing.values())), ids)
            # INSERT casts a key that is given to the model's type, one that it generates to the
            # column's.
            largest = _largest(sharing, values)
            if not any(one.model_maximum < largest <= one.maximum for one in sharing):
                self._hand_out(sharing, values)
        return True

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

    def _to_copy(
        self, connection: Connection, mappers: Iterable[Mapper[Any]]
    ) -> tuple[dict[Mapper[Any], list[TableFacts]], list[TableFacts]]:
        """The classes that COPY is to write, with what is known of their tables; and the tables of
        which that tells that it cannot.
        """
        chosen = {
            mapper: [table for table in mapper.tables if isinstance(table, Table)]
            for mapper in mappers
        }
        names = {
            table: catalogue.table_name(connection, table)
            for tables in chosen.values()
            for table in tables
        }
        facts = catalogue.table_facts(connection, names.values())
        found: dict[Mapper[Any], list[TableFacts]] = {}
        barred: list[TableFacts] = []
        for mapper, tables in chosen.items():
            known: list[TableFacts] = []
            self._barred.pop(mapper, None)
            for table in tables:
                one = facts[names[table]]
                if one is None:
                    self._barred[mapper] = "the database has no such table"
                    break
                plan = insert_plan(mapper, table, one, connection.dialect)
                if plan.reason is not None:
                    self._barred[mapper] = plan.reason
                    barred.append(one)
                    break
                known.append(one)
            else:
                found[mapper] = known
        return found, barred

    def _hand_out(self, sharing: dict[KeySequence, list[State]], ids: list[Any]) -> None:
        """Give the ids of one sequence, or the values of one default, to the objects of the classes
        that share it, in the order of ``add()``.
        """
        if len(sharing) > 1:
            sources = {state: source for source, states in sharing.items() for state in states}
            ordered = sorted(sources, key=self.order)
            if len(set(map(_maximum, sharing))) > 1:
                for state, value in zip(ordered, ids, strict=True):
                    check_range(sources[state], [value])
            value_of = dict(zip(ordered, ids, strict=True))
        for source, states in sharing.items():
            states.sort(key=self.order)
            values = ids if len(sharing) == 1 else [value_of[state] for state in states]
            if source.to_python is not None:
                values = list(map(source.to_python, values))
            attribute = source.key.attribute
            for state, value in zip(states, values, strict=True):
                row = state.dict
                if attribute in row:
                    self._had_none.add((state, attribute))
                row[attribute] = value
            self.reserved.update(states)
            self._given.setdefault(source.key.mapper, {})[attribute] = states

    def order(self, state: State) -> tuple[int, int]:
        """Sorts objects as SQLAlchemy inserts them: parents of a class before their children, and
        then in the order of ``add()``.
        """
        return self.generations.get(state, 0), state.insert_order or 0

    def failed(self, error: BaseException) -> None:
        """Tell of the failure, and leave the objects that were not inserted without a key, as a
        failed stock flush does.
        """
        audit.failed(log, error)
        for connection in self._connections.values():
            forget_after(connection, error)
        written = set().union(*self._written)
        for given in self._given.values():
            for attribute, states in given.items():
                self._take_off(attribute, [state for state in states if state not in written])

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

    def release(self, records: Iterable[Record]) -> None:
        """Leave it to the database to number rows that COPY cannot write, as SQLAlchemy would: an
        INSERT with known keys may cast their values otherwise.
        """
        if not self.generations:
            self._release(record for record in records if record[0] in self.reserved)

    def release_always_identity(self, records: Iterable[Record]) -> None:
        """Leave it to ``GENERATED ALWAYS`` to number rows that COPY cannot write: INSERT would
        refuse their key.
        """
        self._release(
            record
            for record in records
            if record[0] in self.reserved and self._sources[record[2]].refuses_keys
        )

    def _release(self, records: Iterable[Record]) -> None:
        by_mapper: dict[Mapper[Any], list[State]] = {}
        for state, _, mapper, _ in records:
            by_mapper.setdefault(mapper, []).append(state)
        for mapper, states in by_mapper.items():
            given = self._given.get(mapper, {})
            for attribute, holders in given.items():
                chosen = states
                if len(given) > 1:
                    # Of a key of several columns the user may have set one.
                    mine = set(holders)
                    chosen = [state for state in states if state in mine]
                self._take_off(attribute, chosen)

    def _take_off(self, attribute: str, states: Iterable[State]) -> None:
        for state in states:
            if (state, attribute) in self._had_none:
                state.dict[attribute] = None
            else:
                state.dict.pop(attribute, None)
            self.reserved.discard(state)

    # Writing

    def pinned(self, connection: Connection, table: Table) -> TableFacts | None:
        """What is known of a table, if it was compared under the table's lock in this flush."""
        pinned = self._pinned.get(connection)
        return pinned.get(catalogue.table_name(connection, table)) if pinned else None

    def copies(self, mapper: Mapper[Any]) -> bool:
        """Whether COPY was chosen for the objects of a class."""
        return mapper in self._copied

    @property
    def fewest(self) -> int:
        """The fewest rows of a kind that are worth a COPY of their own, once COPY was chosen."""
        asked = self.settings.copy_min_rows
        return FEWEST if asked is None else asked

    def insert_reason(self, mapper: Mapper[Any]) -> tuple[Writer, str]:
        """Who is said to write rows that COPY does not, and why it does not."""
        barred = self._barred.get(mapper)
        return ("insert", _FEW) if barred is None else ("orm", barred)

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
        source = self._sources.get(mapper)
        return source is not None and source.key.table is table

    def is_always_identity(self, mapper: Mapper[Any], table: Table) -> bool:
        """Whether ``table`` numbers the class by ``GENERATED ALWAYS``, so that only COPY may
        write a reserved key.
        """
        source = self._sources.get(mapper)
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
        tally = self._tallies.setdefault((states[0].class_, writer, reason), _Tally())
        tally.rows += len(states)
        tally.reserved += len(self.reserved.intersection(states))
        tally.seconds += seconds

    def report(self) -> None:
        """Hand the report to the registration, if anything was inserted."""
        if not self._tallies or not (self.settings.is_watched or audit.is_heard(log)):
            return
        entries = tuple(
            FlushEntry(
                model,
                tally.rows,
                tally.reserved,
                writer,
                self._told(model, reason),
                tally.seconds,
            )
            for (model, writer, reason), tally in self._tallies.items()
        )
        report = FlushReport(entries)
        self.settings.flushed(report)
        audit.flushed(log, report)

    def _told(self, model: type[Any], reason: str | None) -> str | None:
        """A reason as it is reported: why an INSERT was cheaper is worked out for those who ask."""
        if reason != _FEW:
            return reason
        mapper = class_mapper(model)
        if self.settings.copy_min_rows is not None:
            return f"few rows: COPY is asked for from {self.settings.copy_min_rows} on"
        if mapper not in self._begun:
            return reason
        connection, begun = self._begun[mapper]
        pays_from = about_copy_from(self.settings, connection, mapper, begun=begun)
        return f"few rows: COPY pays from about {pays_from} on at this distance"


def _largest(sharing: Iterable[KeySequence], values: Sequence[Any]) -> int:
    """The largest of numbers, their sign aside; 0 where they are none."""
    if not any(source.maximum for source in sharing):
        return 0
    if any(source.default is not None for source in sharing):
        return max(map(abs, values), default=0)
    return max(map(abs, values[-1:]), default=0)


def _lacks_key(mapper: Mapper[Any], states: Iterable[State]) -> bool:
    """Whether the database has a key to generate for one of these objects, from the mapping
    alone.
    """
    return any(
        state.dict.get(part.attribute) is None
        for part in generated_key(mapper).parts
        for state in states
    )


def _pending_by_mapper(uow: Any) -> dict[Mapper[Any], list[State]]:
    """The objects that this flush inserts, by their mapper."""
    fate = uow.states
    found = {}
    for mapper, states in uow.mappers.items():
        pending = [state for state in states if state.key is None and fate[state] == (False, False)]
        if pending:
            found[mapper] = pending
    return found
