"""The one step of a save that this package replaces: collect the rows of a class for one table and
send them.

COPY writes the rows that were chosen for it (:mod:`sqla_seqreserve._routes`) and that, according to
the plan (``_rows.plan``), it writes exactly as INSERT would. The other rows go to the queue
(``_writers.statement_queue``), which sends SQLAlchemy's own INSERTs, several in one message. After
a COPY the objects are in the state in which SQLAlchemy's ``_postfetch`` leaves them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper

from .. import _reasons as why
from .._drivers import driver_on
from .._reasons import Reason
from .._rows import refusals
from .._rows.batches import Batch, Division
from .._rows.division import divide, runs_in_order
from .._rows.plan import InsertPlan, insert_plan
from .._rows.refusals import cast_reason
from .._sqlalchemy.made_values import MadeValues
from .._sqlalchemy.mapping import writes_to
from .._writers.copy import copy_batch, encodes_keys_apart
from .._writers.shards import RefusedByCitusError, shard_by_shard
from ..reports import Writer
from .copied_objects import keep_defaults, leave_copied
from .reserved_keys import Record
from .routing import fewest_of
from .run import FlushRun


def insert_records(base_mapper: Mapper[Any], table: Table, inserts: list[Record], uow: Any) -> None:
    """Insert the records into one table, each class by its own plan."""
    groups: Iterable[tuple[Mapper[Any], list[Record]]]
    classes = {record[2] for record in inserts}
    if len(classes) == 1:
        [only] = classes
        groups = [(only, inserts)] if writes_to(only, table) else []
    else:
        concerned = [record for record in inserts if writes_to(record[2], table)]
        groups = [(cls, list(found)) for cls, found in groupby(concerned, key=itemgetter(2))]
        if not _keeps_order(uow.seqreserve, groups, table):
            merged: dict[Mapper[Any], list[Record]] = {}
            for cls, found in groups:
                merged.setdefault(cls, []).extend(found)
            groups = list(merged.items())
    for cls, records in groups:
        _insert_class(base_mapper, cls, table, records, uow)
        uow.seqreserve.copy_keys_again()


def _keeps_order(
    run: FlushRun, groups: Sequence[tuple[Mapper[Any], list[Record]]], table: Table
) -> bool:
    """Whether rows of several classes must be written in their given order, as SQLAlchemy does: it
    writes one run of rows of the same class after another. COPY may write all rows of a class
    together if no row refers to another and no trigger sees the order.
    """
    classes = dict.fromkeys(cls for cls, _ in groups)
    plan = next(filter(None, (run.way_of(cls).plan(table) for cls in classes)), None)
    if plan is None:
        return True
    dialect = groups[0][1][0][3].dialect
    return any(insert_plan(cls, table, plan.facts, dialect).keeps_order for cls in classes)


def _insert_class(
    base_mapper: Mapper[Any], mapper: Mapper[Any], table: Table, records: list[Record], uow: Any
) -> None:
    """Insert objects of one class into one table. COPY writes the rows that were chosen for it and
    that it writes exactly as INSERT would; INSERT writes the others.
    """
    run: FlushRun = uow.seqreserve
    connection = records[0][3]
    way = run.way_of(mapper)
    plan = way.plan(table)
    if plan is None:
        assert way.reason is not None
        _insert(base_mapper, mapper, table, records, uow, way.writer, way.reason)
        return
    always = run.keys.is_always_identity(mapper, table)
    if always:
        records = _insert_own_keys(base_mapper, mapper, table, records, uow)
        if not records:
            return
    reserved = {}
    if plan.context_default is not None and run.keys.numbers(mapper, table):
        reserved = run.keys.positions(mapper, [record[0] for record in records])
    division = divide(
        plan,
        [record[1] for record in records],
        connection,
        fewest=1 if always else fewest_of(plan.facts, run.settings.copy_min_rows),
        reserved=reserved,
    )
    release = _release_reason(run, plan, records, division)
    released: Reason | None = None
    if release is not None:
        # An INSERT releases keys that it cannot write itself, in a cycle one generation after the
        # other.
        released = release if always or run.keys.release(records) else None
        refusals.note_refusal(plan)
    parts = _parts_in_order(plan, division)
    if released is not None and (len(parts) > 1 or run.cycle is not None):
        _insert_in_order(base_mapper, plan, records, division, uow, released)
        return
    for part, positions in parts:
        if isinstance(part, Reason):
            writer: Writer = "insert" if part == why.FEW_OF_THEIR_KIND else "orm"
            chosen = [records[position] for position in positions]
            _insert(base_mapper, mapper, table, chosen, uow, writer, part)
            continue
        refusal = part.copy_reason or released or _copy(plan, part, records, uow)
        if refusal is not None:
            chosen = [records[position] for position in positions]
            _insert_batch(base_mapper, plan, part, chosen, uow, refusal)


def _insert_own_keys(
    base_mapper: Mapper[Any], mapper: Mapper[Any], table: Table, records: list[Record], uow: Any
) -> list[Record]:
    """Insert the records of a ``GENERATED ALWAYS`` table that have no reserved key, and return the
    others. COPY would accept a key of the user's own, which PostgreSQL refuses in an INSERT.
    """
    run: FlushRun = uow.seqreserve
    own = [record for record in records if record[0] not in run.keys.reserved]
    if not own:
        return records
    attribute = run.keys.sources[mapper].key.attribute
    for lacks_key, some in groupby(own, lambda record: record[1].get(attribute) is None):
        reason = why.NO_KEYS_RESERVED if lacks_key else why.KEYS_OF_THE_USER
        _insert(base_mapper, mapper, table, list(some), uow, "orm", reason)
    return [record for record in records if record[0] in run.keys.reserved]


def _release_reason(
    run: FlushRun, plan: InsertPlan, records: Sequence[Record], division: Division
) -> Reason | None:
    """Why the database must number these records: they lose their reserved keys then, and INSERT
    writes all of them. ``None``: they keep their keys, or those that an INSERT accepts.
    """
    if not run.keys.numbers(plan.mapper, plan.table):
        return None
    batches = division.batches
    if run.keys.is_always_identity(plan.mapper, plan.table):
        # The database numbers what INSERT writes, after all that was reserved: the keys of the
        # others would not be in the order of the records.
        by_insert = division.by_insert()
        copied = (batch.positions[-1] for batch in batches if batch.copy_reason is None)
        if by_insert and (
            run.cycle is not None or min(by_insert) < max(copied, default=len(records))
        ):
            return next(iter(by_insert.values()))
        return None
    refused = [batch.copy_reason for batch in batches if batch.copy_reason is not None]
    few = [records[position] for position in division.elsewhere.get(why.FEW_OF_THEIR_KIND, ())]
    casts = any(batch.casts for batch in batches) or _are_cast(plan, few)
    casts = casts or (bool(refused) and encodes_keys_apart(records[0][3], plan))
    parts = len(batches) + len(division.elsewhere)
    is_whole = refused and len(refused) == parts and run.settings.reserve != "always"
    if not casts and not is_whole:
        return None
    return refused[0] if refused else why.SEVERAL_TYPES


def _parts_in_order(
    plan: InsertPlan, division: Division
) -> list[tuple[Batch | Reason, Sequence[int]]]:
    """The parts of a division in the order in which they are written, each with the positions of
    its records: batches, and the reasons why other records are not in a batch.
    """
    parts: list[Batch | Reason] = [*division.batches, *division.elsewhere]
    positions: list[Sequence[int]] = [batch.positions for batch in division.batches]
    positions += [sorted(found) for found in division.elsewhere.values()]
    if plan.keeps_order and len(parts) > 1:
        return [(parts[number], run) for number, run in runs_in_order(positions)]
    return sorted(zip(parts, positions, strict=True), key=lambda part: part[1][0])


def _insert_in_order(
    base_mapper: Mapper[Any],
    plan: InsertPlan,
    records: Sequence[Record],
    division: Division,
    uow: Any,
    reason: Reason,
) -> None:
    """Insert records that the database numbers, in their order; those of a cycle one generation
    after the other, because its new keys are copied to its children before they are written.
    """
    run: FlushRun = uow.seqreserve
    for batch in division.batches:
        # They are asked for no default again.
        made = [records[at] for at in batch.positions]
        run.keys.note_defaults(batch.defaults, [record[0] for record in made])
        keep_defaults(plan, batch, made, uow)
    for _, generation in groupby(records, lambda record: run.keys.generation(record[0])):
        _insert(base_mapper, plan.mapper, plan.table, list(generation), uow, "orm", reason)
        run.copy_keys_again()


def _are_cast(plan: InsertPlan, records: Sequence[Record]) -> bool:
    """Whether an INSERT with known keys may cast the values differently from an INSERT that lets
    the table number the rows.
    """
    if len(records) > 1 and encodes_keys_apart(records[0][3], plan):
        return True
    return cast_reason(plan, [record[1] for record in records]) is not None


def _insert(
    base_mapper: Mapper[Any],
    mapper: Mapper[Any],
    table: Table,
    records: list[Record],
    uow: Any,
    writer: Writer,
    reason: Reason,
) -> None:
    """Queue SQLAlchemy's own INSERT, with the keys that are reserved."""
    run: FlushRun = uow.seqreserve
    if run.keys.numbers(mapper, table):
        run.keys.release(records, needed=True)
    for some in _in_parts(run, records):
        run.queue(records[0][3], uow).add(
            base_mapper,
            mapper,
            table,
            some,
            partial(_written, run, table, some, writer, reason),
        )


