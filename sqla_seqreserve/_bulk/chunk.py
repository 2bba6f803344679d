"""Writes one chunk of a ``bulk_insert``: gives its rows keys, then sends them by COPY or INSERT."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from sqlalchemy import Table

from .. import _reasons as why
from .._flush.report import ReportBuilder
from .._flush.routing import fewest_of
from .._ids.keys import generated_key
from .._reasons import Reason
from .._rows.batches import Batch, Division
from .._rows.division import divide, values_of
from .._rows.plan import InsertPlan
from .._rows.refusals import cast_reason, note_refusal, refusal_of
from .._rows.suspects import suspect_rows_noted
from .._rows.table import ColumnRows
from .._sqlalchemy.listeners import interference_on
from .._sqlalchemy.mapping import inherits_key, key_columns, plain_callable, polymorphic_attribute
from .._writers.copy import copy_batch, encodes_keys_apart, no_copy_reason, refused_types
from .._writers.readback import require_stored
from .._writers.refused_row import refused_row_noted
from .._writers.row_inserts import RowInserts
from .._writers.shards import RefusedByCitusError, shard_by_shard
from ..reports import Writer
from .chunk_result import Written
from .class_tables import ClassTables
from .input import Chunk


class ChunkInsert:
    """One chunk: its rows, the values added to them, and how they are divided into batches.

    :param used: the attributes that at least one row gives.
    :param values: attribute -> its values, for the attributes that were checked.
    :param wants_keys: whether the caller wants the key of each row.
    """

    def __init__(
        self,
        class_tables: ClassTables,
        rows: Chunk,
        start: int,
        used: set[str],
        values: Mapping[str, Sequence[Any]],
        report: ReportBuilder,
        *,
        wants_keys: bool,
    ) -> None:
        self.class_tables = class_tables
        self.report = report
        self.wants_keys = wants_keys
        self.rows = rows
        self.start = start
        self.used = used
        self.values = values
        self.added: dict[str, Sequence[Any]] = {}
        self.divided: list[tuple[InsertPlan, Division]] = []
        self.reserved: Sequence[int] = ()
        """The positions of the rows that got a reserved value for at least one key column."""
        self.always: dict[str, frozenset[int]] = {}
        """Attribute of a ``GENERATED ALWAYS`` column -> the positions of the rows that got a
        reserved value for it.
        """
        self.done = Written(class_tables, rows, self.added)
        self.numbered: dict[str, Sequence[int]] = {}
        """Attribute of the key -> the positions of the rows for which a value was reserved."""
        self.pinned = False
        self.refusal: Reason | None = None
        """Why COPY will not write the rows. If it is set, no key is reserved: the INSERT numbers
        the rows.
        """

    def number(self) -> None:
        """Add what the rows must have: the polymorphic identity, and a key for each row without
        one. All keys are reserved in one message.
        """
        class_tables, mapper, rows = self.class_tables, self.class_tables.mapper, self.rows
        polymorphic = polymorphic_attribute(mapper)
        if polymorphic is not None:
            identity = mapper.polymorphic_identity
            given = values_of(rows, polymorphic)
            self.added[polymorphic] = [identity if value is None else value for value in given]
        self._call_key_defaults()
        missing: dict[str, Sequence[int]] = {}
        keys: dict[str, list[Any]] = {}
        for key in generated_key(mapper).parts:
            missing[key.attribute] = range(len(rows))
            if key.attribute in self.used:
                found = keys[key.attribute] = values_of(rows, key.attribute)
                missing[key.attribute] = [i for i, value in enumerate(found) if value is None]
        if class_tables.reserves and any(missing.values()):
            plans = filter(None, class_tables.plans.values())
            reasons = (refusal_of(plan, len(rows), self._rows_at) for plan in plans)
            self.refusal = next(filter(None, reasons), None)
        counts = {attribute: len(where) for attribute, where in missing.items()}
        taken = class_tables.pin(dict.fromkeys(counts, 0) if self.refusal else counts)
        self.pinned = taken is not None
        if taken is None or not class_tables.reserves or self.refusal is not None:
            return
        for part in class_tables.source.parts:
            attribute = part.key.attribute
            positions, values = missing[attribute], taken[attribute]
            self.numbered[attribute] = positions
            if len(positions) < len(rows):
                ids, values = values, keys[attribute]
                for position, value in zip(positions, ids, strict=True):
                    values[position] = value
            names = self._add_key(part.key.column, values)
            if part.always_identity:
                self.always |= dict.fromkeys(names, frozenset(positions))
            if len(self.reserved) < len(rows):
                both = self.reserved and sorted({*self.reserved, *positions})
                self.reserved = both or positions

    def _rows_at(self, some: slice) -> Sequence[Mapping[str, Any]]:
        """Return some of the rows, with the values added to them."""
        given = {**self.values, **self.added}
        rows: Any = self.rows[some]
        added = {name: values[some] for name, values in given.items()}
        if isinstance(rows, ColumnRows):
            return ColumnRows({**rows.columns, **added}, len(rows))
        if not added:
            return rows  # type: ignore[no-any-return]  # a list of mappings
        return [
            {**row, **dict(zip(added, values, strict=True))}
            for row, values in zip(rows, zip(*added.values(), strict=True), strict=True)
        ]

    def _add_key(self, source: Any, values: Sequence[Any]) -> list[str]:
        """Set these values for a key column and for the columns that inherit from it; return the
        attributes that hold them.
        """
        mapper = self.class_tables.mapper
        names = [
            mapper.get_property_by_column(column).key
            for table in self.class_tables.tables
            for column in key_columns(mapper, table)
            if column is source or inherits_key(mapper, column, source)
        ]
        self.added.update(dict.fromkeys(names, values))
        return names

    def _call_key_defaults(self) -> None:
        """Call the default of a key once for each row without a key, where several tables share the
        key and each must get the same value.
        """
        mapper = self.class_tables.mapper
        if len(self.class_tables.tables) == 1:
            return
        for column in key_columns(mapper, self.class_tables.tables[0]):
            call = plain_callable(getattr(column, "default", None))
            if call is not None:
                given = values_of(self.rows, mapper.get_property_by_column(column).key)
                self._add_key(column, [call() if value is None else value for value in given])

    def write(self) -> Written:
        """Write the rows, table by table; by COPY what it writes exactly."""
        plans = [plan for plan in self.class_tables.plans.values() if plan is not None]
        columns = [column for plan in plans for column in plan.columns]
        with suspect_rows_noted(columns, self.rows, self.start):
            return self._write()

    def _write(self) -> Written:
        reason = self._no_copy_reason()
        refused: dict[int, Reason] = {}
        if reason is None:
            self.divided = self._divide()
            for _, division in self.divided:
                refused |= division.by_insert()
            reason = self._reason_to_number(refused)
        if reason is None:
            reason = self._copy_exact(refused)
        if reason is not None:
            self._insert(range(len(self.rows)), reason)
        return self.done

    def _no_copy_reason(self) -> Reason | None:
        """Why COPY can write none of the rows, if that is known before their values are checked."""
        connection = self.class_tables.connection
        reason = no_copy_reason(connection) or interference_on(connection) or self.refusal
        if reason is None and not self.pinned:
            reason = why.NOT_COMPARABLE
        for plan in self.class_tables.plans.values():
            if plan is not None and reason is None:
                reason = plan.reason or plan.cast_reason or refused_types(connection, plan)
            if plan is not None and reason is None and plan.facts.distributed:
                few = len(self.rows) < fewest_of(plan.facts)
                reason = why.FEW_FOR_SHARDS if few else None
        return reason

    def _divide(self) -> list[tuple[InsertPlan, Division]]:
        """For each table, which rows COPY writes exactly."""
        class_tables, given = self.class_tables, {**self.values, **self.added}
        divisions = []
        for table in class_tables.tables:
            plan = class_tables.plans[table]
            assert plan is not None
            reserved: Mapping[str, Container[int]] = {}
            if plan.context_default is not None and table is class_tables.source.key.table:
                reserved = {name: frozenset(found) for name, found in self.numbered.items()}
            division = divide(
                plan, self.rows, class_tables.connection, given, used=self.used, reserved=reserved
            )
            divisions.append((plan, division))
        return divisions

    def _reason_to_number(self, refused: Mapping[int, Reason]) -> Reason | None:
        """Why INSERT must write all of the rows. The cast of a value may depend on other values,
        one row goes the same way through all of its tables, and ordered rows keep their order.

        :param refused: the rows that COPY would not write exactly.
        """
        plans = [plan for plan, _ in self.divided]
        fewest = min(map(len, self.always.values()), default=0)
        if fewest < len(self.rows) and any(map(self._is_always, plans)):
            # COPY takes a key of the user's own, which PostgreSQL refuses in an INSERT.
            return why.KEYS_OF_THE_USER
        batches = [batch for _, division in self.divided for batch in division.batches]
        cast = next((batch.copy_reason for batch in batches if batch.copy_reason is not None), None)
        is_whole = cast is not None
        if refused and not is_whole:
            is_whole = len(plans) > 1 or any(
                plan.keeps_order or encodes_keys_apart(self.class_tables.connection, plan)
                for plan in plans
            )
        if not is_whole:
            return None
        for plan in plans:
            note_refusal(plan)
        return cast or next(iter(refused.values()))

    def _copy_exact(self, refused: Mapping[int, Reason]) -> Reason | None:
        """Write the rows by COPY, and by INSERT those that COPY would not write exactly. Return why
        the server refused the COPY, if it did.
        """
        batches = [(plan, batch) for plan, division in self.divided for batch in division.batches]
        connection = self.class_tables.connection
        with ExitStack() as undone:
            if refused and batches:
                # An INSERT may fail on the client, before the server receives it, when COPY has
                # already written the other rows.
                undone.enter_context(connection.begin_nested())
            distributed = any(plan.facts.distributed for plan, _ in batches)
            try:
                with shard_by_shard(connection, distributed=distributed):
                    self._copy(batches, len(self.rows) - len(refused))
            except RefusedByCitusError:
                self.done.batches.clear()
                return why.REFUSED_BY_CITUS
            if refused:
                self._insert(sorted(refused), next(iter(refused.values())))
        return None

    def _is_always(self, plan: InsertPlan) -> bool:
        """Whether the table has a ``GENERATED ALWAYS`` key column."""
        keys = key_columns(plan.mapper, plan.table)
        return any(
            facts is not None and facts.always_identity
            for facts in (plan.facts.columns.get(str(key.name)) for key in keys)
        )

    def _copy(self, batches: Sequence[tuple[InsertPlan, Batch]], rows: int) -> None:
        class_tables = self.class_tables
        started = time.perf_counter()
        for plan, batch in batches:
            progress = None
            if class_tables.progress is not None and plan.table is class_tables.tables[-1]:
                progress = class_tables.progress.in_copy
            name = plan.table.name
            with refused_row_noted(name, name, batch.positions, self.start):
                copy_batch(class_tables.connection, plan, batch, progress)
            if plan.facts.kind == "p":
                # A partition that was attached meanwhile may have a trigger that our lock did not
                # prevent.
                keys = self.done.batch_keys(plan, batch)
                require_stored(class_tables.connection, plan.mapper, plan.table, keys)
            self.done.batches.append((plan, batch))
        if rows:
            refused = len(self.rows) - rows
            reserved = len(self.reserved)
            if refused and reserved:
                reserved = len(
                    set(self.reserved).intersection(
                        position
                        for plan, batch in batches
                        if plan.table is class_tables.tables[-1]
                        for position in batch.positions
                    )
                )
            self._note("copy", None, rows, reserved, started)

    def _insert(self, positions: Iterable[int], reason: Reason) -> None:
        """Write rows by INSERT that COPY does not accept. If they are part of the chunk, they keep
        their reserved keys. If they are the whole chunk, the server numbers them, because an INSERT
        with known keys may cast the values differently.
        """
        class_tables = self.class_tables
        started = time.perf_counter()
        chosen = list(positions)
        added = dict(self.added)
        reserved = set(self.reserved)
        # An INSERT cannot give GENERATED ALWAYS a reserved key; the server numbers the row itself.
        hidden = dict(self.always)
        if reserved and len(chosen) == len(self.rows):
            hidden = dict.fromkeys(
                (n for n in class_tables.attributes if n in added), frozenset(reserved)
            )
        rows = []
        for index in chosen:
            row = {**self.rows[index], **{key: values[index] for key, values in added.items()}}
            for name, numbered in hidden.items():
                if index in numbered:
                    row.pop(name)
            rows.append(row)
        plans = [plan for plan in class_tables.plans.values() if plan is not None]
        inserts = RowInserts(
            class_tables.connection,
            class_tables.mapper,
            class_tables.tables,
            frozenset(
                plan.table
                for plan in plans
                if plan.facts.before_insert_triggers
                or plan.facts.insert_rules
                or plan.facts.kind not in {"r", "p"}
            ),
            any(plan.keeps_order for plan in plans),
            self._made(chosen),
            any(cast_reason(plan, rows) is not None for plan in plans),
        )
        keys = inserts.write(rows, wants_keys=self.wants_keys, start=self.start)
        self.done.inserted = dict(zip(chosen, keys, strict=True))
        stored = sum(key is not None for key in keys)
        kept = 0 if hidden else len(reserved.intersection(chosen))
        self._note("insert", reason, stored, kept, started)
        if class_tables.progress is not None:
            class_tables.progress.sent(len(rows))

    def _note(
        self, writer: Writer, reason: Reason | None, rows: int, reserved: int, started: float
    ) -> None:
        """Count rows as written."""
        model, seconds = self.class_tables.mapper.class_, time.perf_counter() - started
        self.report.count("insert", model, rows, reserved, writer, reason, seconds)

    def _made(self, chosen: Sequence[int]) -> dict[Table, dict[int, tuple[Batch, int]]]:
        """Map each of these rows, by its place among them, to the batch and index that hold it."""
        places = {position: place for place, position in enumerate(chosen)}
        return {
            plan.table: {
                places[position]: (batch, index)
                for batch in division.batches
                for index, position in enumerate(batch.positions)
                if position in places
            }
            for plan, division in self.divided
        }
