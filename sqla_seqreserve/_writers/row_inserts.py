"""Writes rows that are not objects with INSERTs, and returns the keys that the server stored.

SQLAlchemy's own ``_collect_insert_commands`` decides how a row's values are written; rows of a kind
go in one statement, as SQLAlchemy batches them. If triggers may change or discard rows, and the
keys are needed, each row has its own INSERT: only then is it certain which row a key belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, CursorResult, Insert, Table, insert
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.exc import FlushError

from .._rows.batches import Batch
from .._sqlalchemy.made_values import MadeValues, compiled_cache
from .._sqlalchemy.mapping import declares_value, inherits_key, key_columns
from .._sqlalchemy.persistence import IN_ORDER, collect_insert_commands

_PAGE: Final = 10_000

_NOTHING: Final = object()
"""A value that no row has."""


@dataclass(slots=True, eq=False)
class RowInserts:
    """INSERTs of rows of one class.

    :param tables: the class's tables, parents first.
    :param uncertain: tables whose triggers or rules may change or discard a row.
    :param keeps_order: whether rows must be written in their order.
    :param made: for each table, by the position of a row: the batch that was made for COPY from the
        row, and its index there. No default is called and no type processes a value again for it.
    :param casts: whether a value may be cast differently depending on the other rows of its
        statement. Each statement then holds the same rows as in SQLAlchemy's bulk INSERT:
        consecutive rows that lack the same values.
    """

    connection: Connection
    mapper: Mapper[Any]
    tables: Sequence[Table]
    uncertain: frozenset[Table] = frozenset()
    keeps_order: bool = False
    made: Mapping[Table, Mapping[int, tuple[Batch, int]]] = field(default_factory=dict)
    casts: bool = False
    _keys: dict[Table, Sequence[Any]] = field(init=False)

    def __post_init__(self) -> None:
        self._keys = {table: key_columns(self.mapper, table) for table in self.tables}

    def write(
        self, rows: Sequence[Mapping[str, Any]], *, wants_keys: bool, start: int = 0
    ) -> list[dict[str, Any] | None]:
        """Insert the rows, attribute key -> value. Return for each row its key, attribute key ->
        value as the server stored it, or ``None`` if no row was stored.

        :param wants_keys: whether the keys will be used, so that a row without a key is an error.
        :param start: the number to add to a row's position in an error message.
        :raises sqlalchemy.orm.exc.FlushError: a row that had to come back did not.
        """
        held: list[dict[str, Any] | None] = [dict(row) for row in rows]
        for table in self.tables:
            self._write_table(table, held, wants_keys, start)
        attributes = self._attributes
        return [
            None if row is None else {attribute: row.get(attribute) for attribute in attributes}
            for row in held
        ]

    @property
    def _attributes(self) -> list[str]:
        found = self.mapper.get_property_by_column
        return [found(column).key for column in self.mapper.primary_key]

    def _write_table(
        self, table: Table, held: list[dict[str, Any] | None], wants_keys: bool, start: int
    ) -> None:
        positions = [position for position, row in enumerate(held) if row is not None]
        commands = self._commands(table, held, positions)
        if not (self.keeps_order or self.casts):
            commands.sort(key=lambda command: (sorted(command[1][2]), bool(command[1][5])))
        for (_, expressions, *_), group in groupby(commands, key=self._kind):
            alike = list(group)
            given = {column for column in self._keys[table] if column.key in alike[0][1][2]}
            known = len(given) == len(self._keys[table])
            clear = all(column in given or declares_value(column) for column in self._keys[table])
            needed = wants_keys or len(self.tables) > 1
            if expressions or (needed and (table in self.uncertain or not clear)):
                self._one_by_one(table, alike, held, wants_keys, start)
            elif known and table not in self.uncertain:
                for page in _pages(alike):
                    parameters = [command[2] for _, command in page]
                    self._execute(table, insert(table), parameters, [at for at, _ in page])
            else:
                for page in _pages(alike):
                    sorts = clear and table not in self.uncertain
                    self._together(table, page, held, is_sorted=sorts)
        self._hand_on(table, held)

    def _commands(
        self, table: Table, held: list[dict[str, Any] | None], positions: Sequence[int]
    ) -> list[tuple[int, Any]]:
        """SQLAlchemy's insert commands for the rows at these positions, each with its position;
        defaults that were made already are filled in.
        """
        made = self.made.get(table, {})
        unmapped: list[tuple[int, Any, Any]] = []
        for at, position in enumerate(positions):
            if position not in made:
                continue
            batch, index = made[position]
            row = held[position]
            assert row is not None
            for plan, values in zip(batch.plans, batch.given, strict=True):
                if plan.attribute is None:
                    unmapped.append((at, plan.column.key, values[index]))
                elif plan.attribute in batch.defaults:
                    row[plan.attribute] = values[index]
        records = [(None, held[position], self.mapper, self.connection) for position in positions]
        commands = list(collect_insert_commands(table, records))
        for at, key, value in unmapped:
            commands[at][2].setdefault(key, value)
        return list(zip(positions, commands, strict=True))

    def _execute(
        self, table: Table, statement: Insert, parameters: Any, positions: Sequence[int]
    ) -> CursorResult[Any]:
        made = self.made.get(table)
        options = {}
        if made and not made.keys().isdisjoint(positions):
            values = _made_values([made.get(position) for position in positions])
            options["compiled_cache"] = compiled_cache(self.connection, values)
        return self.connection.execute(statement, parameters, execution_options=options)

    def _kind(self, command: tuple[int, Any]) -> tuple[Any, ...]:
        """What rows of one statement have in common: the given columns, those that are SQL
        expressions, and the missing values if they matter.
        """
        _, (_, _, parameters, _, _, expressions, *_) = command
        lacking = frozenset(key for key, value in parameters.items() if value is None)
        return (
            frozenset(parameters),
            bool(expressions),
            frozenset(expressions),
            lacking if self.casts else None,
        )

    def _together(
        self,
        table: Table,
        page: Sequence[tuple[int, Any]],
        held: list[dict[str, Any] | None],
        *,
        is_sorted: bool,
    ) -> None:
        """Insert rows of a kind in one statement. If it is not sorted, only the number of the
        returned keys is reliable.
        """
        columns = self._keys[table]
        statement = insert(table).returning(*columns, **(IN_ORDER if is_sorted else {}))
        parameters = [command[2] for _, command in page]
        found = self._execute(table, statement, parameters, [at for at, _ in page]).all()
        if is_sorted and len(found) != len(page):
            raise FlushError(
                f"INSERT for {self.mapper} sent {len(page)} rows, of which {table.name} took "
                f"{len(found)}. Ensure there are no triggers or rules that discard rows"
            )
        for (position, _), key in zip(page, found, strict=False):
            self._note(table, held[position], key)
        for position, _ in page[len(found) :]:
            held[position] = None

    def _one_by_one(
        self,
        table: Table,
        commands: Sequence[tuple[int, Any]],
        held: list[dict[str, Any] | None],
        wants_keys: bool,
        start: int,
    ) -> None:
        plain = insert(table).returning(*self._keys[table])
        for position, (_, _, parameters, _, _, expressions, *_) in commands:
            statement = plain.values(expressions) if expressions else plain
            key = self._execute(table, statement, parameters, [position]).one_or_none()
            if key is not None:
                self._note(table, held[position], key)
                continue
            if wants_keys:
                raise FlushError(
                    f"Row {start + position}: INSERT for {self.mapper} stored no row in "
                    f"{table.name}. A trigger or rule discards it; leave the row out, or ask for "
                    "returning=None, which counts what is stored"
                )
            held[position] = None

    def _note(self, table: Table, row: dict[str, Any] | None, key: Sequence[Any]) -> None:
        assert row is not None
        for column, value in zip(self._keys[table], key, strict=True):
            row[self.mapper.get_property_by_column(column).key] = value

    def _hand_on(self, table: Table, held: list[dict[str, Any] | None]) -> None:
        """Copy keys to the attributes of the tables that inherit from this one."""
        for later in self.tables:
            for column in self._keys[later]:
                for source in self._keys[table]:
                    if later is not table and inherits_key(self.mapper, column, source):
                        target = self.mapper.get_property_by_column(column).key
                        origin = self.mapper.get_property_by_column(source).key
                        for row in held if target != origin else ():
                            if row is not None:
                                row[target] = row[origin]


def _made_values(rows: Sequence[tuple[Batch, int] | None]) -> MadeValues:
    """The values that bind processors have made of these rows; none for a row without a batch."""
    processors = {
        str(plan.column.key): plan.processor
        for batch in {id(found[0]): found[0] for found in rows if found is not None}.values()
        for plan in batch.plans
        if plan.processor is not None
    }
    columns: dict[str, tuple[Any, list[Any], list[Any]]] = {
        name: (processor, [_NOTHING] * len(rows), [None] * len(rows))
        for name, processor in processors.items()
    }
    for at, found in enumerate(rows):
        if found is not None:
            batch, index = found
            for plan, given, values in zip(batch.plans, batch.given, batch.values, strict=True):
                if plan.processor is not None:
                    _, before, after = columns[str(plan.column.key)]
                    before[at], after[at] = given[index], values[index]
    return MadeValues(columns)


def _pages(commands: Sequence[tuple[int, Any]]) -> Iterator[Sequence[tuple[int, Any]]]:
    for start in range(0, len(commands), _PAGE):
        yield commands[start : start + _PAGE]
