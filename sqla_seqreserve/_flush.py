"""The flush: SQLAlchemy's unit of work, with keys reserved before it executes and with one step of it replaced.

A flush that a :class:`~sqla_seqreserve.Registration` watches runs with :class:`ReservingUnitOfWork`, and the path of a pending object reads from top to
bottom:

1. The unit of work sorts out cascades, orphans and dependencies, all of it stock. Then, before its first action, the keys of every
   object that will be inserted are reserved in one round trip (:meth:`ReservingUnitOfWork._generate_actions`).
2. The actions run in stock order. Where SQLAlchemy would save objects, :class:`SaveAll` (or, in a cyclic graph, :class:`SaveSome`) runs
   :func:`_save`: the same steps as SQLAlchemy's ``save_obj``, with the same events, updates and row switches.
3. The step that collects and sends the INSERT is ours: :func:`_insert` gives COPY what the plan (:mod:`sqla_seqreserve._plan`) says
   that COPY writes exactly, and the rest back to SQLAlchemy's own collect and emit.
4. The unit of work registers the objects as persistent, and the report goes to whoever asked.

When anything fails, the keys of objects that were not inserted are taken off again, and the exception is SQLAlchemy's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple, Protocol

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.exc import FlushError

from . import _catalogue as catalogue
from . import _host as host
from ._fetch import IdRequest, fetch_ids
from ._host import State
from ._keys import KeySequence, resolve
from ._plan import Batch, InsertPlan, insert_plan
from ._refusal import describe_refusal
from .reports import FlushEntry, FlushReport, Writer
from .writers._copy import CopyJob, copy_rows, no_copy_reason
from .writers._readback import read_back

__all__ = ["FlushSettings", "ReservingUnitOfWork", "take_over"]

log = logging.getLogger("sqla_seqreserve.flush")

_insert_order: Final = attrgetter("insert_order")

Record = tuple[State, dict[str, Any], Mapper[Any], Connection]
"""A state to insert, as SQLAlchemy's own steps pass it: with its dictionary, mapper and connection."""


class FlushSettings(Protocol):
    """What the flush asks of a registration."""

    @property
    def mode(self) -> str: ...
    @property
    def copy_threshold(self) -> int: ...
    def enrols(self, mapper: Mapper[Any]) -> bool: ...
    def flushed(self, report: FlushReport) -> None: ...


def take_over(uow: Any, settings: FlushSettings, *, partial: bool) -> None:
    """Run this flush with :class:`ReservingUnitOfWork`.

    :param partial: the flush was asked for certain objects only (``session.flush(objects)``).
    """
    uow.__class__ = ReservingUnitOfWork
    uow.seqreserve = _FlushRun(settings, partial)


class ReservingUnitOfWork(host.UOWTransaction):
    """SQLAlchemy's unit of work of one flush, which reserves keys and saves through COPY."""

    seqreserve: _FlushRun

    def _per_mapper_flush_actions(self, mapper: Mapper[Any]) -> None:
        super()._per_mapper_flush_actions(mapper)
        self.postsort_actions[host.SaveUpdateAll, mapper.base_mapper].__class__ = SaveAll

    def _generate_actions(self) -> set[Any]:
        actions = super()._generate_actions()
        self.seqreserve.reserve(self)
        return actions

    def execute(self) -> None:
        try:
            super().execute()
        except BaseException:
            self.seqreserve.take_keys_back()
            raise

    def finalize_flush_changes(self) -> None:
        super().finalize_flush_changes()
        self.seqreserve.report()


class SaveAll(host.SaveUpdateAll):
    """Saves every object of an inheritance hierarchy."""

    __slots__ = ()

    def execute(self, uow: Any) -> None:
        _save(self.mapper, uow.states_for_mapper_hierarchy(self.mapper, False, False), uow)

    def per_state_flush_actions(self, uow: Any) -> Iterator[Any]:
        for action in super().per_state_flush_actions(uow):
            if isinstance(action, host.SaveUpdateState):
                action.__class__ = SaveSome
            yield action


