"""Finds the columns to check from the caller's source (base, registry, MetaData, classes, tables;
no I/O).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    DefaultClause,
    Identity,
    Integer,
    MetaData,
    Sequence,
    Table,
    TextClause,
    inspect,
)
from sqlalchemy.orm import Mapper, registry
from sqlalchemy.sql.functions import next_value

from sqla_seqreserve._sqlalchemy.mapping import registry_of
from sqla_seqreserve.errors import UnmappedClassError

_NEXTVAL = re.compile(r"\bnextval\s*\(", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """A column of a model, and what the model says about the sequence behind it.

    ``required``: the model declares a sequence, identity or ``nextval`` default, so the database
    must have one. Otherwise the column merely may be generated, and its absence is no finding.
    """

    table: Table
    column: Column[Any]
    mapper: Mapper[Any] | None
    sequence: Sequence | None
    default_sequence: Sequence | None
    identity: Identity | None
    server_nextval: bool
    required: bool


def targets_of(source: Any) -> list[Target]:
    """Return the columns of ``source`` that a sequence fills or may fill, each once."""
    targets: dict[Column[Any], Target] = {}
    for table, mapper in _tables(source):
        for column in table.columns:
            if column not in targets and (target := _target(table, column, mapper)) is not None:
                targets[column] = target
    return list(targets.values())


def _tables(source: Any) -> Iterator[tuple[Table, Mapper[Any] | None]]:
    if isinstance(source, MetaData):
        for table in source.tables.values():
            yield table, None
    elif isinstance(source, Table):
        yield source, None
    elif isinstance(source, registry):
        yield from _mapped_tables(source.mappers)
    elif isinstance(source, Mapper):
        yield from _mapped_tables([source])
    elif isinstance(source, type):
        yield from _tables_of_class(source)
    elif isinstance(source, Iterable) and not isinstance(source, str | bytes):
        for item in source:
            yield from _tables(item)
    else:
        raise UnmappedClassError(
            f"{source!r} is no source of sequences: expected a declarative base, a registry, a "
            "MetaData, or mapped classes"
        )


def _tables_of_class(cls: type) -> Iterator[tuple[Table, Mapper[Any] | None]]:
    mapper: Any = inspect(cls, raiseerr=False)
    if isinstance(mapper, Mapper):
        yield from _mapped_tables([mapper])
        return
    owner = registry_of(cls)
    if owner is None:
        raise UnmappedClassError(
            f"{cls.__module__}.{cls.__qualname__} is neither a mapped class nor a declarative base"
        )
    yield from _mapped_tables(m for m in owner.mappers if issubclass(m.class_, cls))


def _mapped_tables(
    mappers: Iterable[Mapper[Any]],
) -> Iterator[tuple[Table, Mapper[Any] | None]]:
    # A registry keeps its mappers in a set; reports need the same order every time.
    for mapper in sorted(mappers, key=lambda m: (m.class_.__module__, m.class_.__qualname__)):
        for table in mapper.tables:
            if isinstance(table, Table):
                yield table, mapper


def _target(table: Table, column: Column[Any], mapper: Mapper[Any] | None) -> Target | None:
    declared = column.default if isinstance(column.default, Sequence) else None
    if declared is not None and declared.optional:
        # PostgreSQL has SERIAL, so SQLAlchemy passes over an optional sequence there.
        declared = None
    default_sequence, server_nextval = _server_default(column)
    required = (
        declared is not None
        or column.identity is not None
        or server_nextval
        or (column.primary_key and column.autoincrement is True)
    )
    possible = (
        column.primary_key
        and not column.foreign_keys
        and column.autoincrement is not False
        and isinstance(column.type, Integer)
    )
    if not required and not possible:
        return None
    return Target(
        table=table,
        column=column,
        mapper=mapper,
        sequence=declared,
        default_sequence=default_sequence,
        identity=column.identity,
        server_nextval=server_nextval,
        required=required,
    )


def _server_default(column: Column[Any]) -> tuple[Sequence | None, bool]:
    if not isinstance(column.server_default, DefaultClause):
        return None, False
    argument = column.server_default.arg
    if isinstance(argument, next_value):
        return argument.sequence, True
    text = argument.text if isinstance(argument, TextClause) else str(argument)
    return None, _NEXTVAL.search(text) is not None
