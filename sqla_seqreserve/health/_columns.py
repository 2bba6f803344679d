"""Finds the columns and sequences of the database that the caller names.

It reads the catalogues and not ``information_schema``, which shows neither identity sequences nor
columns on which the role lacks privileges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ARRAY, Connection, Text, bindparam, text

from sqla_seqreserve.errors import ConfigurationError

from ._names import label_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """A column by its names in the model, with the schema translated; a name without schema is
    looked up through ``search_path``.
    """

    schema: str | None
    table: str
    column: str
    sequence_schema: str | None
    sequence: str | None
    default_schema: str | None
    default: str | None


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """A wanted column as it is in the database; ``None`` where the database has no such thing."""

    table_oid: int | None
    database: str
    schema: str | None
    name: str | None
    visible: bool | None
    attnum: int | None
    relkind: str | None
    identity: str
    has_default: bool
    declared_sequence: int | None
    default_declared_sequence: int | None
    owned_sequence: int | None
    default_sequence: int | None

    @property
    def label(self) -> str | None:
        """The table as SQL names it."""
        if self.schema is None or self.name is None:
            return None
        return label_of(self.schema, self.name, visible=bool(self.visible))


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
        pg_catalog.current_database() AS database, n.nspname AS schema, t.relname AS name,
        pg_catalog.pg_table_is_visible(t.oid) AS visible,
        a.attnum,
        CAST(t.relkind AS text) AS relkind,
        coalesce(CAST(a.attidentity AS text), '') AS identity,
        coalesce(a.atthasdef, false) AS has_default,
        (SELECT CAST(s.oid AS bigint) FROM pg_catalog.pg_class s
         WHERE s.oid = f.declared_oid AND s.relkind = 'S') AS declared_sequence,
        (SELECT CAST(s.oid AS bigint) FROM pg_catalog.pg_class s
         WHERE s.oid = f.default_declared_oid AND s.relkind = 'S') AS default_declared_sequence,
        -- An identity is numbered by its own sequence, or (PostgreSQL 17) its topmost parent's.
        (SELECT CAST(d.objid AS bigint)
         FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid
         WHERE d.classid = CAST('pg_catalog.pg_class' AS regclass)
           AND d.refclassid = CAST('pg_catalog.pg_class' AS regclass)
           AND (d.refobjid = t.oid AND d.refobjsubid = a.attnum
                OR t.relispartition AND a.attidentity <> '' AND (d.refobjid, d.refobjsubid) = (
                    SELECT y.attrelid, y.attnum FROM pg_catalog.pg_attribute y
                    WHERE y.attrelid = pg_catalog.pg_partition_root(t.oid)
                      AND y.attname = a.attname))
           AND (d.deptype = 'i' OR d.deptype = 'a' AND a.attidentity = '') AND s.relkind = 'S'
         -- Of several that the column owns, the one that its default draws from.
         ORDER BY d.refobjid <> t.oid, d.deptype DESC, NOT EXISTS (
             SELECT FROM pg_catalog.pg_depend x
             WHERE x.classid = CAST('pg_catalog.pg_attrdef' AS regclass) AND x.objid = e.oid
               AND x.refclassid = CAST('pg_catalog.pg_class' AS regclass)
               AND x.refobjid = d.objid), d.objid LIMIT 1) AS owned_sequence,
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


_MISSING = text(
    """
    SELECT DISTINCT w.name
    FROM unnest(CAST(:schemas AS text[])) AS w (name)
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = w.name)
    ORDER BY w.name
    """
).bindparams(bindparam("schemas", type_=ARRAY(Text)))


def missing_schemas(connection: Connection, schemas: Sequence[str] | None) -> Sequence[str]:
    """Return those of the schemas that the database does not have."""
    return connection.scalars(_MISSING, {"schemas": list(schemas)}).all() if schemas else ()


def require_schemas(connection: Connection, schemas: Sequence[str] | None) -> None:
    """Refuse schemas that the database does not have: a misspelt one would look healthy.

    :raises ConfigurationError: one of them does not exist
    """
    if missing := missing_schemas(connection, schemas):
        database = connection.scalar(text("SELECT pg_catalog.current_database()"))
        raise ConfigurationError(
            f"nothing to check: the database {database} has no schema {', '.join(missing)}"
        )


def find_sequences(connection: Connection, schemas: Sequence[str] | None) -> list[int]:
    """Return the sequences of the schemas, or of the whole database.

    :raises ConfigurationError: one of the schemas does not exist
    """
    require_schemas(connection, schemas)
    return list(
        connection.scalars(
            _SEQUENCES_IN, {"every": schemas is None, "schemas": list(schemas or ())}
        )
    )