class SaveSome(host.SaveUpdateState):
    """Saves objects of a cyclic graph, those that are ready together at once."""

    __slots__ = ()

    def execute_aggregate(self, uow: Any, recs: set[Any]) -> None:
        mine = [rec for rec in recs if rec.__class__ is SaveSome and rec.mapper is self.mapper]
        recs.difference_update(mine)
        _save(self.mapper, [self.state, *(rec.state for rec in mine)], uow)


class _Needing(NamedTuple):
    """An object without a key: its place in the order of ``add()``, and the sequence that numbers it."""

    order: int
    state: State
    source: KeySequence


@dataclass(slots=True, eq=False)
class _Tally:
    rows: int = 0
    reserved: int = 0
    seconds: float = 0.0


class _FlushRun:
    """What one flush has reserved and written so far."""

    def __init__(self, settings: FlushSettings, partial: bool) -> None:
        self.settings = settings
        self.partial = partial
        self.sources: dict[Mapper[Any], KeySequence] = {}
        self.reserved: dict[Mapper[Any], list[State]] = {}
        self.had_none: set[State] = set()
        self.reserved_states: set[State] = set()
        self.written: list[Sequence[State]] = []
        self.tallies: dict[tuple[type[Any], Writer, str | None], _Tally] = {}

    # Reserving

    def reserve(self, uow: ReservingUnitOfWork) -> None:
        """Reserve the keys of everything that this flush inserts, in one round trip a connection."""
        if self.settings.mode == "off" or host.is_sharded(uow.session):
            return
        pending = _pending_by_mapper(uow)
        by_connection: dict[Connection, list[Mapper[Any]]] = {}
        for mapper in pending:
            if self.settings.enrols(mapper):
                connection = host.connection_for(uow, mapper.base_mapper)
                if connection.dialect.name == "postgresql":
                    by_connection.setdefault(connection, []).append(mapper)
        for connection, mappers in by_connection.items():
            self._reserve_on(connection, {mapper: pending[mapper] for mapper in mappers})

    def _reserve_on(self, connection: Connection, pending: dict[Mapper[Any], list[State]]) -> None:
        found = resolve(connection, pending)
        self.sources.update(found)
        wanted: dict[str, list[_Needing]] = {}
        for mapper, states in pending.items():
            source = found[mapper]
            if source.sequence is None or (
                source.always_identity and self._stock_reason(connection) is not None
            ):
                continue
            attribute = source.key.attribute
            found_here = [
                _Needing(state.insert_order or 0, state, source)
                for state in states
                if state.dict.get(attribute) is None
            ]
            if found_here:
                wanted.setdefault(source.sequence.name, []).extend(found_here)
        requests = []
        for needing in wanted.values():
            needing.sort(key=itemgetter(0))
            requests.append(IdRequest(needing[0].source, len(needing)))
        requested = {request.source.facts.name for request in requests if request.source.facts}
        threshold = self.settings.copy_threshold
        written = {
            catalogue.table_name(connection, table)
            for mapper, states in pending.items()
            if len(states) >= threshold
            for table in mapper.tables
            if isinstance(table, Table)
        }
        guarded = catalogue.cached_facts(connection, sorted(written - requested))
        ids, _ = fetch_ids(connection, requests, guarded)
        for needing, values in zip(wanted.values(), ids, strict=True):
            self._hand_out(needing, values)

    def _hand_out(self, needing: list[_Needing], ids: list[int]) -> None:
        for (_, state, source), value in zip(needing, ids, strict=True):
            row = state.dict
            attribute = source.key.attribute
            if attribute in row:
                self.had_none.add(state)
            row[attribute] = source.to_python(value) if source.to_python else value
            self.reserved_states.add(state)
            self.reserved.setdefault(source.key.mapper, []).append(state)

    def take_keys_back(self) -> None:
        """Leave the objects that were not inserted without a key, as a failed stock flush does."""
        written = set().union(*self.written)
        for mapper, states in self.reserved.items():
            self._release(mapper, [state for state in states if state not in written])

    def _release(self, mapper: Mapper[Any], states: Iterable[State]) -> None:
        attribute = self.sources[mapper].key.attribute
        for state in states:
            if state in self.had_none:
                state.dict[attribute] = None
            else:
                state.dict.pop(attribute, None)
            self.reserved_states.discard(state)

    def release_always_identity(self, records: Iterable[Record]) -> None:
        """Leave it to ``GENERATED ALWAYS`` to number rows that COPY cannot write: INSERT would refuse their key."""
        for state, _, mapper, _ in records:
            source = self.sources.get(mapper)
            if source is not None and source.always_identity and state in self.reserved_states:
                self._release(mapper, [state])

    # Writing

    def _stock_reason(self, connection: Connection) -> str | None:
        """Why nothing of this flush may go by COPY."""
        if self.settings.mode == "reserve":
            return "mode is reserve"
        if self.partial:
            return "flush(objects) was called"
        return no_copy_reason(connection.dialect)

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
        connection = host.connection_for(uow, base_mapper)
        if connection.dialect.name != "postgresql":
            return f"the database is {connection.dialect.name}"
        return self._stock_reason(connection)

    # Reporting

    def tally(
        self, states: Sequence[State], writer: Writer, reason: str | None, seconds: float
    ) -> None:
        """Count objects as inserted by ``writer``."""
        reserved = self.reserved_states
        for state in states:
            key = (state.class_, writer, reason)
            tally = self.tallies.get(key)
            if tally is None:
                tally = self.tallies[key] = _Tally()
                tally.seconds += seconds
            tally.rows += 1
            tally.reserved += state in reserved

    def report(self) -> None:
        """Hand the report to the registration, if anything was inserted."""
        if not self.tallies:
            return
        entries = tuple(
            FlushEntry(model, tally.rows, tally.reserved, writer, reason, tally.seconds)
            for (model, writer, reason), tally in self.tallies.items()
        )
        self.settings.flushed(FlushReport(entries))


