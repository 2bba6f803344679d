"""SQLAlchemy's own statements, one per row, with its values as parameters: used where a listener
may see, change or refuse them.

The rows are staged nevertheless: duplicates must be refused before anything is written, and rows
for which no statement wrote anything are looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final

from sqlalchemy import Boolean, Connection, Delete, bindparam, literal_column, select
from sqlalchemy import Update as CoreUpdate
from sqlalchemy.dialects.postgresql import insert

from .._ids.table_names import stored_name
from .._reasons import Reason
from .._rows.division import is_plain
from .._sqlalchemy.engine import autocommits
from ..errors import ConfigurationError
from .given_rows import Given
from .on_conflict import Outcome, Upserting
from .set_clause import Update
from .staged_rows import NUMBER

_NEW: Final = "sqla_seqreserve_new"
_KEY: Final = "sqla_seqreserve_key_{}"
_VALUE: Final = "sqla_seqreserve_value_{}"


class OneByOne(Upserting):
    """The statements of one upsert.

    :param records: the rows, column name -> value, with the defaults that were made for them.
    """

    def __init__(
        self, given: Given, update: Update, records: Sequence[Mapping[str, Any]], reason: Reason
    ) -> None:
        super().__init__(given, None, update)
        self._columns = [item.column for item in given.source.plan.columns]
        self._records = records
        for column in self._columns:
            if self.plan.facts.columns[stored_name(column.name)].always_identity:
                raise ConfigurationError(
                    f"{column.name} of {self.plan.facts.name} is GENERATED ALWAYS, and the rows "
                    f"give it; so they cannot go as INSERTs of SQLAlchemy's, as they must: {reason}"
                )

    @property
    def _checks_first(self) -> bool:
        return True

    def _write(
        self,
        *,
        wants_keys: bool,  # noqa: ARG002  # each row returns its key anyway
        wants_changed: bool,  # noqa: ARG002
    ) -> tuple[Outcome, dict[int, tuple[Any, ...]]]:
        outcome, aligned = Outcome(0, 0), dict[int, tuple[Any, ...]]()
        statement = self._statement()
        known = self.given.found() if self._is_partitioned else {}
        apart = autocommits(self.connection)
        # If one row is refused, no row stays written.
        with nullcontext() if apart else self.connection.begin_nested():
            for number in self._in_order():
                record = self._records[number]
                values = {item.key: record[item.name] for item in self._columns}
                expressions = {k: v for k, v in values.items() if not is_plain(v)}
                plain = {k: v for k, v in values.items() if k not in expressions}
                one = statement.values(expressions) if expressions else statement
                row = self.connection.execute(one, plain).one_or_none()
                if row is None:
                    continue
                *key, new = (*row, number not in known) if self._is_partitioned else row
                aligned[number] = tuple(key)
                if new:
                    outcome.inserted += 1
                else:
                    outcome.updated += 1
                    outcome.changed.append(tuple(key))
        return outcome, aligned

    def _in_order(self) -> Sequence[int]:
        """Return the numbers of the rows to send in the order of the arbiter, the order in which
        all upserts lock rows.
        """
        given, differs = self.given, self.update.differs
        rows = given.rows
        statement = select(rows.c[NUMBER]).order_by(*(rows.c[name] for name in given.names))
        if differs is not None:
            found = rows.outerjoin(given.existing, given.is_same())
            statement = statement.select_from(found).where(given.are_sent(differs))
        return self.connection.execute(statement).scalars().all()

    def _statement(self) -> Any:
        statement = self._on_conflict(insert(self.target))
        if self._is_partitioned:
            return statement.returning(*self.keys)
        return statement.returning(*self.keys, literal_column("(xmax = 0)", Boolean).label(_NEW))


def execute_singly(
    connection: Connection,
    statement: CoreUpdate | Delete,
    keys: Sequence[Any],
    rows: Sequence[tuple[Any, ...]],
    values: Sequence[Mapping[Any, Any]] = (),
) -> int:
    """Execute the statement for each row; return the number of affected rows, as far as the driver
    reports it.

    :param keys: the columns of the key.
    :param rows: the key of each row.
    :param values: for an UPDATE: column -> value, the same columns in each row.
    """
    if not rows:
        return 0
    for index, key in enumerate(keys):
        statement = statement.where(key == bindparam(_KEY.format(index), type_=key.type))
    names = {}
    if values:
        names = {column: _VALUE.format(index) for index, column in enumerate(values[0])}
    parameters = [
        {
            **{_KEY.format(index): value for index, value in enumerate(key)},
            **{names[column]: value for column, value in found.items()},
        }
        for key, found in zip(rows, values or [{}] * len(rows), strict=True)
    ]
    count, plain = 0, list[dict[str, Any]]()
    for each in parameters:
        expressions = {name: value for name, value in each.items() if not is_plain(value)}
        if not expressions:
            plain.append(each)
            continue
        assert isinstance(statement, CoreUpdate)
        one = _setting(statement, names, expressions)
        rest = {name: value for name, value in each.items() if name not in expressions}
        count += _counted(connection.execute(one, rest).rowcount, 1)
    if plain:
        if isinstance(statement, CoreUpdate):
            statement = _setting(statement, names, {})
        count += _counted(connection.execute(statement, plain).rowcount, len(plain))
    return count


def _setting(
    statement: CoreUpdate, names: Mapping[Any, str], expressions: Mapping[str, Any]
) -> CoreUpdate:
    return statement.values(
        {
            column: expressions.get(name, bindparam(name, type_=column.type))
            for column, name in names.items()
        }
    )


def _counted(rowcount: int, rows: int) -> int:
    """Return the driver's row count; asyncpg has none for several rows."""
    return rowcount if rowcount >= 0 else rows
