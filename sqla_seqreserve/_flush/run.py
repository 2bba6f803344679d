"""What one flush has reserved and written so far, and what its settings allow."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, TypeAlias

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
from .._ids.engine import Engine, ask_engine
from .._ids.fetch import IdRequest, check_range, drop_snapshot, take_ids
from .._ids.keys import KeySequence, lacks_key, outgrows, resolve
from .._ids.prefetch import forget_after, shelf_of
from .._routes import Pending, Route
from .._rows.plan import insert_plan
from .._rows.proof import cast_reason
from .._writers.copy import warn_of_driver
from .._writers.insert import Outbox
from ..reports import FlushEntry, FlushReport, Writer
from .aside import Aside, stay_out
from .cycles import Cycle
from .refusal import note_refusal
from .synchronize import Copied
from .weighing import (
    FlushSettings,
    about_copy_from,
    chosen_route,
    class_reason,
    fewest_of,
    heed_messages,
    hindrance,
    is_distributed,
    transaction_state,
    wishes_for,
)

__all__ = ["FlushRun", "Record"]

log = logging.getLogger("sqla_seqreserve.flush")

Record: TypeAlias = tuple[State, dict[str, Any], Mapper[Any], Connection]
"""A state to insert, as SQLAlchemy's own steps pass it: with its dictionary, mapper and
connection.
"""

_maximum: Final = attrgetter("maximum")
_insert_order: Final = attrgetter("insert_order")

_ATTEMPTS: Final = 10
"""How often facts are read again in one flush. Under DDL that never rests SQLAlchemy writes."""


_RESTLESS: Final = "its tables are altered faster than they can be looked at"

_FEW: Final = "few rows"
"""The reason of rows that an INSERT was cheaper for, until a report says from where COPY pays."""


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
        self.aside: Aside | None = None
        """Set where the whole flush is SQLAlchemy's."""
        self._asides: dict[Mapper[Any], Aside] = {}
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
        every = _pending_by_mapper(uow)
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
            self._reserve_on(uow, connection, pending)

    def _engine(self, connection: Connection) -> Engine:
        """What the server is, asked where nothing was ever flushed to it."""
        was_idle = transaction_state(connection) == "idle"
        engine = ask_engine(connection)
        if was_idle:
            drop_snapshot(connection)
        return engine

    def _reserve_on(
        self, uow: Any, connection: Connection, pending: dict[Mapper[Any], list[State]]
    ) -> None:
        heed_messages(self.settings, connection.dialect)
        state = transaction_state(connection)
        held = hindrance(connection, state)
        copies = {mapper: self.stock_reason(uow, mapper.base_mapper) is None for mapper in pending}
        driver = driver_of(connection.dialect)
        self._begun.update(dict.fromkeys(pending, (connection, state == "open")))
        may_copy = {mapper for mapper, possible in copies.items() if possible}
        # Travels with the BEGIN that SQLAlchemy would wait for.
        is_free = driver is not None and driver.begins_along and state == "idle"
        on_citus = ask_engine(connection).kind == "citus"
        if on_citus:
            # What a table costs must be known before the way is chosen.
            self._sources.update(resolve(connection, pending))
            if state == "idle":
                drop_snapshot(connection)
        weighed = [
            Pending(
                len(states),
                len(mapper.tables),
                lacks_key(mapper, states),
                copies[mapper],
                distributed=on_citus and is_distributed(connection, mapper),
            )
            for mapper, states in pending.items()
        ]
        route = chosen_route(
            tuple(weighed),
            driver,
            distance_to(connection.dialect),
            begun=state == "open",
            wishes=wishes_for(self.settings, pending, needed=self._needed),
        )
        if not route.reserve and not route.copies and driver is not None:
            aside = Aside(driver, distance_to(connection.dialect), begun=state == "open")
            self._asides.update((mapper.base_mapper, aside) for mapper in pending)
            return
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
                and lacks_key(mapper, states)
            ]
        to_copy, kept_out = self._to_copy(connection, pending, chosen)
        self._copied = to_copy.keys() & pending.keys()
        pinned = {facts.name: facts for tables in to_copy.values() for facts in tables}
        wanted: dict[object, dict[KeySequence, list[State]]] = {}
        for mapper, states in pending.items():
            source = found[mapper]
            if not source.is_reservable or (source.refuses_keys and mapper not in to_copy):
                if source.facts is not None:
                    kept_out.setdefault(source.facts.name, (source.facts, len(states)))
                continue
            attributes = [part.key.attribute for part in source.parts]
            needing = [
                state
                for state in states
                if any(state.dict.get(attribute) is None for attribute in attributes)
            ]
            # Before a COPY the values are looked at once they are made.
            late = mapper in to_copy and not self.generations
            if not needing or self._casts(connection, source, [] if late else needing):
                continue
            for part, attribute in zip(source.parts, attributes, strict=True):
                lacking = needing
                if len(attributes) > 1:
                    lacking = [state for state in needing if state.dict.get(attribute) is None]
                if lacking:
                    wanted.setdefault(part.place, {})[part] = lacking
        # What keeps a class from its keys, or from COPY, may have been taken away since.
        doubted = [
            facts
            for facts, rows in kept_out.values()
            if catalogue.is_in_doubt(connection, facts, rows)
        ]
        if not all(facts.lockable for facts in doubted):
            # They cannot be compared under a lock, but read.
            catalogue.forget(connection, [facts.name for facts in doubted])
            return False
        compared = {facts.name: facts for facts, _ in kept_out.values() if facts.lockable} | pinned
        requests, shelves = [], []
        for sharing in wanted.values():
            source = max(sharing, key=_maximum)
            assert source.facts is not None
            shelf = shelf_of(connection, source, self.settings.prefetch)
            count = shelf.lacking(sum(map(len, sharing.values())), asks_anyway=bool(pinned))
            requests.append(IdRequest(source, count))
            shelves.append(shelf)
        asks = is_free or bool(pinned or doubted) or any(request.count for request in requests)
        if is_idle:
            drop_snapshot(connection)
        taken = take_ids(connection, requests, compared.values() if asks else ())
        if not taken.holds:
            return False
        self._pinned[connection] = pinned
        for sharing, shelf, ids in zip(wanted.values(), shelves, taken.ids, strict=True):
            values = shelf.take(sum(map(len, sharing.values())), ids)
            if not any(outgrows(connection, one, values) for one in sharing):
                self._hand_out(sharing, values)
        return True

    def _casts(self, connection: Connection, source: KeySequence, states: Sequence[State]) -> bool:
        """Whether INSERT casts values of a class otherwise where the database numbers the rows.

        :param states: whose values to look at beside the types of the columns.
        """
        assert source.facts is not None
        assert source.key.table is not None
        mapper = source.key.mapper
        plan = insert_plan(mapper, source.key.table, source.facts, connection.dialect)
        if len(states) == 1:
            return False
        return bool(plan.cast_reason or cast_reason(plan, [state.dict for state in states]))

    def _to_copy(
        self,
        connection: Connection,
        pending: Mapping[Mapper[Any], Sequence[State]],
        mappers: Iterable[Mapper[Any]],
    ) -> tuple[dict[Mapper[Any], list[TableFacts]], dict[str, tuple[TableFacts, int]]]:
        """The classes that COPY is to write, with what is known of their tables; and the tables of
        which that tells that it cannot, with the rows that it was to write.
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
        kept_out: dict[str, tuple[TableFacts, int]] = {}
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
                    kept_out[one.name] = one, len(pending[mapper])
                    break
                known.append(one)
            else:
                found[mapper] = known
        return found, kept_out

    def _hand_out(self, sharing: dict[KeySequence, list[State]], ids: list[Any]) -> None:
        """Give the ids of one sequence, or the values of one default, to the objects of the classes
        that share it, in the order of ``add()``.
        """
        if len(sharing) > 1:
            sources = {state: source for source, states in sharing.items() for state in states}
            ordered = self.in_order(sources)
            if len(set(map(_maximum, sharing))) > 1:
                for state, value in zip(ordered, ids, strict=True):
                    check_range(sources[state], [value])
            value_of = dict(zip(ordered, ids, strict=True))
        for source, states in sharing.items():
            states = self.in_order(states)
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

    def in_order(self, states: Iterable[State]) -> list[State]:
        """New objects, as SQLAlchemy inserts them."""
        return sorted(states, key=self.order if self.generations else _insert_order)

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

    def release(self, records: Iterable[Record], *, needed: bool = False) -> bool:
        """Leave it to the database to number rows that COPY cannot write, as SQLAlchemy would: an
        INSERT with known keys may cast their values otherwise, and ``GENERATED ALWAYS`` refuses
        such keys. False where keys are needed.

        :param needed: keep the keys that an INSERT takes, for the rows of a class are numbered
            together, or by the generations that they stand in.
        """
        needed = needed or bool(self.generations)
        self._release(
            record
            for record in records
            if record[0] in self.reserved and (not needed or self._sources[record[2]].refuses_keys)
        )
        return not needed

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

    def aside_of(self, base_mapper: Mapper[Any]) -> Aside | None:
        """Set where SQLAlchemy saves all objects of a hierarchy, for nothing costs less."""
        return self.aside or self._asides.get(base_mapper)

    def fewest(self, facts: TableFacts) -> int:
        """The fewest rows of a kind that are worth a COPY of their own, once COPY was chosen."""
        asked = self.settings.copy_min_rows
        return fewest_of(facts) if asked is None else asked

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

    @property
    def is_told(self) -> bool:
        """Whether anybody is told what was inserted."""
        return self.settings.is_watched or audit.is_heard(log)

    def wrote(
        self, states: Sequence[State], seconds: float, connection: Connection, *, begun: bool
    ) -> None:
        """Count new objects that SQLAlchemy inserted because their INSERT is as cheap."""
        by_class: dict[Mapper[Any], list[State]] = {}
        for state in states:
            by_class.setdefault(state.manager.mapper, []).append(state)
        for mapper, same in by_class.items():
            self._begun[mapper] = connection, begun
            writer, reason = self.insert_reason(mapper)
            self.inserted(same, writer, reason, seconds * len(same) / len(states))

    def report(self) -> None:
        """Hand the report to the registration, if anything was inserted."""
        if not self._tallies or not self.is_told:
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


def _pending_by_mapper(uow: Any) -> dict[Mapper[Any], list[State]]:
    """The objects that this flush inserts, by their mapper."""
    fate = uow.states
    found = {}
    for mapper, states in uow.mappers.items():
        pending = [state for state in states if state.key is None and fate[state] == (False, False)]
        if pending:
            found[mapper] = pending
    return found
