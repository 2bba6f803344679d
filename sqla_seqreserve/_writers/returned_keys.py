"""Takes the keys that an INSERT of many rows returns, so that COPY, which returns nothing, can
write the rows.

The keys are selected under the names that the INSERT's RETURNING gives them, with SQLAlchemy's own
cursor: it makes the result of the INSERT from the rows of this query. COPY then writes the rows
together with these keys, on another cursor.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Table, bindparam, text

from .._drivers import CopyRows, Driver
from .._drivers.queries import bound_query
from .._ids.catalogue import ColumnFacts, TableFacts
from .._ids.reservation_sql import escaped
from .._ids.table_names import stored_name
from .._sql_names import NAME, name_of
from .._sqlalchemy.adapted import adapted_rows

_ITEM: Final = rf"(?:{NAME}\.)+({NAME})(?: AS ({NAME}))?"
_ITEMS: Final = re.compile(rf"{_ITEM}(?:, {_ITEM})*")
_EACH: Final = re.compile(_ITEM)


@dataclass(frozen=True, slots=True)
class ReturnedKeys:
    """The column of a key, which an INSERT leaves to its sequence and returns.

    :param names: the names of the columns of the result, as SQL.
    """

    column: ColumnFacts
    names: Sequence[str]

    def take(
        self, connection: Connection, driver: Driver, cursor: Any, before: Sequence[str], rows: int
    ) -> list[Any]:
        """Take a key for each row, and return the keys; the rows of the query stay with ``cursor``.

        :param before: statements that precede the query.
        """
        if not connection.dialect.is_async:
            driver.script(cursor, [*before, self._query(str(rows), self.names)])
            keys = [row[0] for row in cursor.fetchall()]
            cursor.scroll(0, mode="absolute")
            return keys
        # SQLAlchemy's asynchronous cursor has the rows only of a statement that it executes itself.
        driver.script(cursor, before)
        query = text(self._query(":rows", map(escaped, self.names)))
        query = query.bindparams(bindparam("rows", type_=BigInteger))
        cursor.execute(*bound_query(connection.dialect, query, {"rows": rows}))
        return [row[0] for row in adapted_rows(cursor)]

    def _query(self, rows: str, names: Iterable[str]) -> str:
        """The query of the keys. A key that the column cannot hold is refused as by INSERT."""
        sequence = self.column.sequence
        assert sequence is not None
        return (
            f"SELECT {', '.join(f'taken.id AS {name}' for name in names)} FROM "  # noqa: S608  # names of SQLAlchemy's statement, and numbers
            f"(SELECT CAST(nextval(CAST({sequence.oid} AS regclass)) AS {self.column.type_text}) "
            f"AS id FROM generate_series(1, {rows})) AS taken"
        )

    def added(self, rows: CopyRows, keys: Sequence[Any]) -> CopyRows:
        """Return the rows with these keys as their last column."""
        return replace(
            rows,
            columns=[*rows.columns, self.column.name],
            values=[*rows.values, keys],
            oids=[*rows.oids, self.column.type_oid],
        )


def may_be_taken(returned: Sequence[Any]) -> bool:
    """Whether the values that come back may be keys alone, judged from the model."""
    return all(getattr(column, "primary_key", False) for column in returned)


def returned_keys(
    returning: str, table: Table, facts: TableFacts, given: Container[str]
) -> ReturnedKeys | None:
    """Return the key that is all that an INSERT returns; ``None``: it returns other values too, the
    rows give the key, or only the INSERT itself can number them.

    :param returning: the text of its RETURNING, and what precedes that.
    :param given: the columns that the rows give.
    """
    listed = returning.rpartition("RETURNING ")[2]
    if not _ITEMS.fullmatch(listed):
        return None
    found = _EACH.findall(listed)
    [name, *others] = {name_of(column) for column, _ in found}
    keys = {stored_name(column.name) for column in table.primary_key}
    if others or name in given or name not in keys:
        return None
    column = facts.columns.get(name)
    # A partition that is attached meanwhile may have a trigger, which sees the key.
    if column is None or facts.kind != "r" or column.domain is not None:
        return None
    sequence = column.sequence
    if sequence is None or not column.fills_itself or column.default is not None:
        return None
    # SQLAlchemy takes a key that is numbered for one that increases.
    if not sequence.usable or sequence.cycle or sequence.increment < 0:
        return None
    return ReturnedKeys(column, [alias or column for column, alias in found])
