"""Collects the UPDATEs and DELETEs of changed and deleted objects, as SQLAlchemy's
``_collect_update_commands`` and ``_collect_delete_commands`` do.

For each object, SQLAlchemy makes a history of its key through the instrumentation, and looks at all
of its attributes. In most objects only column values have changed: those are collected here, the
others by SQLAlchemy. Read in 2.0.8 to 2.1.9.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import NoneType
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.orm import persistence as _persistence
from sqlalchemy.sql import ClauseElement

from .changes import has_version
from .unit_of_work import UOWTransaction

_collect_update_commands: Callable[..., Iterator[tuple[Any, ...]]] = (
    _persistence._collect_update_commands
)

_collect_delete_commands: Callable[..., Iterator[tuple[dict[str, Any], Connection]]] = (
    _persistence._collect_delete_commands
)


_Column: TypeAlias = tuple[str, Callable[[Any, Any], bool]]


@dataclass(frozen=True, slots=True)
class _Attributes:
    """The facts that are needed of each changed object of a class.

    :param columns: name of an attribute -> the key of its column, and the function that compares a
        value with the previous one.
    :param keys: the attributes of the key, each with the name of its parameter.
    :param defaults: the columns that an UPDATE must return if it does not set them.
    """

    columns: Mapping[str, _Column]
    keys: Sequence[tuple[str, str]]
    defaults: frozenset[str]


def _attributes(mapper: Mapper[Any], table: Table) -> _Attributes | None:
    """``None``: the class has no rows in the table, or counts versions there."""
    if table not in mapper._pks_by_table or has_version(mapper, table):
        return None
    manager = mapper.class_manager
    defaults = frozenset[str]()
    if mapper.base_mapper.eager_defaults is True:
        defaults = mapper._server_onupdate_default_col_keys[table]
    return _Attributes(
        {
            name: (column.key, manager[name].impl.is_equal)
            for name, column in mapper._propkey_to_col[table].items()
        },
        [
            (mapper.get_property_by_column(column).key, str(column._label))
            for column in mapper._pks_by_table[table]
        ],
        defaults,
    )


_VALUES: Final = frozenset(
    {
        bool,
        bytes,
        dt.date,
        dt.datetime,
        dt.time,
        dt.timedelta,
        Decimal,
        dict,
        float,
        int,
        list,
        NoneType,
        str,
        uuid.UUID,
    }
)
"""Types of values that are not SQL expressions."""


def collect_update_commands(
    uow: UOWTransaction, table: Table, records: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[Any, ...]]:
    """Collect as SQLAlchemy does, but faster for an object in which only column values have
    changed: SQLAlchemy makes a history of each key, and a set of all attributes.
    """
    classes: dict[Mapper[Any], _Attributes | None] = {}
    for record in records:
        state, row, mapper, connection, _ = record
        if mapper not in classes:
            classes[mapper] = _attributes(mapper, table)
        attributes = classes[mapper]
        key = given = None
        if attributes is not None:
            key = _unchanged_key(state.committed_state, row, attributes.keys)
            given = _changed(state.committed_state, row, attributes.columns)
        if attributes is None or key is None or given is None:
            yield from _collect_update_commands(uow, table, [record])
        elif given:
            has_defaults = attributes.defaults.issubset(given)
            given.update(key)
            yield state, row, given, mapper, connection, {}, has_defaults, True


def _changed(
    before: Mapping[str, Any], row: Mapping[str, Any], columns: Mapping[str, _Column]
) -> dict[str, Any] | None:
    """Return the columns of an object that changed, with their values; ``None`` if the object has
    other changes too.
    """
    changed = {}
    for name, value_before in before.items():
        column = columns.get(name)
        if column is None:
            continue
        if name not in row:
            return None
        value = row[name]
        if type(value) not in _VALUES and (
            hasattr(value, "__clause_element__") or isinstance(value, ClauseElement)
        ):
            return None
        key, is_equal = column
        # A function that compares arrays may return something other than a bool.
        if is_equal(value, value_before) is not True:
            changed[key] = value
    return changed


def collect_delete_commands(
    base_mapper: Mapper[Any], uow: UOWTransaction, table: Table, records: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[dict[str, Any], Connection]]:
    """Collect as SQLAlchemy does, but faster for an object whose key is unchanged, of a class that
    counts no versions.
    """
    classes: dict[Mapper[Any], list[tuple[str, str]] | None] = {}
    for record in records:
        state, row, mapper, connection, _ = record
        if mapper not in classes:
            classes[mapper] = None
            if table in mapper._pks_by_table and not has_version(mapper, table):
                classes[mapper] = [
                    (mapper.get_property_by_column(column).key, column.key)
                    for column in mapper._pks_by_table[table]
                ]
        keys = classes[mapper]
        key = None if keys is None else _unchanged_key(state.committed_state, row, keys)
        if key is None:
            yield from _collect_delete_commands(base_mapper, uow, table, [record])
        else:
            yield key, connection


def _unchanged_key(
    before: Mapping[str, Any], row: Mapping[str, Any], keys: Sequence[tuple[str, str]]
) -> dict[str, Any] | None:
    """Return the key of an object, column key -> value; ``None`` if the row may have another."""
    found = {}
    for name, key in keys:
        value = row.get(name)
        if value is None or name in before:
            return None
        found[key] = value
    return found
