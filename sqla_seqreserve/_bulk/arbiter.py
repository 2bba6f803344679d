"""Finds the arbiter of ON CONFLICT: the unique index that decides whether a row exists already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import ColumnElement, Connection, literal_column, text
from sqlalchemy.orm import Mapper

from .._database import known_of
from .._ids.reservation_statement import IndexFacts
from .._ids.table_names import stored_name
from .._mistakes import check_attributes
from ..errors import ConfigurationError

# An expression or a predicate depends on columns that the index's own column numbers (indkey) do
# not list. PostgreSQL before 15 has no NULLS NOT DISTINCT.
_INDEXES: Final = text(
    """
    SELECT c.oid, c.relname::text AS name, i.indimmediate AS immediate,
           i.indisexclusion AS overlaps,
           pg_get_indexdef(c.oid) AS definition,
           COALESCE((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_alike,
           pg_get_expr(i.indpred, i.indrelid) AS predicate,
           ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, false)
                   FROM generate_series(1, i.indnkeyatts) k ORDER BY k) AS elements,
           ARRAY(SELECT a.attname::text
                   FROM generate_series(1, i.indnkeyatts) k
                   LEFT JOIN pg_attribute a
                     ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k - 1]
                  ORDER BY k) AS columns,
           ARRAY(SELECT (SELECT quote_ident(n.nspname) || '.' || quote_ident(co.collname)
                           FROM pg_collation co JOIN pg_namespace n ON n.oid = co.collnamespace
                          WHERE co.oid = i.indcollation[k - 1]
                            AND co.oid IS DISTINCT FROM a.attcollation)
                   FROM generate_series(1, i.indnkeyatts) k
                   LEFT JOIN pg_attribute a
                     ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k - 1]
                  ORDER BY k) AS collations,
           ARRAY(SELECT DISTINCT a.attname::text
                   FROM pg_attribute a
                  WHERE a.attrelid = i.indrelid
                    AND (a.attnum = ANY (i.indkey) OR EXISTS
                         (SELECT FROM pg_depend d
                           WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                             AND d.refclassid = 'pg_class'::regclass
                             AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum))
                    AND a.attnum > 0) AS needed,
           EXISTS (SELECT FROM pg_attribute a
                    WHERE a.attrelid = i.indrelid AND a.attnum > 0
                      AND a.attcollation NOT IN (0, (SELECT oid FROM pg_collation
                                                      WHERE collname = 'default'
                                                        AND collnamespace
                                                            = 'pg_catalog'::regnamespace)))
               AS collated
      FROM pg_index i
      JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid = to_regclass(:table) AND i.indisunique AND i.indisvalid
     ORDER BY NOT i.indisprimary, i.indpred IS NOT NULL, c.relname
    """
)


@dataclass(frozen=True, slots=True)
class Arbiter:
    """A unique index, as SQL.

    :param elements: its columns, quoted, and its expressions.
    :param columns: the names of its columns; ``None`` for an expression.
    :param collations: the collation of each element, as SQL; ``None`` if that is the column's own
        or if there is none.
    :param predicate: the condition of a partial index; ``None`` if the index holds all rows.
    :param nulls_alike: whether NULL is equal to NULL (``NULLS NOT DISTINCT``).
    :param needed: every column that its elements and predicate use.
    :param collated: whether a column of the table has a collation of its own, which decides which
        values are equal and in which order they sort.
    :param facts: what must still be true of the index when it is used again.
    """

    name: str
    elements: tuple[str, ...]
    columns: tuple[str | None, ...]
    collations: tuple[str | None, ...]
    predicate: str | None
    nulls_alike: bool
    needed: frozenset[str]
    collated: bool
    facts: IndexFacts

    def target(self) -> list[ColumnElement[Any]]:
        """Return the elements in the form that ON CONFLICT takes."""
        return [
            literal_column(element if column is not None else f"({element})")
            for element, column in zip(self.elements, self.columns, strict=True)
        ]


_MOST_KNOWN: Final = 256

_Conflict: TypeAlias = str | tuple[str, ...]


class _Arbiters(dict[tuple[Mapper[Any], str, _Conflict], Arbiter]):
    """The unique index that an upsert uses, by class, table and the way it was given."""


def _conflict_key(conflict: str | Iterable[str]) -> _Conflict:
    return conflict if isinstance(conflict, str) else tuple(conflict)


def known_arbiter(
    connection: Connection, mapper: Mapper[Any], table: str, conflict: str | Iterable[str]
) -> Arbiter | None:
    """Return what :func:`find_arbiter` found for the same arguments before. The caller must let the
    database compare the arbiter's facts.
    """
    return known_of(connection.dialect, _Arbiters).get((mapper, table, _conflict_key(conflict)))


def find_arbiter(
    connection: Connection,
    mapper: Mapper[Any],
    table: str,
    conflict: str | Iterable[str],
    what: str,
) -> Arbiter:
    """Find the unique index of ``table`` that ``conflict`` names: by the name of the index or of
    its constraint, or by the attribute keys of its columns.

    :param what: the name of the argument, for error messages.
    :raises ConfigurationError: there is no such index, or the database checks it too late
        (``DEFERRABLE``) or for overlaps and not for equal values.
    """
    found = connection.execute(_INDEXES, {"table": table}).all()
    named_columns = _columns(mapper, conflict, what)
    for row in found:
        by_name = isinstance(conflict, str) and row.name == conflict
        by_columns = (
            named_columns is not None
            and row.predicate is None
            and set(row.columns) == named_columns
        )
        if not (by_name or by_columns):
            continue
        if not row.immediate:
            raise ConfigurationError(
                f"{row.name} of {table} is DEFERRABLE, and so cannot decide whether a row exists. "
                "Expected a unique index or constraint that is checked at once"
            )
        if row.overlaps:
            raise ConfigurationError(
                f"{row.name} of {table} is WITHOUT OVERLAPS: it keeps periods apart, and cannot "
                "decide which row exists. Expected a unique index or constraint of equal values"
            )
        arbiter = Arbiter(
            row.name,
            tuple(row.elements),
            tuple(row.columns),
            tuple(row.collations),
            row.predicate,
            row.nulls_alike,
            frozenset(row.needed),
            row.collated,
            IndexFacts(table, row.oid, row.definition),
        )
        known = known_of(connection.dialect, _Arbiters)
        if len(known) >= _MOST_KNOWN:
            known.clear()
        known[mapper, table, _conflict_key(conflict)] = arbiter
        return arbiter
    has = "; ".join(f"{row.name} ({', '.join(row.elements)})" for row in found) or "none"
    raise ConfigurationError(
        f"{what}={conflict!r} names no unique index of {table}. Expected the attribute keys of "
        f"one that holds every row, or the name of one. It has: {has}"
    )


def _columns(mapper: Mapper[Any], conflict: str | Iterable[str], what: str) -> set[str] | None:
    """Return the column names of these attribute keys; ``None`` if they are not attribute keys."""
    keys: Sequence[str] = [conflict] if isinstance(conflict, str) else list(conflict)
    known = {prop.key: stored_name(prop.columns[0].name) for prop in mapper.column_attrs}
    unknown = [key for key in keys if key not in known]
    if not isinstance(conflict, str):
        check_attributes(mapper, f"{what}={conflict!r}", keys)
    return None if unknown or not keys else {known[key] for key in keys}
