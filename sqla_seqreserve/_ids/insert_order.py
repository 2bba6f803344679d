"""The order in which SQLAlchemy inserts into tables: parents before children.

An INSERT locks its table, so migrations that work together with plain SQLAlchemy alter parents
first. All tables of a ``MetaData`` are sorted at once: by foreign keys and relationships, and by
name where neither decides. So tables that are locked together are always locked in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import MetaData, Table
from sqlalchemy.exc import CircularDependencyError
from sqlalchemy.orm import Mapper, RelationshipDirection
from sqlalchemy.schema import sort_tables_and_constraints

_ranks: Final[WeakKeyDictionary[MetaData, dict[str, int]]] = WeakKeyDictionary()


def in_insert_order(mappers: Iterable[Mapper[object]]) -> list[Table]:
    """Return the tables of these classes, in the order in which new rows are inserted into them."""
    found = {
        table: mapper for mapper in mappers for table in mapper.tables if isinstance(table, Table)
    }
    if len(found) < 2:
        return list(found)
    return sorted(found, key=lambda table: (_rank(table, found[table]), table.key))


def _rank(table: Table, mapper: Mapper[object]) -> int:
    ranks = _ranks.get(table.metadata)
    if ranks is None or table.key not in ranks:
        ranks = _ranks[table.metadata] = _ranked(table.metadata, mapper)
    # A table that was removed from its MetaData is still mapped.
    return ranks.setdefault(table.key, len(ranks))


def _ranked(metadata: MetaData, mapper: Mapper[object]) -> dict[str, int]:
    tables = sorted(metadata.tables.values(), key=lambda table: table.key)
    sort: Callable[..., Iterable[tuple[Table | None, object]]] = sort_tables_and_constraints
    try:
        ordered = sort(tables, None, list(_related(metadata, mapper)))
    except CircularDependencyError:
        ordered = sort(tables)
    found = [table.key for table, _ in ordered if table is not None]
    return {key: rank for rank, key in enumerate(found)}


def _related(metadata: MetaData, mapper: Mapper[object]) -> Iterator[tuple[Table, Table]]:
    """Yield pairs of tables where a relationship requires inserting into the first before the
    second, with or without a foreign key.
    """
    for one in mapper.registry.mappers:
        for relationship in one.relationships:
            if relationship.viewonly or relationship.post_update:
                continue
            first, second = one.local_table, relationship.mapper.local_table
            if relationship.direction is RelationshipDirection.MANYTOONE:
                first, second = second, first
            if (
                relationship.direction is not RelationshipDirection.MANYTOMANY
                and first is not second
                and metadata.tables.get(getattr(first, "key", "")) is first
                and metadata.tables.get(getattr(second, "key", "")) is second
            ):
                yield first, second
