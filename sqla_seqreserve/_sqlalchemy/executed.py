"""What SQLAlchemy executes for the changed and deleted objects and the link rows of a flush."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import Connection, Table
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import Mapper

from .unit_of_work import State, UOWTransaction


def uses(uow: UOWTransaction, connection: Connection) -> bool:
    """Whether the connection is one of the session's transaction."""
    transaction = uow.transaction
    while transaction is not None:
        if connection in transaction._connections:
            return True
        transaction = transaction._parent
    return False


def link_tables(uow: UOWTransaction) -> set[Any]:
    """The tables of the many-to-many relationships that the flush looks at."""
    found = {processor.secondary for every in cast("Any", uow).deps.values() for processor in every}
    found.discard(None)
    return found


def mappers_by_cache(uow: UOWTransaction) -> Mapping[int, Mapper[Any]]:
    """Return the base mappers of a flush by the identity of their cache of compiled statements.
    Only the UPDATEs, DELETEs and INSERTs of their objects are executed with that cache.
    """
    return {id(mapper.base_mapper._compiled_cache): mapper.base_mapper for mapper in uow.mappers}


def changed_table(context: Any) -> Table | None:
    """The table that a compiled INSERT, UPDATE or DELETE writes; ``None``: it is none of these."""
    if context.compiled is None or not (context.isinsert or context.isupdate or context.isdelete):
        return None
    table = getattr(context.compiled.statement, "table", None)
    return table if isinstance(table, Table) else None


def rows_of(context: DefaultExecutionContext) -> int:
    """Return for how many rows a statement is executed."""
    return len(context.compiled_parameters)


def returns_rows(context: Any) -> bool:
    """Whether values come back from each row."""
    return bool(context.compiled.effective_returning)


def streams(context: Any) -> bool:
    """Whether the result is to be read through a cursor of the server."""
    return bool(context._is_server_side)


def returns_each_update(mapper: Mapper[Any]) -> bool:
    """Whether SQLAlchemy sends one UPDATE per object, because values that the database computes
    must come back with it.
    """
    return mapper.base_mapper.eager_defaults is True and any(
        mapper._server_onupdate_default_cols[table]
        for table in mapper.tables
        if table in mapper._pks_by_table
    )


def has_expressions(context: Any) -> bool:
    """Whether an UPDATE sets SQL expressions."""
    return bool(getattr(context.compiled.statement, "_values", None))


def keys_of(base_mapper: Mapper[Any], table: Table, context: Any) -> list[tuple[Any, ...]] | None:
    """Return the primary key of each object whose row an UPDATE or DELETE of a flush finds, as in
    its identity; ``None`` if the statement does not show it.
    """
    mapper = base_mapper._sorted_tables.get(table)
    if mapper is None:
        return None
    keys = {mapper._columntoproperty[column].key: column for column in mapper._pks_by_table[table]}
    names = []
    for key in mapper.primary_key:
        column = keys.get(mapper._columntoproperty[key].key)
        if column is None:
            return None
        bind = context.compiled.binds.get(column._label if context.isupdate else column.key)
        if bind is None:
            return None
        names.append(context.compiled.bind_names[bind])
    return [tuple([row[name] for name in names]) for row in context.compiled_parameters]


def identity_of(state: State) -> tuple[Any, ...]:
    """The primary key of an object, as the database has it before the flush."""
    if state.key is not None:
        identity: tuple[Any, ...] = state.key[1]
        return identity
    mapper = state.manager.mapper
    return tuple(state.dict.get(mapper._columntoproperty[c].key) for c in mapper.primary_key)
