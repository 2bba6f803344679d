"""Loads rows as objects, by their keys: one SELECT for all of them.

The rows were written by their keys, so each must come back as an object, whatever criteria the
application adds to its queries (soft deletion, tenants), and whichever class of a hierarchy the row
belongs to. A second statement, without such criteria, loads the rows that they hide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, and_, inspect, literal, select
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.exc import FlushError

from .._writers.readback import unnested


def loaded(session: Session, mapper: Mapper[Any], keys: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the objects with these keys, in the order of the keys, with the values that the
    database has now. Nothing is flushed first.

    :raises sqlalchemy.orm.exc.FlushError: no row has one of the keys.
    """
    if not keys:
        return []
    with_table = mapper
    while with_table.single and with_table.inherits is not None:
        # The existing row may belong to another class of the same table.
        with_table = with_table.inherits
    columns: list[Any] = list(with_table.local_table.columns)
    found: dict[tuple[Any, ...], Any] = {}
    if with_table.concrete and with_table.polymorphic_on is not None:
        # A SELECT of the class reads its subclasses' tables too, where other rows have these keys.
        identity = literal(with_table.polymorphic_identity)
        columns.append(identity.label(getattr(with_table.polymorphic_on, "name", None)))
    else:
        found = _objects(session, mapper, _joined(select(with_table.class_), mapper, keys))
    hidden = [key for key in keys if key not in found]
    if hidden:
        # ORM options, such as these criteria, do not change a statement that is passed complete.
        rows = _joined(select(*columns), mapper, hidden)
        found |= _objects(session, mapper, select(with_table.class_).from_statement(rows))
    missing = next((number for number, key in enumerate(keys) if key not in found), None)
    if missing is not None:
        raise FlushError(
            f"Row {missing}: {mapper} has no row with the key {keys[missing]} any more. Another "
            "transaction has just deleted it, or a trigger changes keys; ask for returning=None"
        )
    return [found[key] for key in keys]


def _joined(
    statement: Select[Any], mapper: Mapper[Any], keys: Sequence[tuple[Any, ...]]
) -> Select[Any]:
    """Return the statement that selects the rows with these keys, in the order of the keys."""
    columns = list(mapper.primary_key)
    names = [f"k{index}" for index in range(len(columns))]
    given_keys = unnested(names, columns, list(zip(*keys, strict=True)))
    same = and_(*(given_keys.c[name] == key for name, key in zip(names, columns, strict=True)))
    return statement.join(given_keys, same).order_by(given_keys.c.position)


def _objects(session: Session, mapper: Mapper[Any], statement: Any) -> dict[tuple[Any, ...], Any]:
    """Return the objects that a statement loads, by their keys."""
    options = {"populate_existing": True, "autoflush": False}
    loading = session.scalars(
        statement, execution_options=options, bind_arguments={"mapper": mapper}
    )
    # A collection that is loaded by a join yields one row for each member.
    return {inspect(item).identity: item for item in loading.unique()}
