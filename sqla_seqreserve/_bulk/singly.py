"""UPDATE and DELETE of SQLAlchemy's own, a statement a row, its values as parameters: where a
listener may see, change or refuse them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Delete, Update, bindparam

from .._rows.division import is_plain

_KEY = "sqla_seqreserve_key_{}"
_VALUE = "sqla_seqreserve_value_{}"


def execute_singly(
    connection: Connection,
    statement: Update | Delete,
    keys: Sequence[Any],
    rows: Sequence[tuple[Any, ...]],
    values: Sequence[Mapping[Any, Any]] = (),
) -> int:
    """Execute the statement for each row; return how many there were, as far as the driver says.

    :param keys: the columns of the key.
    :param rows: the key of each row.
    :param values: of an UPDATE: column -> value, the same columns in each row.
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
        assert isinstance(statement, Update)
        one = _setting(statement, names, expressions)
        rest = {name: value for name, value in each.items() if name not in expressions}
        count += _counted(connection.execute(one, rest).rowcount, 1)
    if plain:
        whole = _setting(statement, names, {}) if isinstance(statement, Update) else statement
        count += _counted(connection.execute(whole, plain).rowcount, len(plain))
    return count


def _setting(statement: Update, names: Mapping[Any, str], expressions: Mapping[str, Any]) -> Update:
    return statement.values(
        {
            column: expressions.get(name, bindparam(name, type_=column.type))
            for column, name in names.items()
        }
    )


def _counted(rowcount: int, rows: int) -> int:
    """What the driver counted; asyncpg counts nothing of several."""
    return rowcount if rowcount >= 0 else rows
