"""The queries of a check: four, however many tables.

The catalogues are asked rather than ``information_schema``, which neither shows identity
sequences nor columns the role lacks privileges on. Privileges are read with them, so that what
the role may not read is said, and never asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Select,
    Text,
    bindparam,
    column,
    func,
    literal_column,
    select,
    table,
    text,
    union_all,
)

from ._connection import locks_released
from ._facts import ColumnFacts, SequenceFacts

__all__ = ["FoundColumn", "Wanted", "find_columns", "find_sequences", "read_sequences"]

T = TypeVar("T")

_NUMBERS = frozenset({"smallint", "integer", "bigint", "numeric"})

# A UNION ALL is parsed as a tree as deep as it has branches, and the server's stack is finite.
_BRANCHES = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """Names as the model gives them, the schema translated; a name without schema is searched."""

    schema: str | None
    table: str
    column: str
    sequence_schema: str | None
    sequence: str | None
    default_schema: str | None
    default: str | None


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """What a wanted column is in the database; ``None`` where there is no such thing."""

    table_oid: int | None
    label: str | None
    attnum: int | None
    relkind: str | None
    identity: str
    has_default: bool
    declared_sequence: int | None
    default_declared_sequence: int | None
    owned_sequence: int | None
    default_sequence: int | None


# Where each wanted column is, and which sequences it could draw from.
_COLUMNS = text(
    r"""
    WITH wanted AS (
        SELECT * FROM unnest(
            CAST(:schemas AS text[]), CAST(:tables AS text[]), CAST(:columns AS text[]),
            CAST(:sequence_schemas AS text[]), CAST(:sequences AS text[]),
            CAST(:default_schemas AS text[]), CAST(:defaults AS text[])
        ) WITH ORDINALITY AS w (
            schema_name, table_name, column_name, sequence_schema, sequence_name,
            default_schema, default_name, place
        )
    ), found AS (
        SELECT w.place, w.column_name,
            CASE WHEN w.schema_name IS NULL
                THEN CAST(to_regclass(quote_ident(w.table_name)) AS oid)
                ELSE (SELECT r.oid FROM pg_catalog.pg_class r
                      JOIN pg_catalog.pg_namespace m ON m.oid = r.relnamespace
                      WHERE m.nspname = w.schema_name AND r.relname = w.table_name)
            END AS table_oid,
            CASE WHEN w.sequence_schema IS NULL
                THEN CAST(to_regclass(quote_ident(w.sequence_name)) AS oid)
                ELSE (SELECT r.oid FROM pg_catalog.pg_class r
                      JOIN pg_catalog.pg_namespace m ON m.oid = r.relnamespace
                      WHERE m.nspname = w.sequence_schema AND r.relname = w.sequence_name)
            END AS declared_oid,
            CASE WHEN w.default_schema IS NULL
                THEN CAST(to_regclass(quote_ident(w.default_name)) AS oid)
                ELSE (SELECT r.oid FROM pg_catalog.pg_class r
                      JOIN pg_catalog.pg_namespace m ON m.oid = r.relnamespace
                      WHERE m.nspname = w.default_schema AND r.relname = w.default_name)
            END AS default_declared_oid
        FROM wanted w
    )
    SELECT
        CAST(t.oid AS bigint) AS table_oid,
        CASE WHEN pg_catalog.pg_table_is_visible(t.oid) THEN t.relname
             ELSE n.nspname || '.' || t.relname END AS label,
        a.attnum,
        CAST(t.relkind AS text) AS relkind,
        coalesce(CAST(a.attidentity AS text), '') AS identity,
        coalesce(a.atthasdef, false) AS has_default,
        (SELECT CAST(s.oid AS bigint) FROM pg_catalog.pg_class s
         WHERE s.oid = f.declared_oid AND s.relkind = 'S') AS declared_sequence,
        (SELECT CAST(s.oid AS bigint) FROM pg_catalog.pg_class s
         WHERE s.oid = f.default_declared_oid AND s.relkind = 'S') AS default_declared_sequence,
        (SELECT CAST(d.objid AS bigint)
         FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid
         WHERE d.classid = CAST('pg_catalog.pg_class' AS regclass)
           AND d.refclassid = CAST('pg_catalog.pg_class' AS regclass)
           AND d.refobjid = t.oid AND d.refobjsubid = a.attnum
           AND d.deptype IN ('a', 'i') AND s.relkind = 'S'
         ORDER BY d.deptype DESC, d.objid LIMIT 1) AS owned_sequence,
        coalesce(
            (SELECT CAST(s.oid AS bigint)
             FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.refobjid
             WHERE d.classid = CAST('pg_catalog.pg_attrdef' AS regclass) AND d.objid = e.oid
               AND d.refclassid = CAST('pg_catalog.pg_class' AS regclass) AND s.relkind = 'S'
             ORDER BY s.oid LIMIT 1),
            -- nextval('name'::text) looks its sequence up when it runs, and leaves no dependency.
            CAST(CAST(to_regclass(replace(substring(
                pg_catalog.pg_get_expr(e.adbin, e.adrelid)
                FROM $re$nextval\(+'((?:[^']|'')+)'::text$re$), '''''', '''')) AS oid) AS bigint)
        ) AS default_sequence
    FROM found f
    LEFT JOIN pg_catalog.pg_class t ON t.oid = f.table_oid AND t.relkind <> 'S'
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attname = f.column_name
        AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_attrdef e ON e.adrelid = t.oid AND e.adnum = a.attnum
        AND a.attidentity = '' AND a.attgenerated = ''
    ORDER BY f.place
    """
).bindparams(
    *(
        bindparam(name, type_=ARRAY(Text))
        for name in (
            "schemas",
            "tables",
            "columns",
            "sequence_schemas",
            "sequences",
            "default_schemas",
            "defaults",
        )
    )
)

# The sequences of some schemas, or of all but the system's and other sessions' temporary ones.
_SEQUENCES_IN = text(
    """
    SELECT CAST(c.oid AS bigint)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND (:every OR n.nspname = ANY (CAST(:schemas AS text[])))
    ORDER BY n.nspname, c.relname
    """
).bindparams(bindparam("schemas", type_=ARRAY(Text)))

# The settings of each sequence, once per column that it fills: as owner, by default, or by a model.
_SEQUENCES = text(
    """
    WITH wanted AS (
        SELECT CAST(o AS oid) AS oid FROM unnest(CAST(:oids AS bigint[])) AS o
    ), links AS (
        SELECT d.objid AS sequence_oid, d.refobjid AS table_oid, d.refobjsubid AS attnum,
               true AS owns, d.deptype = 'i' AS defaults
        FROM pg_catalog.pg_depend d
        WHERE d.classid = CAST('pg_catalog.pg_class' AS regclass)
          AND d.refclassid = CAST('pg_catalog.pg_class' AS regclass)
          AND d.objid IN (SELECT oid FROM wanted) AND d.refobjsubid > 0
          AND d.deptype IN ('a', 'i')
        UNION ALL
        SELECT d.refobjid, e.adrelid, CAST(e.adnum AS integer), false, true
        FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef e ON e.oid = d.objid
        WHERE d.classid = CAST('pg_catalog.pg_attrdef' AS regclass)
          AND d.refclassid = CAST('pg_catalog.pg_class' AS regclass)
          AND d.refobjid IN (SELECT oid FROM wanted)
        UNION ALL
        SELECT CAST(m.s AS oid), CAST(m.t AS oid), CAST(m.a AS integer), false, m.d
        FROM unnest(CAST(:model_sequences AS bigint[]), CAST(:model_tables AS bigint[]),
                    CAST(:model_attnums AS bigint[]), CAST(:model_defaults AS boolean[]))
             AS m (s, t, a, d)
    ), uses AS (
        SELECT sequence_oid, table_oid, attnum, bool_or(owns) AS owns, bool_or(defaults) AS defaults
        FROM links GROUP BY sequence_oid, table_oid, attnum
    )
    SELECT
        CAST(s.oid AS bigint) AS oid, sn.nspname AS schema, s.relname AS name,
        CASE WHEN pg_catalog.pg_table_is_visible(s.oid) THEN s.relname
             ELSE sn.nspname || '.' || s.relname END AS label,
        pg_catalog.pg_get_userbyid(s.relowner) AS owner,
        pg_catalog.format_type(q.seqtypid, NULL) AS data_type,
        q.seqstart AS start, q.seqincrement AS increment, q.seqmin AS minimum,
        q.seqmax AS maximum, q.seqcache AS cache, q.seqcycle AS cycle,
        pg_catalog.has_sequence_privilege(s.oid, 'SELECT')
            AND pg_catalog.has_schema_privilege(sn.oid, 'USAGE') AS readable,
        CAST(t.oid AS bigint) AS table_oid, a.attnum, tn.nspname AS table_schema,
        t.relname AS table_name,
        CASE WHEN pg_catalog.pg_table_is_visible(t.oid) THEN t.relname
             ELSE tn.nspname || '.' || t.relname END AS table_label,
        a.attname AS column_name, pg_catalog.format_type(y.oid, NULL) AS type_name,
        u.owns, u.defaults,
        pg_catalog.has_column_privilege(t.oid, a.attnum, 'SELECT')
            AND pg_catalog.has_schema_privilege(tn.oid, 'USAGE') AS column_readable,
        pg_catalog.row_security_active(t.oid) AS rows_hidden,
        ARRAY(SELECT CAST(i.inhparent AS bigint) FROM pg_catalog.pg_inherits i
              WHERE i.inhrelid = t.oid) AS parents
    FROM wanted w
    JOIN pg_catalog.pg_class s ON s.oid = w.oid
    JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
    JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
    LEFT JOIN uses u ON u.sequence_oid = s.oid
    LEFT JOIN pg_catalog.pg_class t ON t.oid = u.table_oid
    LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = u.attnum
    LEFT JOIN pg_catalog.pg_type d ON d.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_type y
        ON y.oid = CASE d.typtype WHEN 'd' THEN d.typbasetype ELSE d.oid END
    ORDER BY sn.nspname, s.relname, tn.nspname, t.relname, a.attnum
    """
).bindparams(
    bindparam("oids", type_=ARRAY(BigInteger)),
    bindparam("model_sequences", type_=ARRAY(BigInteger)),
    bindparam("model_tables", type_=ARRAY(BigInteger)),
    bindparam("model_attnums", type_=ARRAY(BigInteger)),
)


def find_columns(connection: Connection, wanted: Sequence[Wanted]) -> list[FoundColumn]:
    """Look the columns up, in the order given."""
    rows = connection.execute(
        _COLUMNS,
        {
            "schemas": [w.schema for w in wanted],
            "tables": [w.table for w in wanted],
            "columns": [w.column for w in wanted],
            "sequence_schemas": [w.sequence_schema for w in wanted],
            "sequences": [w.sequence for w in wanted],
            "default_schemas": [w.default_schema for w in wanted],
            "defaults": [w.default for w in wanted],
        },
    )
    return [FoundColumn(**row) for row in rows.mappings()]


def find_sequences(connection: Connection, schemas: Sequence[str] | None) -> list[int]:
    """Return the sequences of the schemas, or of the whole database."""
    return list(
        connection.scalars(
            _SEQUENCES_IN, {"every": schemas is None, "schemas": list(schemas or ())}
        )
    )


def read_sequences(
    connection: Connection,
    oids: Iterable[int],
    model_uses: Iterable[tuple[int, int, int, bool]] = (),
) -> dict[int, SequenceFacts]:
    """Read settings, columns, ids and values of the sequences, by oid.

    ``model_uses`` are (sequence, table, attnum, by server default) that only the models know of.

    The ids are read before the values: a sequence moves ahead of its table, so what is inserted in
    between can make a sequence look healthy, which it then is, and never behind when it is not.
    """
    wanted = sorted(set(oids))
    if not wanted:
        return {}
    facts = _with_edges(connection, _settings(connection, wanted, list(model_uses)))
    return _with_values(connection, facts)


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
    for row in rows:
        known = facts.get(row["oid"]) or SequenceFacts(
            oid=row["oid"],
            schema=row["schema"],
            name=row["name"],
            label=row["label"],
            owner=row["owner"],
            data_type=row["data_type"],
            start=row["start"],
            increment=row["increment"],
            minimum=row["minimum"],
            maximum=row["maximum"],
            cache=row["cache"],
            cycle=row["cycle"],
            readable=row["readable"],
        )
        if row["table_oid"] is not None:
            known = replace(known, columns=(*known.columns, _column(row)))
        facts[known.oid] = known
    return {oid: replace(known, columns=_roots(known.columns)) for oid, known in facts.items()}


def _column(row: Mapping[Any, Any]) -> ColumnFacts:
    return ColumnFacts(
        table_oid=row["table_oid"],
        attnum=row["attnum"],
        schema=row["table_schema"],
        table=row["table_name"],
        label=row["table_label"],
        column=row["column_name"],
        type_name=row["type_name"],
        owns=row["owns"],
        defaults=row["defaults"],
        readable=row["column_readable"],
        rows_hidden=row["rows_hidden"],
        parents=frozenset(row["parents"]),
    )


def _roots(columns: tuple[ColumnFacts, ...]) -> tuple[ColumnFacts, ...]:
    """Drop partitions and inheriting tables: their rows are among their parent's."""
    tables = {c.table_oid for c in columns}
    return tuple(c for c in columns if not c.parents & tables)


def _with_edges(
    connection: Connection, facts: dict[int, SequenceFacts]
) -> dict[int, SequenceFacts]:
    # max() of an indexed column is read from the index's end, partition by partition.
    places = [
        (known, column_facts)
        for known in facts.values()
        for column_facts in known.columns
        if column_facts.blind is None and column_facts.type_name in _NUMBERS
    ]
    edges: dict[tuple[int, int, int], int | None] = {}
    selects: list[Select[Any]] = []
    for place, (known, c) in enumerate(places):
        of = table(c.table, column(c.column), schema=c.schema).c[c.column]
        furthest = func.max(of) if known.increment > 0 else func.min(of)
        selects.append(
            select(literal_column(str(place)), select(furthest).scalar_subquery().label("edge"))
        )
    for place, edge in _union(connection, selects):
        known, c = places[place]
        edges[known.oid, c.table_oid, c.attnum] = None if edge is None else int(edge)
    return {
        oid: replace(
            known,
            columns=tuple(
                replace(c, edge=edges.get((oid, c.table_oid, c.attnum))) for c in known.columns
            ),
        )
        for oid, known in facts.items()
    }


def _with_values(
    connection: Connection, facts: dict[int, SequenceFacts]
) -> dict[int, SequenceFacts]:
    selects: list[Select[Any]] = []
    for oid, known in facts.items():
        if known.readable:
            relation = table(
                known.name, column("last_value"), column("is_called"), schema=known.schema
            )
            selects.append(
                select(literal_column(str(oid)), relation.c.last_value, relation.c.is_called)
            )
    values = dict(facts)
    with locks_released(connection):
        for oid, last_value, is_called in _union(connection, selects):
            values[oid] = replace(values[oid], last_value=last_value, is_called=is_called)
    return values


def _union(connection: Connection, selects: list[Select[Any]]) -> Iterator[Any]:
    for batch in _batches(selects, _BRANCHES):
        statement = union_all(*batch) if len(batch) > 1 else batch[0]
        # These names come from the catalogue: translating them would translate twice.
        yield from connection.execute(statement, execution_options={"schema_translate_map": None})


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
