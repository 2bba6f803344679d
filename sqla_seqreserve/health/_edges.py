"""Reads the furthest ids of the columns that sequences fill."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, column, func, literal_column, select, table, union_all
from sqlalchemy.exc import DBAPIError

from .._sqlstate import sqlstate
from ._connection import locks_released
from ._facts import ColumnFacts, SequenceFacts, type_bounds

T = TypeVar("T")

# A UNION ALL is parsed as a tree as deep as it has branches, and the server's stack is finite.
_BRANCHES = 500

_QUERY_CANCELED = "57014"


def with_edges(connection: Connection, facts: dict[int, SequenceFacts]) -> dict[int, SequenceFacts]:
    """Read the furthest id of each column, by one query, and one more for each foreign table."""
    # max() of an indexed column is read from the index's end, partition by partition.
    places = [
        (known, column_facts)
        for known in facts.values()
        for column_facts in known.columns
        if column_facts.has_ids
    ]
    found: dict[tuple[int, int, int], ColumnFacts] = {}
    selects: list[Select[Any]] = []
    for place, (known, c) in enumerate(places):
        query = furthest_id(known, c)
        if c.remote:
            found[known.oid, c.table_oid, c.attnum] = _with_remote_edge(connection, query, c)
        else:
            edge = query.scalar_subquery().label("edge")
            selects.append(select(literal_column(str(place)), edge))
    for place, edge in read_together(connection, selects):
        known, c = places[place]
        found[known.oid, c.table_oid, c.attnum] = _with_edge(c, edge)
    return {
        oid: replace(
            known,
            columns=tuple(found.get((oid, c.table_oid, c.attnum), c) for c in known.columns),
        )
        for oid, known in facts.items()
    }


def _with_edge(place: ColumnFacts, edge: Any) -> ColumnFacts:
    return replace(place, edge=None if edge is None else int(edge))


def _with_remote_edge(
    connection: Connection, query: Select[Any], place: ColumnFacts
) -> ColumnFacts:
    """Read a foreign table by itself: if its server does not answer, the other tables are read."""
    try:
        with locks_released(connection):
            edge = connection.scalar(query, execution_options={"schema_translate_map": None})
    except DBAPIError as error:
        if error.connection_invalidated or sqlstate(error) == _QUERY_CANCELED:
            raise
        return replace(place, failure=str(error.orig).strip().splitlines()[0])
    return _with_edge(place, edge)


def furthest_id(sequence: SequenceFacts, place: ColumnFacts) -> Select[Any]:
    """The query for a column's id furthest in the sequence's direction, of those that the sequence
    can hand out.
    """
    ids = table(place.table, column(place.column), schema=place.schema).c[place.column]
    query = select(func.max(ids) if sequence.increment > 0 else func.min(ids))
    low, high = sequence.bounds
    least, most = type_bounds(place.type_name)
    anything = place.type_name == "numeric"
    # Written out, as a driver would bind a number of the column's type, which it may not fit.
    if low is not None and (anything or low > least):
        query = query.where(ids >= literal_column(str(low)))
    if high is not None and (anything or high < most):
        query = query.where(ids <= literal_column(str(high)))
    return query


def read_together(connection: Connection, selects: list[Select[Any]]) -> Iterator[Any]:
    """Return the rows of the queries, sent as one query, or as few as the server can parse."""
    for batch in _batches(selects, _BRANCHES):
        statement = union_all(*batch) if len(batch) > 1 else batch[0]
        # These names come from the catalogue: translating them would translate twice.
        yield from connection.execute(statement, execution_options={"schema_translate_map": None})


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
