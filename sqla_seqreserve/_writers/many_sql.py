"""Makes a statement over arrays from a statement that SQLAlchemy compiled for one row.

.. code-block:: sql

    WITH sent AS (SELECT * FROM unnest(...) WITH ORDINALITY ...),
         locked AS (SELECT sent.* FROM item, sent WHERE item.id = sent.c1
                     ORDER BY sent.number FOR NO KEY UPDATE OF item)
    UPDATE item SET price=locked.c0 FROM locked WHERE item.id = locked.c1

(In the real text, the names that this module adds begin with ``sqla_seqreserve_``.)

The text of SET, VALUES and WHERE is SQLAlchemy's, with a column in place of each placeholder. The
rows are first locked in the order of the parameters, as one statement for each row would lock them:
a join takes rows in any order, and two flushes of the same objects could deadlock.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from .._drivers.text_format import literal
from .._ids import catalogue
from .._ids.catalogue import TableFacts
from .._ids.statement_facts import IS_INHERITED, MAY_LOCK_ROWS, UNIQUE_INDEXES
from .._ids.table_names import quoted
from .._rows.arrays import ArrayText
from .._sql_names import NAME, QUOTED_NAME, STRING, name_of
from .._sqlalchemy.statements import CompiledMany, StatementKind, compiled_many, replaced
from .sql_shape import assigned_columns, columns_compared, sees_nothing_else, words

FAILED_COMPARISON: Final = "22012"
"""SQLSTATE of the division by zero that ends a message whose comparison fails."""

_SAVEPOINT: Final = "sqla_seqreserve_many"

UNDO: Final = (f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}", f"RELEASE SAVEPOINT {_SAVEPOINT}")
"""Statements that undo a failed comparison. The server refuses them if the comparison succeeded and
the statement after it failed.
"""

_OURS: Final = "sqla_seqreserve_"
_SENT: Final = f"{_OURS}sent"
_LOCKED: Final = f"{_OURS}locked"
_NUMBER: Final = f"{_OURS}number"


@dataclass(frozen=True, slots=True)
class Rewriting:
    """The parts of a compiled statement, with columns of the rows in place of its placeholders.

    :param head: the text before its WHERE; for an INSERT, before its VALUES.
    :param condition: the text of its WHERE; for an INSERT, of the row in its VALUES.
    :param keys: placeholders that the condition compares with columns that the statement does not
        set: if their values differ, the rows differ.
    :param assigned: the columns that an UPDATE sets.
    :param columns: for a placeholder that is a column's own value, the column's name.
    :param is_row: for an INSERT: its values are plain column values, without expressions.
    :param returning: for an INSERT that returns values: the text after the row.
    """

    many: CompiledMany
    head: str
    condition: str
    keys: tuple[str | int, ...]
    assigned: frozenset[str]
    columns: Mapping[str | int, str]
    is_row: bool = False
    returning: str = ""


_rewritings: WeakKeyDictionary[Any, dict[str, Rewriting | None]] = WeakKeyDictionary()


def rewriting_of(context: Any, statement: str) -> Rewriting | None:
    """The parts of a statement; ``None`` if it has another form. The result is kept as long as
    SQLAlchemy keeps the compiled statement.
    """
    known = _rewritings.setdefault(context.compiled, {})
    if statement not in known:
        many = compiled_many(context)
        known[statement] = None if many is None else _taken_apart(many)
    return known[statement]


_APART: Final = re.compile(rf"{STRING}|{QUOTED_NAME}|\bWHERE\b|\bVALUES\b")
_WORDS: Final = frozenset({"WHERE", "VALUES"})
_SET: Final = re.compile(r"\bSET ")


def _column(number: int) -> str:
    return f"{_OURS}c{number}"


def _taken_apart(many: CompiledMany) -> Rewriting | None:
    bare = words(many.text)
    if bare is None or _OURS in many.text:
        return None
    names = {each.key: _column(number) for number, each in enumerate(many.placeholders)}
    inserts = many.kind == "insert"
    source = _SENT if inserts else _LOCKED
    whole = replaced(many, {key: f"{source}.{name}" for key, name in names.items()})
    if whole is None:
        return None
    found = [match for match in _APART.finditer(whole) if match[0] in _WORDS]
    if len(found) != 1 or found[0][0] != ("VALUES" if inserts else "WHERE"):
        return None
    head, condition = whole[: found[0].start()], whole[found[0].end() :].strip()
    if many.doubles_percents:
        head, condition = head.replace("%%", "%"), condition.replace("%%", "%")
    if inserts:
        return _inserting(many, head, condition, names)
    assigned = frozenset[str]()
    if many.kind == "update":
        before_where = words(head) or ""
        set_ = _SET.search(before_where)
        if set_ is None or not sees_nothing_else(before_where[set_.end() :]):
            return None
        assigned = assigned_columns(head)
    compared = columns_compared(condition, source)
    if compared is None:
        return None
    keys = tuple(
        key for key, name in names.items() if name in compared and compared[name] not in assigned
    )
    return Rewriting(many, head, condition, keys, assigned, _columns(many))


_SORTED: Final = re.compile(r"\) AS imp_sen\([^()]*, sen_counter\) ORDER BY sen_counter ")
"""What SQLAlchemy puts after rows that must come back in their order."""

_SELECTED: Final = re.compile(r" SELECT (p0\b.*) FROM \($", re.DOTALL)


def _inserting(
    many: CompiledMany, head: str, condition: str, names: Mapping[str | int, str]
) -> Rewriting | None:
    """The parts of an INSERT with one row in brackets and nothing after it but RETURNING; ``None``
    if it has another form.
    """
    row, _, behind = condition.partition(")")
    if row[:1] != "(" or "(" in row[1:]:
        return None
    row, returning, into = row[1:], behind.strip(), head
    selected, is_sorted = _SELECTED.search(head), _SORTED.match(behind)
    if selected is not None and is_sorted is not None:
        into, returning = head[: selected.start()], behind[is_sorted.end() :]
    elif selected is not None or is_sorted is not None:
        return None
    if returning and (not returning.startswith("RETURNING ") or _OURS in returning):
        return None
    for part in (row, returning):
        bare = words(part)
        if bare is None or not sees_nothing_else(bare):
            return None
    columns = _inserted(into)
    values = ", ".join(f"{_SENT}.{name}" for name in names.values())
    is_row = row == values and len(columns) == len(names)
    by_key = dict(zip(names, columns, strict=True)) if is_row else {}
    behind = behind if is_sorted else returning
    return Rewriting(many, head, row, (), frozenset(), by_key, is_row, behind)


def _inserted(head: str) -> list[str]:
    """The names of the columns of an INSERT, without quotes."""
    return list(map(name_of, re.findall(NAME, head[head.rindex(" (") :])))


_END: Final = r"(?=,|\)|$|\s+(?:WHERE|AND)\b)"
"""What follows a value that is not part of an expression."""


def _columns(many: CompiledMany) -> dict[str | int, str]:
    """The column for each placeholder that is a column's value, or is compared with it:
    ``price=...`` or ``item.id = ...``.
    """
    found = {}
    for each in many.placeholders:
        match = re.search(rf"({NAME}) ?= ?{re.escape(each.text)}{_END}", many.text)
        if match is not None:
            found[each.key] = name_of(match[1]).replace("%%", "%")
    return found


def comparison(facts: TableFacts, kind: StatementKind) -> tuple[str, ...]:
    """Statements that lock the table, and fail if its known facts no longer hold, within a
    savepoint.
    """
    return (
        f"SAVEPOINT {_SAVEPOINT}",
        f"LOCK TABLE ONLY {facts.name} IN ROW EXCLUSIVE MODE",
        _compared(facts, kind),
        f"RELEASE SAVEPOINT {_SAVEPOINT}",
    )


def _compared(facts: TableFacts, kind: StatementKind) -> str:
    holds = f"{catalogue.FINGERPRINT} = {literal(facts.fingerprint)}"
    if facts.action_fingerprint is not None:
        holds += f" AND {catalogue.ACTION_FINGERPRINT} = {literal(facts.action_fingerprint)}"
    if kind == "update":
        holds += f" AND {UNIQUE_INDEXES} = {literal(facts.unique_indexes)}"
    if kind != "insert":
        holds += f" AND NOT {IS_INHERITED} AND {MAY_LOCK_ROWS}"
    return (
        f"SELECT 1 / count(*) FROM pg_catalog.pg_class c "  # noqa: S608  # quoted names and literals
        f"WHERE c.oid = to_regclass({literal(facts.name)}) AND {holds}"
    )


def many_statement(
    rewriting: Rewriting, arrays: Mapping[str | int, ArrayText], facts: TableFacts
) -> str:
    """The text of the statement that writes all rows."""
    names = [_column(number) for number in range(len(arrays))]
    values = [f"{literal(array.text)}::{array.element}[]" for array in arrays.values()]
    if rewriting.many.kind != "insert":
        # The planner sees the length of a constant array. For 2,000 rows of a table of 50,000 it
        # then reads the whole table, twice, instead of using an index. A subquery hides the length.
        values = [f"(SELECT {value})" for value in values]
    read = [
        f"CAST({name} AS {array.read_as}) AS {name}" if array.read_as else name
        for name, array in zip(names, arrays.values(), strict=True)
    ]
    sent = (
        f"SELECT {', '.join([*read, _NUMBER])} FROM unnest({', '.join(values)}) "  # noqa: S608  # as above
        f"WITH ORDINALITY AS {_SENT} ({', '.join([*names, _NUMBER])})"
    )
    head, condition = rewriting.head, rewriting.condition
    if rewriting.many.kind == "insert":
        behind, rows = rewriting.returning, f"FROM ({sent}) {_SENT}"
        if behind.startswith(")"):
            return f"{head}SELECT {condition}, {_NUMBER} {rows}{behind}"
        # Ordered, because sequence defaults number rows, and rows come back, in insert order.
        return f"{head} SELECT {condition} {rows} ORDER BY {_NUMBER} {behind}"
    word, strength = "USING", "UPDATE"
    if rewriting.many.kind == "update":
        word, strength = "FROM", "NO KEY UPDATE"
    locking = condition.replace(f"{_LOCKED}.", f"{_SENT}.")
    return (
        f"WITH {_SENT} AS ({sent}), {_LOCKED} AS (SELECT {_SENT}.* FROM {facts.name}, {_SENT} "  # noqa: S608  # as above
        f"WHERE {locking} ORDER BY {_SENT}.{_NUMBER} "
        f"FOR {strength} OF {quoted(rewriting.many.table.name)}) "
        f"{head}{word} {_LOCKED} WHERE {condition}"
    )