def _pending_by_mapper(uow: Any) -> dict[Mapper[Any], list[State]]:
    """The objects that this flush inserts, by their mapper."""
    fate = uow.states
    found = {}
    for mapper, states in uow.mappers.items():
        pending = [state for state in states if state.key is None and fate[state] == (False, False)]
        if pending:
            found[mapper] = pending
    return found


def _save(base_mapper: Mapper[Any], states: Iterable[State], uow: Any) -> None:
    """SQLAlchemy's ``save_obj``, step by step, with :func:`_insert` for its INSERT."""
    run: _FlushRun = uow.seqreserve
    reason = run.stock_reason(uow, base_mapper)
    if reason is not None:
        _save_stock(base_mapper, states, uow, reason)
        return
    inserts: list[Record] = []
    updates = []
    for state, row, mapper, connection, has_identity, row_switch, version in _organize(
        base_mapper, states, uow
    ):
        if has_identity or row_switch:
            updates.append((state, row, mapper, connection, version))
        else:
            inserts.append((state, row, mapper, connection))
    for table, mapper in host.tables_in_order(base_mapper):
        if updates:
            commands = host.collect_update_commands(uow, table, updates)
            host.emit_update_statements(base_mapper, uow, mapper, table, commands)
        if inserts:
            _insert(base_mapper, mapper, table, inserts, uow)
    _finalize(base_mapper, uow, inserts, updates)


def _save_stock(base_mapper: Mapper[Any], states: Iterable[State], uow: Any, reason: str) -> None:
    run: _FlushRun = uow.seqreserve
    states = list(states)
    pending = [state for state in states if state.key is None]
    started = time.perf_counter()
    host.save_obj(base_mapper, states, uow)
    run.written.append(pending)
    run.tally(pending, "orm", reason, time.perf_counter() - started)


