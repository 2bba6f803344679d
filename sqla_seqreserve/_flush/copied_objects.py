"""Leaves the objects of a COPY as SQLAlchemy's ``_postfetch`` leaves those of an INSERT: with the
defaults that were made for them, and with what the server filled in, read back or expired.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from .._rows.batches import Batch
from .._rows.plan import InsertPlan
from .._sqlalchemy.mapping import returns_every_column
from .._sqlalchemy.persistence import synchronize_inherited_keys
from .._sqlalchemy.session import expire_attributes
from .._writers.readback import read_back
from .reserved_keys import Record


def leave_copied(
    plan: InsertPlan, batch: Batch, records: list[Record], connection: Connection, uow: Any
) -> None:
    """Leave the objects of a batch that COPY wrote."""
    mapper = plan.mapper
    loaded: list[str] = []
    # The keys among them are what rows are read back by.
    _set_defaults(batch, records)
    # A value that was given is not read back, whatever a trigger made of it: so does RETURNING.
    columns = [column for column in batch.omitted if column in plan.server_columns]
    columns = columns if plan.reads_back else []
    if columns and returns_every_column(mapper, plan.table):
        columns = [column for column in batch.omitted if column in plan.source.values()]
    # A partition attached meanwhile may have a trigger that no lock of ours kept away.
    if columns or plan.facts.kind == "p":
        loaded += read_back(connection, mapper, plan.table, columns, records)
    _refreshed(plan, batch, records, loaded, uow)
    expired = [
        attribute
        for attribute, column in plan.source.items()
        if column in batch.omitted
        and column.server_default is not None
        and not (plan.reads_back and column in plan.server_columns)
    ]
    if expired:
        for state, _, _, _ in records:
            expire_attributes(state, expired)
    if plan.hands_on_keys:
        for state, _, _, _ in records:
            synchronize_inherited_keys(mapper, plan.table, state, uow)


def _set_defaults(batch: Batch, records: Sequence[Record]) -> None:
    """Give the objects the defaults that were made for them."""
    for attribute, filled in batch.defaults.items():
        nothing = filled.nothing
        for (state, row, _, _), value, given in zip(
            records, filled.values, filled.given, strict=True
        ):
            if given is nothing:
                row[attribute] = value
                state.committed_state.pop(attribute, None)


def keep_defaults(plan: InsertPlan, batch: Batch, records: list[Record], uow: Any) -> None:
    """Leave the objects with the defaults that were made for them, as ``_postfetch`` would."""
    _set_defaults(batch, records)
    if batch.defaults:
        _refreshed(plan, batch, records, (), uow)


def _refreshed(
    plan: InsertPlan, batch: Batch, records: Sequence[Record], loaded: Sequence[str], uow: Any
) -> None:
    """Call the listeners to ``refresh_flush`` for each object that got a value.

    :param loaded: the attributes that were read back for all of them.
    """
    refresh_flush = plan.mapper.class_manager.dispatch.refresh_flush
    if refresh_flush:
        for position, (state, _, _, _) in enumerate(records):
            defaults = [a for a, filled in batch.defaults.items() if filled.is_default(position)]
            if loaded or defaults:
                refresh_flush(state, uow, [*loaded, *defaults])
