"""Reads server defaults back after a COPY: one query for the whole batch, in the order of its rows.

INSERT has RETURNING, COPY does not. The keys are known, so one SELECT that joins the table with the
keys, numbered ``WITH ORDINALITY``, returns the rows in the order of their objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Table,
    and_,
    bindparam,
    column,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.exc import FlushError
from sqlalchemy.sql.selectable import TableValuedAlias

from .._sqlalchemy.mapping import key_columns


class _Keys(ARRAY[Any]):
    """An array that is cast to its type in SQL, as SQLAlchemy's is on asyncpg since 2.0.10."""

    render_bind_cast = True


def read_back(
    connection: Connection,
    mapper: Mapper[Any],
    table: Table,
    columns: Sequence[Column[Any]],
    records: Sequence[Any],
) -> list[str]:
    """Load ``columns`` of the rows just written into their objects; return the attribute keys.

    :raises sqlalchemy.orm.exc.FlushError: the table has no row with one of the keys, because a
        trigger changed or discarded it.
    """
    keys = key_columns(mapper, table)
    attributes = [mapper.get_property_by_column(key).key for key in keys]
    names = [f"k{index}" for index in range(len(keys))]
    values = [[record[1][attribute] for record in records] for attribute in attributes]
    wanted = unnested(names, keys, values)
    loaded = [(mapper.get_property_by_column(item).key, item) for item in columns]
    statement = (
        select(*(item for _, item in loaded))
        .select_from(wanted)
        .join(
            table,
            and_(*(wanted.c[name] == key for name, key in zip(names, keys, strict=True))),
        )
        .add_columns(wanted.c.position.cast(BigInteger))
        .order_by(wanted.c.position)
    )
    rows = connection.execute(statement).all()
    if len(rows) != len(records):
        raise _lost(mapper, table, len(records), len(rows))
    for index, (attribute, _) in enumerate(loaded):
        for record, row in zip(records, rows, strict=True):
            record[1][attribute] = row[index]
            record[0].committed_state.pop(attribute, None)
    return [attribute for attribute, _ in loaded]


def require_stored(
    connection: Connection, mapper: Mapper[Any], table: Table, values: Sequence[Sequence[Any]]
) -> None:
    """Check that ``table`` has each of these keys, given as one list of values for each column.

    :raises sqlalchemy.orm.exc.FlushError: as :func:`read_back`.
    """
    keys = key_columns(mapper, table)
    names = [f"k{index}" for index in range(len(keys))]
    wanted = unnested(names, keys, values)
    matches = and_(*(wanted.c[name] == key for name, key in zip(names, keys, strict=True)))
    query = select(func.count()).select_from(wanted.join(table, matches))
    found = connection.execute(query).scalar_one()
    if found != len(values[0]):
        raise _lost(mapper, table, len(values[0]), found)


def _lost(mapper: Mapper[Any], table: Table, rows: int, found: int) -> FlushError:
    return FlushError(
        f"COPY for {mapper} wrote {rows} rows, of which {table.name} has {found} under the keys "
        "they were given. Ensure there are no triggers that change primary keys or discard rows"
    )


def unnested(
    names: Sequence[str], keys: Sequence[Any], values: Sequence[Sequence[Any]]
) -> TableValuedAlias:
    """The keys as numbered rows."""
    return (
        func.unnest(
            *(
                bindparam(name, list(found), type_=_Keys(key.type))
                for name, key, found in zip(names, keys, values, strict=True)
            )
        )
        .table_valued(
            *(column(name, key.type) for name, key in zip(names, keys, strict=True)),
            with_ordinality="position",
        )
        .render_derived(name="sqla_seqreserve_keys")
    )