def _in_parts(run: FlushRun, records: list[Record]) -> Iterable[list[Record]]:
    """Divide records into the parts that one INSERT each may write: those of a cycle by generation
    if the driver cannot send several statements in one message, because the refused row is not
    known then.
    """
    driver = driver_on(records[0][3])
    if run.cycle is None or (driver is not None and driver.sends_several):
        return (records,)
    parts = groupby(records, lambda record: run.keys.generation(record[0]))
    return [list(part) for _, part in parts]


def _insert_batch(
    base_mapper: Mapper[Any],
    plan: InsertPlan,
    batch: Batch,
    records: list[Record],
    uow: Any,
    reason: Reason,
) -> None:
    """Write a batch that COPY refuses, with the values that were made for the COPY: no default is
    called and no type processes a value a second time.
    """
    run: FlushRun = uow.seqreserve
    table = plan.table
    if run.keys.numbers(plan.mapper, table):
        run.keys.release(records, needed=True)
    left_out = {
        position
        for position, column in enumerate(batch.plans)
        if column.column.primary_key
        and column.attribute is not None
        and column.attribute not in batch.defaults
        and records[0][1].get(column.attribute) is None
    }
    names = [str(column.column.key) for column in batch.plans]
    made = {
        name: (column.processor, given, values)
        for name, column, given, values in zip(
            names, batch.plans, batch.given, batch.values, strict=True
        )
        if column.processor is not None
    }
    parameters = [
        {
            name: value
            for position, (name, value) in enumerate(zip(names, values, strict=True))
            if position not in left_out
        }
        for values in zip(*batch.given, strict=True)
    ]

    def written(seconds: float) -> None:
        keep_defaults(plan, batch, records, uow)
        _written(run, table, records, "orm", reason, seconds)

    run.queue(records[0][3], uow).add_made(
        base_mapper, plan.mapper, table, records, parameters, MadeValues(made), written
    )


