"""The result of one chunk of a ``bulk_insert``: its rows' keys, and the values of their objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Mapper

from .._rows.batches import Batch
from .._rows.division import is_plain, values_of
from .._rows.plan import Absent, InsertPlan
from .._sqlalchemy.mapping import key_columns, polymorphic_attribute
from .class_tables import ClassTables
from .input import Chunk


class Written:
    """How the rows of a chunk were written.

    ``batches``: the batches that COPY wrote. ``inserted``: position of a row that INSERT wrote ->
    its key, ``None`` where no row was stored.

    :param added: attribute -> the values that were added to the rows, one per row.
    """

    def __init__(
        self, class_tables: ClassTables, rows: Chunk, added: Mapping[str, Sequence[Any]]
    ) -> None:
        self._class_tables = class_tables
        self._rows = rows
        self._added = added
        self.batches: list[tuple[InsertPlan, Batch]] = []
        self.inserted: dict[int, dict[str, Any] | None] = {}

    @property
    def stored(self) -> int:
        """How many rows the database stored."""
        return len(self._rows) - sum(key is None for key in self.inserted.values())

    def keys(self) -> Sequence[Any]:
        """Return the key of each row."""
        columns = [self._key_values(attribute) for attribute in self._class_tables.attributes]
        return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))

    def _key_values(self, attribute: str) -> Sequence[Any]:
        """Return the values of one key attribute, one per row."""
        values: Sequence[Any]
        if attribute in self._added:
            values = self._added[attribute]
        else:
            values = values_of(self._rows, attribute)
        changes: dict[int, Any] = {}
        for _, batch in self.batches:
            filled = batch.defaults.get(attribute)
            if filled is not None:
                changes.update(zip(batch.positions, filled.values, strict=True))
        for position, key in self.inserted.items():
            if key is not None:
                changes[position] = key[attribute]
        if not changes:
            return values
        return [changes.get(position, value) for position, value in enumerate(values)]

    def batch_keys(self, plan: InsertPlan, batch: Batch) -> list[Sequence[Any]]:
        """Return the key of each row of a batch, column by column."""
        mapper = plan.mapper
        keys = [mapper.get_property_by_column(c) for c in key_columns(mapper, plan.table)]
        found = []
        for key in keys:
            if key.key in batch.defaults:
                found.append(batch.defaults[key.key].values)
            else:
                given = self._added.get(key.key) or values_of(self._rows, key.key)
                found.append([given[position] for position in batch.positions])
        return found

    def held(self) -> list[dict[str, Any]]:
        """Return the attribute values that each row's object gets, as they were written."""
        nulls = {
            column.attribute: None
            for plan in self._class_tables.plans.values()
            if plan is not None
            for column in plan.columns
            if column.attribute is not None and column.absent is Absent.NULL
        }
        held: list[dict[str, Any]] = [{**nulls, **row} for row in self._rows]
        for attribute, values in self._added.items():
            for row, value in zip(held, values, strict=True):
                row[attribute] = value
        for plan, batch in self.batches:
            for attribute, filled in batch.defaults.items():
                for position, value in zip(batch.positions, filled.values, strict=True):
                    held[position][attribute] = value
            for attribute, column in plan.source.items():
                if column in batch.omitted:
                    for position in batch.positions:
                        held[position].pop(attribute, None)
        uncertain = any(
            plan is None or plan.facts.before_insert_triggers or plan.facts.insert_rules
            for plan in self._class_tables.plans.values()
        )
        for position, key in self.inserted.items():
            # The value that SQLAlchemy wrote may be an expression, a default that only SQLAlchemy
            # knows (also where a row gives None), or the result of a trigger.
            given: Mapping[str, Any] = {} if uncertain else self._rows[position]
            held[position] = {
                **{
                    name: value
                    for name, value in given.items()
                    if value is not None and is_plain(value)
                },
                **_polymorphic(self._added, self._class_tables.mapper, position),
                **(key or {}),
            }
        return held


def _polymorphic(
    added: Mapping[str, Sequence[Any]], mapper: Mapper[Any], position: int
) -> dict[str, Any]:
    attribute = polymorphic_attribute(mapper)
    return {} if attribute is None else {attribute: added[attribute][position]}
