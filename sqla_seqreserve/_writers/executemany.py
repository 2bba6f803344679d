"""Sends a statement that SQLAlchemy would execute once a row as one statement over all rows.

A flush's UPDATEs, DELETEs and link rows, the bulk statements of a session and the legacy ``bulk_*``
methods all end in an ``executemany()``. What psycopg2 makes of one is a round trip a row. Here the
rows travel as an array a column, and the statement that SQLAlchemy compiled reads from them:

.. code-block:: sql

    WITH sent AS (SELECT * FROM unnest(...) WITH ORDINALITY ...),
         locked AS (SELECT sent.* FROM item, sent WHERE item.id = sent.c1
                     ORDER BY sent.number FOR NO KEY UPDATE OF item)
    UPDATE item SET price=locked.c0 FROM locked WHERE item.id = locked.c1

It is executed on SQLAlchemy's own cursor within its own ``do_executemany`` event, so the row count
that it checks, its events, its log and its errors are as ever. The rows are locked in the order of
the parameters first, as one statement a row would lock them: a join takes them in any order, and
two flushes of the same objects would wait for each other in a circle.

What is known of the table was compared under its lock, once a transaction: a trigger of the
statement would be called even by one that finds no row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Connection

from .. import _host as host
from .._drivers import Driver, driver_of
from .._host.statements import CompiledMany, Kind, compiled_many, replaced
from .._ids import catalogue
from .._ids.catalogue import TableFacts, quoted
from .._ids.distances import distance_to
from .._ids.fetch import take_ids
from .._rows.arrays import ArrayText, array_text
from .._rows.codecs import Codec, value_table

__all__ = ["write_many"]

_SENT: Final = "sqla_seqreserve_sent"
_LOCKED: Final = "sqla_seqreserve_locked"
_NUMBER: Final = "number"

_FIXED: Final = 350.0
"""Microseconds that the server takes to plan such a statement, beside its rows."""

_ATTEMPTS: Final = 10

_ARRAY_ROW: Final = 8.0
"""Microseconds of a row that travels in arrays."""

_UNTYPED: Final = frozenset({"text", "varchar"})
"""Types of a column to which an untyped string and a text are the same."""

_ANYTHING: Final = Codec(oid=0)


@dataclass(frozen=True, slots=True)
class _Rewriting:
    """A compiled statement taken apart: its placeholders replaced by columns of the rows.

    :param head: up to its WHERE; of an INSERT up to its VALUES.
    :param condition: its WHERE; of an INSERT the row in its VALUES.
    :param keys: placeholders of the condition.
    :param columns: of a placeholder that stands for a column's own value, the column's name.
    """

    many: CompiledMany
    head: str
    condition: str
    keys: tuple[str | int, ...]
    columns: Mapping[str | int, str]


_rewritings: WeakKeyDictionary[Any, dict[str, _Rewriting | None]] = WeakKeyDictionary()


def write_many(
    cursor: Any, statement: str, parameters: Sequence[Any], context: Any, fewest: int | None
) -> str | None:
    """Execute the statement for all rows at once; or say why it must be executed row by row.

    :param parameters: of each row, as the driver takes them.
    :param fewest: the smallest number of rows to do so for; ``None``: where it pays.
    """
    connection = context.root_connection
    driver = driver_of(context.dialect)
    if driver is None:
        return f"driver {context.dialect.driver} has no fast path here"
    rows = len(parameters)
    if fewest is None and not _pays(driver, rows, distance_to(context.dialect).round_trip):
        return "few rows"
    if fewest is not None and rows < fewest:
        return "few rows"
    if statement is not context.statement or parameters is not context.parameters:
        return "a listener of the engine changed the statement"
    rewriting = _rewriting(context, statement)
    if rewriting is None:
        return "the statement is more than its table, its values and its key"
    state = driver.state(connection.connection)
    if state == "autocommit" or not host.sees_the_present(connection):
        return "nothing can be compared in this transaction"
    facts = _pinned_facts(connection, rewriting.many)
    if isinstance(facts, str):
        return facts
    arrays = _arrays(connection, rewriting, parameters, facts, driver)
    if isinstance(arrays, str):
        return arrays
    bound = _Bound(driver.types == "asyncpg")
    cursor.execute(_sql(rewriting, arrays, facts, bound), bound.parameters)
    return None


def _pays(driver: Driver, rows: int, round_trip: float) -> bool:
    spared = driver.executed_row - _ARRAY_ROW
    trips = rows - 1 if driver.executes_each else 0
    return rows > 1 and trips * round_trip + rows * spared > _FIXED


def _rewriting(context: Any, statement: str) -> _Rewriting | None:
    """How the statement is taken apart; kept with what SQLAlchemy compiled."""
    known = _rewritings.setdefault(context.compiled, {})
    if statement not in known:
        many = compiled_many(context)
        known[statement] = None if many is None else _taken_apart(many)
    return known[statement]


_WHERE: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\bWHERE\b|\bVALUES\b")


def _taken_apart(many: CompiledMany) -> _Rewriting | None:
    names = {each.key: f"c{number}" for number, each in enumerate(many.placeholders)}
    source = _SENT if many.kind == "insert" else _LOCKED
    whole = replaced(many, {key: f"{source}.{name}" for key, name in names.items()})
    if whole is None:
        return None
    word = "VALUES" if many.kind == "insert" else "WHERE"
    found = [match for match in _WHERE.finditer(whole) if match[0] in {"WHERE", "VALUES"}]
    if len(found) != 1 or found[0][0] != word:
        return None
    head, condition = whole[: found[0].start()], whole[found[0].end() :].strip()
    if many.kind == "insert":
        # One row in brackets, and nothing behind it.
        if not (condition.startswith("(") and condition.endswith(")")) or "(" in condition[1:-1]:
            return None
        condition = condition[1:-1]
    keys = tuple(
        key for key, name in names.items() if re.search(rf"\b{source}\.{name}\b", condition)
    )
    return _Rewriting(many, head, condition, keys, _columns(many))


def _columns(many: CompiledMany) -> dict[str | int, str]:
    """Which placeholder stands for a column's value, or is compared with it: ``price=...`` or
    ``item.id = ...``.
    """
    found = {}
    for each in many.placeholders:
        match = re.search(
            rf'(?:"((?:[^"]|"")+)"|(\w+)) ?= ?{re.escape(each.text)}(?![\w:])', many.text
        )
        if match is not None:
            found[each.key] = match[2] or match[1].replace('""', '"').replace("%%", "%")
    return found


_pinned: WeakKeyDictionary[Any, dict[str, TableFacts]] = WeakKeyDictionary()
"""What was compared under a lock that lasts as long as the transaction, or the savepoint, does."""


def _pinned_facts(connection: Connection, many: CompiledMany) -> TableFacts | str:
    """What is known of the table, compared under its lock once a transaction; or why its rows must
    be written one by one.
    """
    transaction = connection.get_nested_transaction() or connection.get_transaction()
    pinned = _pinned.setdefault(transaction, {})
    name = catalogue.table_name(connection, many.table)
    for _ in range(_ATTEMPTS):
        facts = pinned.get(name) or catalogue.table_facts(connection, [name])[name]
        if facts is None:
            return "the database has no such table"
        reason = _table_reason(facts, many.kind)
        if reason is not None:
            return reason
        if name in pinned:
            return facts
        if take_ids(connection, (), [facts]).holds:
            pinned[name] = facts
            return facts
    return "its tables are altered faster than they can be looked at"


def _table_reason(facts: TableFacts, kind: Kind) -> str | None:
    name = facts.name
    if facts.kind not in {"r", "p"}:
        return f"{name} is not a table"
    if not facts.lockable:
        return f"the role has no INSERT privilege on the whole of {name}"
    if facts.row_security:
        return f"{name} has row-level security"
    if facts.distributed:
        return "Citus distributes the table"
    if kind in facts.watched:
        return f"{name} has a rule or a statement trigger on {kind.upper()}"
    return None


def _arrays(
    connection: Connection,
    rewriting: _Rewriting,
    parameters: Sequence[Any],
    facts: TableFacts,
    driver: Driver,
) -> Mapping[str | int, ArrayText] | str:
    """A column of values for each placeholder; or why there is none."""
    arrays = {}
    values_of: dict[str | int, list[Any]] = {}
    table = value_table(connection.dialect)
    assert table is not None
    for each in rewriting.many.placeholders:
        values = values_of[each.key] = [row[each.key] for row in parameters]
        other = table.adapted_otherwise(connection, _ANYTHING, set(map(type, values)) - _OWN)
        if other is not None:
            return f"the driver has an adapter of its user's for {other.__name__}"
        stored = None
        if each.cast is None and driver.types == "text":
            column = facts.columns.get(rewriting.columns.get(each.key, ""))
            if column is not None and column.type_name in _UNTYPED:
                stored = "TEXT"
        array = array_text(values, each.cast, stored, has_ends=driver.types == "asyncpg")
        if array is None:
            return "a parameter holds values that an array might not hold exactly"
        arrays[each.key] = array
    keys = [values_of[key] for key in rewriting.keys]
    if rewriting.many.kind != "insert" and (
        not keys or len(set(zip(*keys, strict=True))) < len(parameters)
    ):
        # One statement a row lets the last win.
        return "two rows are for the same key"
    return arrays


_OWN: Final = frozenset({type(None)})


class _Bound:
    """The parameters of one statement, in the driver's style."""

    def __init__(self, numbered: bool) -> None:
        self._numbered = numbered
        self._values: list[Any] = []

    def add(self, value: str, type_: str) -> str:
        """A text that the server reads as of this type."""
        self._values.append(value)
        number = len(self._values)
        # asyncpg would want a list for an array.
        return f"CAST(${number}::text AS {type_})" if self._numbered else f"%(p{number})s::{type_}"

    @property
    def parameters(self) -> Any:
        if self._numbered:
            return tuple(self._values)
        return {f"p{number}": value for number, value in enumerate(self._values, 1)}


