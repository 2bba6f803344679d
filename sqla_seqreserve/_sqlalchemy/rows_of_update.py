"""Executes ``session.execute(update(M), rows)`` with less work for each row.

SQLAlchemy asks each row which columns it gives, and looks for its object in the session. Where all
rows give the same columns, both are asked once. Read in 2.0.8 to 2.1.9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, Table
from sqlalchemy.orm import Mapper, Session

from .changes import emit_update_of_rows
from .statement_classes import Call, Execute, OfRows, Rows, are_uniform, only_table, put_before

_OPTIONS: Final = "_sa_orm_update_options"


def collect_updates_quickly(is_ours: Callable[[Connection], bool]) -> None:
    """Collect the uniform rows of an UPDATE of a mapped class without a look at each.

    :param is_ours: whether a statement is executed on a connection of ours.
    """
    put_before("update", _QuickUpdate, is_ours)


class _QuickUpdate(OfRows):
    """Executes an UPDATE of a mapped class."""

    @classmethod
    def execute_many(cls, execute: Execute, call: Call) -> Any:
        session, statement, rows, execution_options, bind_arguments, _ = call
        options = execution_options.get(_OPTIONS)
        table = _table_of(session, statement, options, rows)
        commands = None if table is None else _uniform_commands(session, options, table, rows)
        if table is None or commands is None:
            return execute(*call)
        mapper = options._subject_mapper
        result = emit_update_of_rows(mapper, table, commands, statement)
        held = _rows_of_held_objects(session, mapper, rows)
        synchronize: Execute = cls.orm_setup_cursor_result  # type: ignore[attr-defined]  # of the other base
        return synchronize(session, statement, held, execution_options, bind_arguments, result)


def _table_of(session: Session, update: Any, options: Any, rows: Rows) -> Table | None:
    """Return the table that the rows are mapped to, if it is one, the UPDATE has nothing but what
    its rows give, and these are uniform.
    """
    if (
        options is None
        or options._dml_strategy != "bulk"
        or session.connection_callable is not None
        or getattr(options, "_populate_existing", False)
        or update._values is not None
        or getattr(update, "_ordered_values", None)  # gone in 2.1
        or update._where_criteria
        or update._returning
        or update._independent_ctes
        or not are_uniform(rows)
    ):
        return None
    return only_table(options._subject_mapper)


def _uniform_commands(
    session: Session, options: Any, table: Table, rows: Rows
) -> Iterator[tuple[Any, ...]] | None:
    """Collect the rows of an UPDATE as SQLAlchemy's ``_bulk_update`` and
    ``_collect_update_commands`` do, but faster. Return ``None`` for rows that it would refuse, or
    that do not give just the key and columns.
    """
    mapper: Mapper[Any] = options._subject_mapper
    columns = mapper._propkey_to_col[table]
    keys = mapper._pk_attr_keys_by_table[table]
    given = rows[0].keys()
    if (
        not keys < given
        or not given <= columns.keys()
        or {each.key for each in mapper._identity_key_props} != keys
        or not all(_are_keys(map(itemgetter(key), rows)) for key in keys)
    ):
        return None
    assert session._transaction is not None
    connection = session._transaction.connection(mapper.base_mapper)
    names = [(columns[name].key, name) for name in given if name not in keys]
    names += [(column._label, name) for name, column in columns.items() if name in keys]
    no_expressions: dict[Any, Any] = {}
    return (
        (None, row, parameters, mapper, connection, no_expressions, True, True)
        for row in rows
        for parameters in ({key: row[name] for key, name in names},)
    )


def _are_keys(values: Iterator[Any]) -> bool:
    """Whether each value may be that of a key: none is NULL, and each can be hashed."""
    try:
        return None not in set(values)
    except TypeError:
        return False


def _rows_of_held_objects(session: Session, mapper: Mapper[Any], rows: Rows) -> Rows:
    """Return the rows whose objects the session may hold, for SQLAlchemy to change these, too."""
    of_class = mapper._identity_class
    identities = list(session.identity_map.keys())  # others may leave it meanwhile
    held = {identity[1] for identity in identities if identity[0] is of_class}
    keys = zip(
        *(map(itemgetter(each.key), rows) for each in mapper._identity_key_props), strict=True
    )
    return [row for row, key in zip(rows, keys, strict=True) if key in held]
