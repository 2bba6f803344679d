"""The SQL that changes the source of a column's values and keeps its position, or moves it forward:
one ``DO`` block each.
"""

# Names and literals come quoted by the preparer, and compilers have SQLAlchemy's signature:
# ruff: noqa: ARG001, S608

from __future__ import annotations

from typing import Any

from sqlalchemy import Identity, Sequence
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import DDLElement
from sqlalchemy.sql.compiler import DDLCompiler

from ._ddl import QuotedNames, do_block, indent, keep_out, option_clauses
from ._options import SequenceOptions


class ResyncColumn(DDLElement):
    """Move a column's sequence beyond the column's values, forward only."""

    def __init__(
        self, table: str, column: str, *, schema: str | None, sequence: Sequence | None
    ) -> None:
        self.table, self.column, self.schema, self.sequence = table, column, schema, sequence


class AdoptColumn(DDLElement):
    """Make a named sequence the source of a column that was SERIAL, IDENTITY or bare."""

    def __init__(
        self,
        table: str,
        column: str,
        sequence: Sequence,
        options: SequenceOptions,
        *,
        schema: str | None,
        owned: bool,
    ) -> None:
        self.table, self.column, self.schema = table, column, schema
        self.sequence, self.counting, self.owned = sequence, options, owned


class ReleaseColumn(DDLElement):
    """Turn a column that draws from a named sequence into an IDENTITY or a bare column."""

    def __init__(
        self,
        table: str,
        column: str,
        sequence: Sequence,
        *,
        schema: str | None,
        identity: Identity | None,
        identity_sequence: Sequence | None,
        keep: bool,
    ) -> None:
        self.table, self.column, self.schema, self.sequence = table, column, schema, sequence
        self.identity, self.identity_sequence, self.keep = identity, identity_sequence, keep


_VARIABLES = """
held regclass;
step_before bigint;
step bigint;
low bigint;
high bigint;
last bigint;
called boolean := true;
reached bigint;
furthest bigint;
"""


@compiles(ResyncColumn)
def _resync_column(element: ResyncColumn, compiler: DDLCompiler, **kw: Any) -> str:
    names = QuotedNames(compiler)
    table, column = names.table(element.table, element.schema), names.column(element.column)
    if element.sequence is not None:
        held = f"{names.literal(names.sequence(element.sequence))}::regclass"
    else:
        held = _held_sequence(names, table, element.column)
    missing = names.literal(
        f"{table}.{column} has no sequence: "
        "expected an identity, an owned sequence or a default of nextval()"
    )
    return do_block(
        _VARIABLES,
        f"""
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE;
held := {held};
IF held IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = {missing};
END IF;
{keep_out("held")}
{_read_furthest(names, table, column, "furthest")}
EXECUTE 'SELECT last_value, is_called FROM ' || held INTO last, called;
IF sign(step) * (furthest::numeric - last - CASE WHEN called THEN step ELSE 0 END) >= 0 THEN
    PERFORM setval(held, furthest);
END IF;
""",
    )


@compiles(AdoptColumn)
def _adopt_column(element: AdoptColumn, compiler: DDLCompiler, **kw: Any) -> str:
    names = QuotedNames(compiler)
    table, column = names.table(element.table, element.schema), names.column(element.column)
    name = names.sequence(element.sequence)
    literal = names.literal(name)
    options = element.counting
    create = " ".join(["CREATE SEQUENCE IF NOT EXISTS", name, option_clauses(options.given())])
    alter = option_clauses(options.given())
    bare_name = names.column(str(element.sequence.name))
    identity = (
        "(SELECT attidentity <> '' FROM pg_attribute "
        f"WHERE attrelid = {names.literal(table)}::regclass "
        f"AND attname = {names.literal_name(element.column)})"
    )
    owned = f"ALTER SEQUENCE {name} OWNED BY {table}.{column};" if element.owned else ""
    return do_block(
        _VARIABLES,
        f"""
LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;
held := {_held_sequence(names, table, element.column)};
IF held IS NULL THEN
    {create};
    held := {literal};
    {_read_furthest(names, table, column, "last")}
ELSE
    {keep_out("held")}
    IF {identity} THEN
        EXECUTE 'SELECT last_value, is_called FROM ' || held INTO last, called;
        SELECT seqincrement INTO step_before FROM pg_sequence WHERE seqrelid = held;
        ALTER TABLE {table} ALTER COLUMN {column} DROP IDENTITY;
        {create};
    ELSE
        IF held IS DISTINCT FROM to_regclass({literal}) THEN
            EXECUTE 'ALTER SEQUENCE ' || held || ' RENAME TO ' || {names.literal(bare_name)};
        END IF;
        {f"ALTER SEQUENCE {name} {alter};" if alter else ""}
    END IF;
END IF;
held := {literal};
{keep_out("held")}
{_continue(names, table, column)}
ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT nextval({literal});
{owned}
""",
    )


