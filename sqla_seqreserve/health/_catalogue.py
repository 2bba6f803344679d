"""Reads the sequences, their present values, and the furthest ids of the columns that they fill.

Privileges are read with the settings, so that what the role may not read is reported, and never
queried. Together with :mod:`._columns` a check sends four queries, however many tables there are;
three more on a node of Citus.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
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

from sqla_seqreserve._ids.server import IS_CITUS, server_called

from ._connection import locks_released, one_connection_per_node
from ._edges import read_together, with_edges
from ._facts import ColumnFacts, SequenceFacts
from ._names import label_of
from ._subscriptions import with_local_edges, with_synchronisations

# A default that is the next value itself, perhaps cast to another type.
_NEXTVAL = (
    r"'^\(*(pg_catalog\.)?(worker_)?nextval\(''[^'']*(''''[^'']*)*''::regclass\)"
    r"\)*(::[a-z0-9_ .]+\)*)*$'"
)


# The settings of each sequence, once per column that it fills: as owner, by default, or by a model.
_SEQUENCES = text(
    f"""
    WITH wanted AS (
        SELECT CAST(o AS oid) AS oid FROM unnest(CAST(:oids AS bigint[])) AS o
    ), links AS (
        SELECT d.objid AS sequence_oid, d.refobjid AS table_oid, d.refobjsubid AS attnum,
               true AS owns, d.deptype = 'i' AS defaults,
               d.deptype = 'i' OR a.attidentity = '' AS fills
        FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attribute a
          ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.classid = CAST('pg_catalog.pg_class' AS regclass)
          AND d.refclassid = CAST('pg_catalog.pg_class' AS regclass)
          AND d.objid IN (SELECT oid FROM wanted) AND d.refobjsubid > 0
          AND d.deptype IN ('a', 'i')
        UNION ALL
        SELECT d.refobjid, e.adrelid, CAST(e.adnum AS integer), false, true, true
        FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef e ON e.oid = d.objid
        JOIN pg_catalog.pg_attribute a ON a.attrelid = e.adrelid AND a.attnum = e.adnum
          -- A partition keeps the default from before it had its parent's identity.
          AND a.attidentity = ''
        WHERE d.classid = CAST('pg_catalog.pg_attrdef' AS regclass)
          AND d.refclassid = CAST('pg_catalog.pg_class' AS regclass)
          AND d.refobjid IN (SELECT oid FROM wanted)
        UNION ALL
        SELECT CAST(m.s AS oid), CAST(m.t AS oid), CAST(m.a AS integer), false, m.d, true
        FROM unnest(CAST(:model_sequences AS bigint[]), CAST(:model_tables AS bigint[]),
                    CAST(:model_attnums AS bigint[]), CAST(:model_defaults AS boolean[]))
             AS m (s, t, a, d)
    ), uses AS (
        SELECT sequence_oid, table_oid, attnum, bool_or(owns) AS owns, bool_or(defaults) AS defaults
        FROM links GROUP BY sequence_oid, table_oid, attnum HAVING bool_or(fills)
    )
    SELECT
        CAST(s.oid AS bigint) AS oid, sn.nspname AS schema, s.relname AS name,
        pg_catalog.pg_table_is_visible(s.oid) AS visible,
        pg_catalog.current_database() AS database, CURRENT_USER AS role,
        pg_catalog.pg_get_userbyid(s.relowner) AS owner,
        pg_catalog.format_type(q.seqtypid, NULL) AS data_type,
        q.seqstart AS start, q.seqincrement AS increment, q.seqmin AS minimum,
        q.seqmax AS maximum, q.seqcache AS cache, q.seqcycle AS cycle,
        pg_catalog.has_sequence_privilege(s.oid, 'SELECT')
            AND pg_catalog.has_schema_privilege(sn.oid, 'USAGE') AS readable,
        pg_catalog.has_schema_privilege(sn.oid, 'USAGE') AS schema_usable,
        pg_catalog.has_schema_privilege(tn.oid, 'USAGE') AS table_schema_usable,
        pg_catalog.has_sequence_privilege(s.oid, 'USAGE') AS usable,
        s.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery() AS sequence_unlogged,
        CAST(t.oid AS bigint) AS table_oid, a.attnum, tn.nspname AS table_schema,
        t.relname AS table_name, pg_catalog.pg_table_is_visible(t.oid) AS table_visible,
        a.attname AS column_name, pg_catalog.format_type(y.oid, NULL) AS type_name,
        u.owns, u.defaults,
        EXISTS (SELECT 1 FROM pg_catalog.pg_attrdef e JOIN pg_catalog.pg_depend x ON x.objid = e.oid
            WHERE e.adrelid = t.oid AND e.adnum = a.attnum
              AND x.classid = CAST('pg_catalog.pg_attrdef' AS regclass)
              AND x.refclassid = CAST('pg_catalog.pg_class' AS regclass) AND x.refobjid = s.oid
              AND pg_catalog.pg_get_expr(e.adbin, e.adrelid) !~ {_NEXTVAL}) AS computed,
        pg_catalog.has_column_privilege(t.oid, a.attnum, 'SELECT')
            AND pg_catalog.has_schema_privilege(tn.oid, 'USAGE') AS column_readable,
        pg_catalog.row_security_active(t.oid) AS rows_hidden, CAST(t.relkind AS text) AS kind,
        t.relkind = 'f' OR EXISTS (
            SELECT 1 FROM pg_catalog.pg_partition_tree(t.oid) p
            JOIN pg_catalog.pg_class k ON k.oid = p.relid WHERE k.relkind = 'f') AS remote,
        t.relowner = s.relowner AND t.relnamespace = s.relnamespace AS may_own,
        -- To read a table is to read those that inherit from it.
        CASE WHEN pg_catalog.pg_is_in_recovery() THEN EXISTS (
            WITH RECURSIVE below (oid) AS (
                SELECT t.oid UNION ALL
                SELECT i.inhrelid FROM below
                JOIN pg_catalog.pg_inherits i ON i.inhparent = below.oid
            ) SELECT 1 FROM below JOIN pg_catalog.pg_class u ON u.oid = below.oid
            WHERE u.relpersistence = 'u') ELSE false END AS unlogged,
        EXISTS (SELECT 1 FROM pg_catalog.pg_subscription_rel b WHERE b.srrelid = t.oid
                OR b.srrelid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree(t.oid) p)
        ) AS subscribed,
        EXISTS (SELECT 1 FROM pg_catalog.pg_subscription_rel b
                WHERE b.srrelid = s.oid) AS sequence_subscribed,
        (SELECT pg_catalog.version()) AS version, {IS_CITUS} AS citus,
        ARRAY(SELECT CAST(i.inhparent AS bigint) FROM pg_catalog.pg_inherits i
              WHERE i.inhrelid = t.oid
              UNION SELECT CAST(CAST(p.relid AS oid) AS bigint)
              FROM pg_catalog.pg_partition_ancestors(t.oid) p WHERE p.relid <> t.oid) AS parents
    FROM wanted w
    JOIN pg_catalog.pg_class s ON s.oid = w.oid
    JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
    JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
    LEFT JOIN uses u ON u.sequence_oid = s.oid
    LEFT JOIN pg_catalog.pg_class t ON t.oid = u.table_oid
    LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = u.attnum
    LEFT JOIN LATERAL (
        -- A domain may be one of another domain.
        WITH RECURSIVE below (oid, kind, base) AS (
            SELECT d.oid, d.typtype, d.typbasetype FROM pg_catalog.pg_type d
            WHERE d.oid = a.atttypid
            UNION ALL
            SELECT d.oid, d.typtype, d.typbasetype
            FROM below JOIN pg_catalog.pg_type d ON d.oid = below.base WHERE below.kind = 'd'
        ) SELECT oid FROM below WHERE kind <> 'd'
    ) y ON true
    ORDER BY sn.nspname, s.relname, tn.nspname, t.relname, a.attnum
    """  # noqa: S608  # the expression above, no input
).bindparams(
    bindparam("oids", type_=ARRAY(BigInteger)),
    bindparam("model_sequences", type_=ARRAY(BigInteger)),
    bindparam("model_tables", type_=ARRAY(BigInteger)),
    bindparam("model_attnums", type_=ARRAY(BigInteger)),
)


# Facts about a node of Citus: its number, and which of the sequences or their tables other nodes
# share.
_NODE = text(
    """
    SELECT (SELECT groupid FROM pg_catalog.pg_dist_local_group) AS node,
        ARRAY(SELECT CAST(o.objid AS bigint) FROM pg_catalog.pg_dist_object o
              WHERE o.classid = CAST('pg_catalog.pg_class' AS regclass)
                AND CAST(o.objid AS bigint) = ANY (CAST(:sequences AS bigint[]))) AS sequences,
        ARRAY(SELECT CAST(CAST(p.logicalrelid AS oid) AS bigint)
              FROM pg_catalog.pg_dist_partition p
              WHERE CAST(CAST(p.logicalrelid AS oid) AS bigint)
                    = ANY (CAST(:tables AS bigint[]))) AS tables
    """
).bindparams(
    bindparam("sequences", type_=ARRAY(BigInteger)), bindparam("tables", type_=ARRAY(BigInteger))
)


def read_sequences(
    connection: Connection,
    oids: Iterable[int],
    model_uses: Iterable[tuple[int, int, int, bool]] = (),
    *,
    subscriber: bool = False,
) -> dict[int, SequenceFacts]:
    """Read settings, columns, ids and values of the sequences, by oid.

    ``model_uses`` are (sequence, table, attnum, by server default) that only the models know.
    ``subscriber``: look for ids that this server itself has written into tables that a subscription
    fills.

    The ids are read before the values. A sequence moves ahead of its table, so rows inserted in
    between can make a sequence look healthy, which it then is; they never make a healthy one look
    behind.
    """
    wanted = sorted(set(oids))
    if not wanted:
        return {}
    settings = _settings(connection, wanted, list(model_uses))
    is_citus = any(known.is_citus for known in settings.values())
    facts = _on_this_node(connection, settings) if is_citus else settings
    with one_connection_per_node(connection, is_citus=is_citus):
        facts = with_edges(connection, facts)
    facts = _with_values(connection, facts)
    return with_local_edges(connection, facts) if subscriber else facts


def _settings(
    connection: Connection, oids: list[int], uses: list[tuple[int, int, int, bool]]
) -> dict[int, SequenceFacts]:
    rows = connection.execute(
        _SEQUENCES,
        {
            "oids": oids,
            "model_sequences": [use[0] for use in uses],
            "model_tables": [use[1] for use in uses],
            "model_attnums": [use[2] for use in uses],
            "model_defaults": [use[3] for use in uses],
        },
    ).mappings()
    facts: dict[int, SequenceFacts] = {}
    carried: set[int] = set()
    for row in rows:
        server = server_called(row["version"], citus=row["citus"])
        known = facts.get(row["oid"]) or SequenceFacts(
            oid=row["oid"],
            schema=row["schema"],
            name=row["name"],
            label=label_of(row["schema"], row["name"], visible=row["visible"]),
            database=row["database"],
            role=row["role"],
            owner=row["owner"],
            data_type=row["data_type"],
            start=row["start"],
            increment=row["increment"],
            minimum=row["minimum"],
            maximum=row["maximum"],
            cache=row["cache"],
            cycle=row["cycle"],
            readable=row["readable"],
            usable=row["usable"],
            schema_usable=row["schema_usable"],
            unlogged=row["sequence_unlogged"],
            server=server.name,
            replicates_sequences=_major_version(row["version"]) >= 19,
            is_foreign=server.kind == "other",
            is_citus=server.kind == "citus",
        )
        if row["table_oid"] is not None:
            known = replace(known, columns=(*known.columns, _column(row)))
        if row["sequence_subscribed"]:
            carried.add(known.oid)
        facts[known.oid] = known
    facts = with_synchronisations(connection, facts, carried)
    return {oid: replace(known, columns=_roots(known.columns)) for oid, known in facts.items()}


def _major_version(version: str) -> int:
    found = re.match(r"PostgreSQL (\d+)", version)
    return int(found[1]) if found else 0


def _column(row: Mapping[Any, Any]) -> ColumnFacts:
    return ColumnFacts(
        table_oid=row["table_oid"],
        attnum=row["attnum"],
        schema=row["table_schema"],
        table=row["table_name"],
        label=label_of(row["table_schema"], row["table_name"], visible=row["table_visible"]),
        column=row["column_name"],
        type_name=row["type_name"],
        owns=row["owns"],
        defaults=row["defaults"],
        computed=row["computed"],
        readable=row["column_readable"],
        schema_usable=row["table_schema_usable"],
        rows_hidden=row["rows_hidden"],
        parents=frozenset(row["parents"]),
        kind=row["kind"],
        remote=row["remote"],
        may_own=row["may_own"],
        unlogged=row["unlogged"],
        subscribed=row["subscribed"],
    )


def _on_this_node(
    connection: Connection, facts: dict[int, SequenceFacts]
) -> dict[int, SequenceFacts]:
    """Limit the sequences that nodes of Citus share to this node's own range of ids."""
    tables = {column.table_oid for known in facts.values() for column in known.columns}
    found = connection.execute(_NODE, {"sequences": list(facts), "tables": list(tables)}).one()
    shared, distributed = set(found.sequences), set(found.tables)
    return {
        oid: known.on_node(found.node)
        if oid in shared or any(column.table_oid in distributed for column in known.columns)
        else known
        for oid, known in facts.items()
    }


def _roots(columns: tuple[ColumnFacts, ...]) -> tuple[ColumnFacts, ...]:
    """Drop partitions and inheriting tables: their rows are among their parent's."""
    tables = {c.table_oid for c in columns}
    return tuple(c for c in columns if not c.parents & tables)


def _with_values(
    connection: Connection, facts: dict[int, SequenceFacts]
) -> dict[int, SequenceFacts]:
    selects: list[Select[Any]] = []
    for oid, known in facts.items():
        if known.unlogged:
            continue
        if known.readable:
            relation = table(
                known.name, column("last_value"), column("is_called"), schema=known.schema
            )
            selects.append(
                select(literal_column(str(oid)), relation.c.last_value, relation.c.is_called)
            )
        elif known.usable:
            last = func.pg_catalog.pg_sequence_last_value(literal_column(f"{oid}::oid::regclass"))
            selects.append(select(literal_column(str(oid)), last, last.is_not(None)))
    values = dict(facts)
    with locks_released(connection):
        for oid, last_value, is_called in read_together(connection, selects):
            values[oid] = replace(values[oid], last_value=last_value, is_called=is_called)
    return values
