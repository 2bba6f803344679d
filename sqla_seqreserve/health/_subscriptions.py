"""Reads how a logical replication's subscriber stands with its sequences.

Up to PostgreSQL 18 no sequence is replicated. From 19 on a publication may carry sequences; their
values are copied at CREATE SUBSCRIPTION, and by REFRESH PUBLICATION (new ones) and REFRESH
SEQUENCES (all), and at no other time. Each has a row of its own in ``pg_subscription_rel``, under
the sequence's oid, so a server without such rows is sent no further query.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    column,
    func,
    literal_column,
    select,
    table,
    text,
)

from ._facts import ColumnFacts, SequenceFacts, Synchronisation

# To find the rows of this server's own transactions, all rows would have to be read; after a
# fail-over they are the last.
_NEWEST = 1_000

# The count of errors is a column of PostgreSQL 19, so it is read as JSON, which lacks it before.
_SYNCHRONISATIONS = text(
    """
    SELECT CAST(b.srrelid AS bigint) AS oid, u.subname AS subscription,
           b.srsubstate = 'r' AS ready,
           CAST(to_jsonb(e) ->> 'sync_seq_error_count' AS bigint) AS errors
    FROM pg_catalog.pg_subscription_rel b
    JOIN pg_catalog.pg_subscription u ON u.oid = b.srsubid
    LEFT JOIN pg_catalog.pg_stat_subscription_stats e ON e.subid = u.oid
    WHERE CAST(b.srrelid AS bigint) = ANY (CAST(:oids AS bigint[]))
    ORDER BY u.subname
    """
).bindparams(bindparam("oids", type_=ARRAY(BigInteger)))

_TRACKS_COMMITS = text("SELECT current_setting('track_commit_timestamp', true) = 'on'")


def with_synchronisations(
    connection: Connection, facts: dict[int, SequenceFacts], subscribed: Iterable[int]
) -> dict[int, SequenceFacts]:
    """Add the state of the subscription to each sequence that one carries; it sends a query if any
    is carried.
    """
    oids = sorted(subscribed)
    if not oids:
        return facts
    known = dict(facts)
    for row in connection.execute(_SYNCHRONISATIONS, {"oids": oids}):
        found = Synchronisation(row.subscription, row.ready, row.errors)
        sequence = known[row.oid]
        known[row.oid] = replace(sequence, synchronisations=(*sequence.synchronisations, found))
    return known


def with_local_edges(
    connection: Connection, facts: dict[int, SequenceFacts]
) -> dict[int, SequenceFacts]:
    """Add, for tables that a subscription fills, the furthest id beyond their sequence that a
    transaction of this server has written, among the newest ids. This needs tracked commit
    timestamps, because nothing else shows who wrote a row.
    """
    behind = [
        (oid, place)
        for oid, sequence in facts.items()
        for place in sequence.columns
        if place.subscribed and sequence.gap_to(place.edge)
    ]
    if not behind or not connection.scalar(_TRACKS_COMMITS):
        return facts
    known = dict(facts)
    for oid, place in behind:
        local = connection.scalar(
            _furthest_local(known[oid], place), execution_options={"schema_translate_map": None}
        )
        if local is not None:
            columns = (
                replace(c, local_edge=int(local)) if c == place else c for c in known[oid].columns
            )
            known[oid] = replace(known[oid], columns=tuple(columns))
    return known


def _furthest_local(sequence: SequenceFacts, place: ColumnFacts) -> Select[Any]:
    ids = table(place.table, column(place.column), schema=place.schema).c[place.column]
    upwards = sequence.increment > 0
    following: ColumnElement[Any] = literal_column(str(sequence.next_value))
    # An id beyond the sequence's reach conflicts with nothing.
    last: ColumnElement[Any] = literal_column(str(place.edge))
    newest = (
        select(ids.label("id"), literal_column("xmin").label("writer"))
        .where(ids >= following if upwards else ids <= following)
        .where(ids <= last if upwards else ids >= last)
        .order_by(ids.desc() if upwards else ids.asc())
        .limit(_NEWEST)
        .subquery("newest")
    )
    written_here: ColumnElement[bool] = literal_column(
        "((SELECT o.roident FROM pg_catalog.pg_xact_commit_timestamp_origin(newest.writer) o) = 0"
        " OR newest.writer = CAST(pg_catalog.pg_current_xact_id_if_assigned() AS xid))"
    )
    furthest = func.max(newest.c.id) if upwards else func.min(newest.c.id)
    return select(furthest).where(written_here)