@compiles(ReleaseColumn)
def _release_column(element: ReleaseColumn, compiler: DDLCompiler, **kw: Any) -> str:
    names = QuotedNames(compiler)
    table, column = names.table(element.table, element.schema), names.column(element.column)
    name = names.sequence(element.sequence)
    away = f"DROP SEQUENCE {name};"
    if element.keep:
        # Another column that draws from it may own it, and keeps it.
        away = f"""
IF EXISTS (
    SELECT FROM pg_depend d
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.classid = 'pg_class'::regclass AND d.objid = held AND d.deptype = 'a'
    AND d.refclassid = 'pg_class'::regclass AND d.refobjid = {names.literal(table)}::regclass
    AND a.attname = {names.literal_name(element.column)}
) THEN
    ALTER SEQUENCE {name} OWNED BY NONE;
END IF;"""
    body = f"""
LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;
held := {names.literal(name)};
{keep_out("held")}
SELECT last_value, is_called INTO last, called FROM {name};
SELECT seqincrement INTO step_before FROM pg_sequence WHERE seqrelid = held;
ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT;
{away}
"""
    if element.identity is not None:
        identity = element.identity
        clauses = option_clauses(SequenceOptions.declared_by(identity).given())
        if element.identity_sequence is not None:
            clauses = f"SEQUENCE NAME {names.sequence(element.identity_sequence)} {clauses}".strip()
        body += f"""
ALTER TABLE {table} ALTER COLUMN {column}
    ADD GENERATED {"ALWAYS" if identity.always else "BY DEFAULT"} AS IDENTITY{
            f" ({clauses})" if clauses else ""
        };
held := pg_get_serial_sequence({names.literal(table)}, {names.literal_name(element.column)});
{_continue(names, table, column)}
"""
    return do_block(_VARIABLES, body)


def _continue(names: QuotedNames, table: str, column: str) -> str:
    """Return SQL that moves the sequence ``held`` forward to the position ``last`` of the one
    before, or, if that ran in the other direction, beyond the column's values.
    """
    return f"""SELECT seqincrement INTO step FROM pg_sequence WHERE seqrelid = held;
IF sign(step_before) <> sign(step) THEN
    called := true;
{indent(_read_furthest(names, table, column, "last"))}
END IF;
EXECUTE 'SELECT last_value FROM ' || held INTO reached;
IF sign(step) * (last::numeric - reached) > 0 OR (reached = last AND called) THEN
    PERFORM setval(held, last, called);
END IF;"""


def _read_furthest(names: QuotedNames, table: str, column: str, variable: str) -> str:
    """Return SQL that reads a column's value furthest in the direction of the sequence ``held``, of
    those that the sequence can hand out.

    The others conflict with nothing, and ``setval()`` refuses them.
    """
    # A statement of its own, since a column of the table may have the name of a variable.
    query = names.literal(f"({column}) FROM {table} WHERE {column} BETWEEN $1 AND $2")
    return f"""SELECT seqincrement, seqmin, seqmax INTO step, low, high
FROM pg_sequence WHERE seqrelid = held;
EXECUTE 'SELECT ' || CASE WHEN step > 0 THEN 'max' ELSE 'min' END || {query}
INTO {variable} USING low, high;"""


def _held_sequence(names: QuotedNames, table: str, column: str) -> str:
    """Return SQL for the sequence of a column: identity or owned, else the one in its default; of
    several that it owns, the one in its default.
    """
    table_literal, column_literal = names.literal(table), names.literal_name(column)
    return (
        "(\n"
        "    SELECT x.oid::regclass FROM (\n"
        "        SELECT o.objid AS oid, CASE o.deptype WHEN 'i' THEN 2 ELSE 1 END AS rank\n"
        "        FROM pg_attribute a\n"
        "        JOIN pg_depend o ON o.refclassid = 'pg_class'::regclass"
        " AND o.refobjid = a.attrelid\n"
        "        AND o.refobjsubid = a.attnum AND o.classid = 'pg_class'::regclass"
        " AND o.deptype IN ('a', 'i')\n"
        f"        WHERE a.attrelid = {table_literal}::regclass AND a.attname = {column_literal}\n"
        "        UNION ALL\n"
        "        SELECT d.refobjid, 0 FROM pg_attribute a\n"
        "        JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum\n"
        "        JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid\n"
        f"        WHERE a.attrelid = {table_literal}::regclass AND a.attname = {column_literal}\n"
        "    ) x JOIN pg_sequence s ON s.seqrelid = x.oid\n"
        "    GROUP BY x.oid ORDER BY count(*) DESC, max(x.rank) DESC LIMIT 1\n"
        ")"
    )