def _organize(
    base_mapper: Mapper[Any], states: Iterable[State], uow: Any
) -> Iterable[tuple[State, dict[str, Any], Mapper[Any], Connection, bool, Any, Any]]:
    """SQLAlchemy's pass over the states: ``before_insert``, ``before_update``, row switches, checks."""
    return host.organize_states_for_save(base_mapper, states, uow)


def _finalize(
    base_mapper: Mapper[Any], uow: Any, inserts: list[Record], updates: list[Any]
) -> None:
    """SQLAlchemy's last pass: ``after_insert``, ``after_update``, expiry of what the database computes."""
    host.finalize_saved(
        base_mapper,
        uow,
        [
            *((*record, False) for record in inserts),
            *((*record[:4], True) for record in updates),
        ],
    )


def _insert(
    base_mapper: Mapper[Any], mapper: Mapper[Any], table: Table, inserts: list[Record], uow: Any
) -> None:
    """Insert the records into one table, each class by its own plan."""
    if host.is_alone(base_mapper):
        groups: Iterable[tuple[Mapper[Any], list[Record]]] = [(mapper, inserts)]
    else:
        concerned = [record for record in inserts if host.writes_to(record[2], table)]
        groups = [(cls, list(found)) for cls, found in groupby(concerned, key=itemgetter(2))]
        if not _keeps_order(groups, table):
            merged: dict[Mapper[Any], list[Record]] = {}
            for cls, found in groups:
                merged.setdefault(cls, []).extend(found)
            groups = list(merged.items())
    for cls, records in groups:
        _insert_class(base_mapper, cls, table, records, uow)


def _keeps_order(groups: Sequence[tuple[Mapper[Any], list[Record]]], table: Table) -> bool:
    if not groups:
        return True
    connection = groups[0][1][0][3]
    name = catalogue.table_name(connection, table)
    facts = catalogue.table_facts(connection, [name])[name]
    return facts is None or facts.references_itself or facts.insert_triggers


def _insert_class(
    base_mapper: Mapper[Any], mapper: Mapper[Any], table: Table, records: list[Record], uow: Any
) -> None:
    """Insert objects of one class into one table: by COPY what COPY writes exactly, the rest by SQLAlchemy's own statements."""
    run: _FlushRun = uow.seqreserve
    connection = records[0][3]
    if not run.settings.enrols(mapper):
        _insert_stock(base_mapper, mapper, table, records, uow, "orm", "the class is not enrolled")
        return
    source = run.sources.get(mapper)
    always = source is not None and source.always_identity and source.key.table is table
    if len(records) < run.settings.copy_threshold and not always:
        _insert_stock(base_mapper, mapper, table, records, uow, "insert", "few rows")
        return
    name = catalogue.table_name(connection, table)
    facts = catalogue.table_facts(connection, [name])[name]
    if facts is None:
        _insert_stock(
            base_mapper, mapper, table, records, uow, "orm", "the database has no such table"
        )
        return
    plan = insert_plan(mapper, table, facts, connection.dialect)
    division = plan.divide([record[1] for record in records], connection)
    parts: list[tuple[int, Callable[[], None]]] = []
    for batch in division.batches:
        if len(batch.positions) < run.settings.copy_threshold and not always:
            division.elsewhere.setdefault("few rows", []).extend(batch.positions)
        else:
            parts.append((batch.positions[0], partial(_copy, plan, batch, records, uow)))
    for reason, positions in division.elsewhere.items():
        chosen = [records[position] for position in sorted(positions)]
        writer: Writer = "insert" if reason == "few rows" else "orm"
        write: Callable[[], None] = partial(
            _insert_stock, base_mapper, mapper, table, chosen, uow, writer, reason
        )
        parts.append((min(positions), write))
    if len(parts) > 1 and plan.keeps_order:
        _insert_stock(
            base_mapper,
            mapper,
            table,
            records,
            uow,
            "orm",
            "rows of several kinds must keep their order",
        )
        return
    for _, write_part in sorted(parts, key=itemgetter(0)):
        write_part()


