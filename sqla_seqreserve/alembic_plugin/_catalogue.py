"""Reads the database's sequences, their owners, and the column defaults that draw from them.

Two statements read them when a comparison starts. Identity sequences are included, marked as such.
A default counts only if PostgreSQL itself records the dependency, so a name that merely looks alike
never does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sqlalchemy import Connection, text

from ._options import SequenceOptions


class SequenceKey(NamedTuple):
    """The place of a sequence; schema ``None`` is the connection's default schema, as in
    Alembic.
    """

    schema: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


# "table.column": a name in double quotes may have dots in it; else the last dot divides.
_PLACE = re.compile(
    r"""(?:"(?P<table>(?:[^"]|"")+)"|(?P<plain_table>.+?))\."""
    r"""(?:"(?P<column>(?:[^"]|"")+)"|(?P<plain_column>[^.]+))"""
)


class ColumnKey(NamedTuple):
    """The place of a column; schema ``None`` is the connection's default schema."""

    schema: str | None
    table: str
    column: str

    def __str__(self) -> str:
        return f"{_as_part(self.table)}.{_as_part(self.column)}"

    @classmethod
    def parse(cls, text: str, schema: str | None) -> ColumnKey | None:
        """Return the column that ``"table.column"`` names; ``None`` if it names none."""
        match = _PLACE.fullmatch(text)
        if match is None:
            return None
        table, column = (
            match[f"plain_{part}"] or match[part].replace('""', '"') for part in ("table", "column")
        )
        return cls(schema, table, column)


def _as_part(name: str) -> str:
    if "." not in name and not name.startswith('"'):
        return name
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class FoundSequence:
    """A sequence in the catalogue."""

    key: SequenceKey
    options: SequenceOptions
    comment: str | None
    owner: ColumnKey | None
    identity: Literal["always", "by default"] | None
    of_extension: bool


@dataclass(frozen=True, slots=True)
class FoundDefault:
    """A column default that draws from a sequence; ``exact`` if it is ``nextval`` and nothing
    else, ``inherited`` if a parent of the table draws from the same sequence, as that of a
    partition does; ``of_number`` if the column's type is one.
    """

    sequence: SequenceKey
    expression: str
    exact: bool
    inherited: bool
    of_number: bool


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The sequences and the defaults that draw from them, at one moment."""

    sequences: dict[SequenceKey, FoundSequence] = field(default_factory=dict)
    defaults: dict[ColumnKey, FoundDefault] = field(default_factory=dict)
    identities: dict[ColumnKey, FoundSequence] = field(default_factory=dict)

    @classmethod
    def read(cls, connection: Connection) -> Catalogue:
        """Read the catalogue through the connection; nothing is locked."""
        default_schema = connection.dialect.default_schema_name
        catalogue = cls()

        def schema(name: str) -> str | None:
            return None if name == default_schema else name

        for row in connection.execute(_SEQUENCES):
            found = FoundSequence(
                key=SequenceKey(schema(row.schema), row.name),
                options=SequenceOptions(
                    data_type=row.data_type,
                    start=row.seqstart,
                    increment=row.seqincrement,
                    minvalue=row.seqmin,
                    maxvalue=row.seqmax,
                    cache=row.seqcache,
                    cycle=row.seqcycle,
                ),
                comment=row.comment,
                owner=row.owner_table
                and ColumnKey(schema(row.owner_schema), row.owner_table, row.owner_column),
                identity=_IDENTITY.get(row.identity),
                of_extension=row.of_extension,
            )
            catalogue.sequences[found.key] = found
            if found.identity and found.owner:
                catalogue.identities[found.owner] = found
        for row in connection.execute(_DEFAULTS):
            column = ColumnKey(schema(row.table_schema), row.table_name, row.column_name)
            catalogue.defaults[column] = FoundDefault(
                sequence=SequenceKey(schema(row.schema), row.name),
                expression=row.expression,
                exact=bool(_NEXTVAL.fullmatch(row.expression)),
                inherited=row.inherited,
                of_number=row.of_number,
            )
        return catalogue

    def users(self, sequence: SequenceKey) -> set[ColumnKey]:
        """The columns whose default draws from the sequence, without those of partitions and
        inheriting tables: what changes the parent's default, or drops the parent, includes them.
        """
        return {
            key
            for key, default in self.defaults.items()
            if default.sequence == sequence and not default.inherited
        }


_NEXTVAL = re.compile(r"nextval\('(?:[^']|'')+'::regclass\)")
_IDENTITY: dict[str | None, Literal["always", "by default"]] = {"a": "always", "d": "by default"}

_SEQUENCES = text(
    """
    SELECT n.nspname AS schema, c.relname AS name, format_type(s.seqtypid, NULL) AS data_type,
           s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle,
           obj_description(c.oid, 'pg_class') AS comment,
           tn.nspname AS owner_schema, t.relname AS owner_table, a.attname AS owner_column,
           CASE WHEN o.deptype = 'i' THEN a.attidentity END AS identity,
           EXISTS (SELECT FROM pg_depend e
                   WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
                   AS of_extension
    FROM pg_sequence s
    JOIN pg_class c ON c.oid = s.seqrelid AND c.relpersistence <> 't'
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_depend o ON o.classid = 'pg_class'::regclass AND o.objid = c.oid
         AND o.refclassid = 'pg_class'::regclass AND o.refobjsubid > 0 AND o.deptype IN ('a', 'i')
    LEFT JOIN pg_class t ON t.oid = o.refobjid
    LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = o.refobjid AND a.attnum = o.refobjsubid
    ORDER BY 1, 2
    """
)

_DEFAULTS = text(
    """
    SELECT tn.nspname AS table_schema, t.relname AS table_name, a.attname AS column_name,
           n.nspname AS schema, c.relname AS name, pg_get_expr(f.adbin, f.adrelid) AS expression,
           EXISTS (SELECT FROM pg_inherits i
                   JOIN pg_attribute pa ON pa.attrelid = i.inhparent AND pa.attname = a.attname
                   JOIN pg_attrdef pf ON pf.adrelid = pa.attrelid AND pf.adnum = pa.attnum
                   JOIN pg_depend pd ON pd.classid = 'pg_attrdef'::regclass AND pd.objid = pf.oid
                        AND pd.refclassid = 'pg_class'::regclass AND pd.refobjid = c.oid
                   WHERE i.inhrelid = t.oid) AS inherited,
           y.typcategory = 'N' AS of_number
    FROM pg_attrdef f
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
         AND d.refclassid = 'pg_class'::regclass
    JOIN pg_class c ON c.oid = d.refobjid AND c.relkind = 'S'
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class t ON t.oid = f.adrelid AND t.relpersistence <> 't'
    JOIN pg_namespace tn ON tn.oid = t.relnamespace
    JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
    JOIN pg_type y ON y.oid = a.atttypid
    ORDER BY 1, 2, 3
    """
)