def _sql(
    rewriting: _Rewriting, arrays: Mapping[str | int, ArrayText], facts: TableFacts, bound: _Bound
) -> str:
    names = [f"c{number}" for number in range(len(arrays))]
    values = [bound.add(array.text, f"{array.element}[]") for array in arrays.values()]
    sent = (
        f"SELECT * FROM unnest({', '.join(values)}) WITH ORDINALITY "  # noqa: S608  # names and types
        f"AS {_SENT} ({', '.join([*names, _NUMBER])})"
    )
    if rewriting.many.kind == "insert":
        return f"{rewriting.head} SELECT {rewriting.condition} FROM ({sent}) {_SENT}"  # noqa: S608  # as above
    table = facts.name.replace("%", "%%")
    only = quoted(rewriting.many.table.name).replace("%", "%%")
    word, strength = ("USING", "UPDATE")
    if rewriting.many.kind == "update":
        word, strength = "FROM", "NO KEY UPDATE"
    condition = rewriting.condition
    locking = condition.replace(f"{_LOCKED}.", f"{_SENT}.")
    return (
        f"WITH {_SENT} AS ({sent}), {_LOCKED} AS (SELECT {_SENT}.* FROM {table}, {_SENT} "  # noqa: S608  # as above
        f"WHERE {locking} ORDER BY {_SENT}.{_NUMBER} FOR {strength} OF {only}) "
        f"{rewriting.head}{word} {_LOCKED} WHERE {condition}"
    )