def _insert_stock(
    base_mapper: Mapper[Any],
    mapper: Mapper[Any],
    table: Table,
    records: list[Record],
    uow: Any,
    writer: Writer,
    reason: str,
) -> None:
    """SQLAlchemy's own collect and emit, with the keys that are reserved."""
    run: _FlushRun = uow.seqreserve
    run.release_always_identity(records)
    started = time.perf_counter()
    commands = host.collect_insert_commands(table, records)
    host.emit_insert_statements(base_mapper, uow, mapper, table, commands)
    _written(run, table, records, writer, reason, time.perf_counter() - started)


def _copy(plan: InsertPlan, batch: Batch, records: list[Record], uow: Any) -> None:
    """Write a batch and leave its objects as SQLAlchemy's ``_postfetch`` would."""
    run: _FlushRun = uow.seqreserve
    chosen = [records[position] for position in batch.positions]
    connection = chosen[0][3]
    started = time.perf_counter()
    job = CopyJob(batch.values, batch.oids, batch.binary)
    try:
        taken = copy_rows(connection, plan.facts.name, batch.columns, job, len(chosen))
    except DBAPIError as error:
        note = describe_refusal(error, plan.table, [record[0] for record in chosen])
        if note is not None:
            error.add_note(note)
        raise
    if taken != len(chosen):
        raise FlushError(
            f"COPY for {plan.mapper} sent {len(chosen)} rows, of which {plan.table.name} took {taken}. Ensure there are no "
            "triggers that discard rows"
        )
    _after_copy(plan, batch, chosen, connection, uow)
    _written(run, plan.table, chosen, "copy", None, time.perf_counter() - started)


def _after_copy(
    plan: InsertPlan, batch: Batch, records: list[Record], connection: Connection, uow: Any
) -> None:
    mapper = plan.mapper
    loaded: list[str] = []
    if (plan.reads_back and batch.omitted) or plan.facts.before_insert_triggers:
        columns = plan.server_columns if plan.reads_back and batch.omitted else ()
        loaded += read_back(connection, plan, columns, records)
    for attribute, values in batch.defaults.items():
        loaded.append(attribute)
        for (state, row, _, _), value in zip(records, values, strict=True):
            row[attribute] = value
            state.committed_state.pop(attribute, None)
    refresh_flush = mapper.class_manager.dispatch.refresh_flush
    if refresh_flush and loaded:
        for state, _, _, _ in records:
            refresh_flush(state, uow, loaded)
    expired = [
        attribute
        for attribute, column in plan.source.items()
        if not plan.reads_back and column in batch.omitted and column.server_default is not None
    ]
    if expired:
        for state, _, _, _ in records:
            host.expire_attributes(state, expired)
    if plan.hands_on_keys:
        for state, _, _, _ in records:
            host.synchronize_inherited_keys(mapper, plan.table, state, uow)


def _written(
    run: _FlushRun,
    table: Table,
    records: list[Record],
    writer: Writer,
    reason: str | None,
    seconds: float,
) -> None:
    states = [record[0] for record in records]
    mapper = records[0][2]
    if table in {column.table for column in mapper.primary_key}:
        run.written.append(states)
    if table is mapper.local_table:
        run.tally(states, writer, reason, seconds)
    level = logging.INFO if writer == "copy" else logging.DEBUG
    if log.isEnabledFor(level):
        log.log(
            level,
            "%s wrote %d rows of %s",
            writer,
            len(records),
            table.name,
            extra={
                "event": "write",
                "writer": writer,
                "rows": len(records),
                "table": table.name,
                "reason": reason,
                "seconds": seconds,
            },
        )