def _copy(plan: InsertPlan, batch: Batch, records: list[Record], uow: Any) -> Reason | None:
    """Write a batch by COPY and leave its objects as SQLAlchemy's ``_postfetch`` would, or return
    why INSERT must write it after all.
    """
    run: FlushRun = uow.seqreserve
    chosen = [records[position] for position in batch.positions]
    connection = chosen[0][3]
    run.drain()
    started = time.perf_counter()
    try:
        with shard_by_shard(connection, distributed=plan.facts.distributed):
            try:
                copy_batch(connection, plan, batch)
            except DBAPIError as error:
                run.note_refusal(error, plan.table, [record[0] for record in chosen])
                raise
            leave_copied(plan, batch, chosen, connection, uow)
    except RefusedByCitusError:
        return why.REFUSED_BY_CITUS
    _written(run, plan.table, chosen, "copy", None, time.perf_counter() - started)
    return None


def _written(
    run: FlushRun,
    table: Table,
    records: list[Record],
    writer: Writer,
    reason: Reason | None,
    seconds: float,
) -> None:
    states = [record[0] for record in records]
    mapper = records[0][2]
    if table in {column.table for column in mapper.primary_key}:
        run.numbered(states)
    if table is mapper.local_table:
        run.inserted(states, writer, reason, seconds)
