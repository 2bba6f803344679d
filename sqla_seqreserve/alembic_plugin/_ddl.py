"""The SQL of the operations, as DDL elements: one or a few statements each, none of which reads a
result.

Every element compiles without a connection, so ``--sql`` writes the same SQL that runs online.
Decisions that depend on the state of the database, above all on positions, are made inside the
server, in a ``DO`` block, under locks.
"""

# Names and literals come quoted by the preparer, and compilers have SQLAlchemy's signature:
# ruff: noqa: ARG001, S608

from __future__ import annotations

from typing import Any

from sqlalchemy import Identity, Sequence
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import DDLElement
from sqlalchemy.sql.compiler import DDLCompiler

from ._options import SequenceOptions


class AlterSequence(DDLElement):
    """``ALTER SEQUENCE`` with one or more clauses, written by :func:`option_clauses` and similar
    functions.
    """

    def __init__(
        self, sequence: Sequence, clause: str, *names: str | tuple[str, str, str | None]
    ) -> None:
        self.sequence, self.clause, self.names = sequence, clause, names


class AlterBounds(DDLElement):
    """``ALTER SEQUENCE`` with new bounds, which moves a position that they pass forward into them;
    never back.
    """

    def __init__(self, sequence: Sequence, options: dict[str, Any]) -> None:
        self.sequence, self.changes = sequence, options


class CommentOnSequence(DDLElement):
    """``COMMENT ON SEQUENCE``; ``None`` removes the comment."""

    def __init__(self, sequence: Sequence, comment: str | None) -> None:
        self.sequence, self.comment = sequence, comment


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


def option_clauses(options: dict[str, Any]) -> str:
    """Return the clauses for the options of ``op.alter_sequence``; a bound of ``None`` is ``NO
    MINVALUE`` or ``NO MAXVALUE``.
    """
    clauses = []
    for name, value in options.items():
        if name == "cycle":
            clauses.append("CYCLE" if value else "NO CYCLE")
        elif name == "data_type":
            clauses.append(f"AS {value}")
        elif value is None:
            clauses.append(f"NO {name.upper()}")
        else:
            clauses.append(f"{_CLAUSES[name]} {value:d}")
    return " ".join(clauses)


_CLAUSES = {
    "increment": "INCREMENT BY",
    "minvalue": "MINVALUE",
    "maxvalue": "MAXVALUE",
    "start": "START WITH",
    "restart": "RESTART WITH",
    "cache": "CACHE",
}


class _Names:
    """Names as the compiler's dialect quotes them: as identifiers, and inside string literals."""

    def __init__(self, compiler: DDLCompiler) -> None:
        self.preparer = compiler.preparer

    def sequence(self, sequence: Sequence) -> str:
        return self.preparer.format_sequence(sequence)

    def table(self, table: str, schema: str | None) -> str:
        quoted = self.preparer.quote(table)
        return f"{self.preparer.quote_schema(schema)}.{quoted}" if schema else quoted

    def column(self, column: str) -> str:
        return self.preparer.quote(column)

    def literal_name(self, name: str) -> str:
        """Return a name in the form that PostgreSQL reads as plain text, not as an identifier."""
        return self.literal(self.preparer.quote_identifier(name)[1:-1].replace('""', '"'))

    @staticmethod
    def literal(sql: str) -> str:
        """Return a string literal of text that the preparer has quoted already, per cent signs
        included.
        """
        return "'" + sql.replace("'", "''") + "'"


def _block(declarations: str, body: str) -> str:
    # A column of the table may have the name of one of our variables.
    text = (
        "#variable_conflict use_column\n"
        f"DECLARE\n{_indent(declarations)}\nBEGIN\n{_indent(body)}\nEND"
    )
    tag = "$do$"
    while tag in text:
        tag = f"{tag[:-1]}_$"
    return f"DO {tag}\n{text}\n{tag}"


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" if line else line for line in text.strip().splitlines())


@compiles(AlterSequence)
def _alter_sequence(element: AlterSequence, compiler: DDLCompiler, **kw: Any) -> str:
    names = _Names(compiler)
    quoted = [
        ".".join([names.table(name[0], name[2]), names.column(name[1])])
        if isinstance(name, tuple)
        else names.column(name)
        for name in element.names
    ]
    return " ".join(["ALTER SEQUENCE", names.sequence(element.sequence), element.clause, *quoted])


@compiles(AlterBounds)
def _alter_bounds(element: AlterBounds, compiler: DDLCompiler, **kw: Any) -> str:
    name = _Names(compiler).sequence(element.sequence)
    literal = _Names.literal(name)
    cases = []
    for option, nearest, ascends, behind in (
        ("minvalue", 1, "> 0", "<"),
        ("maxvalue", -1, "< 0", ">"),
    ):
        if option in element.changes:
            given = element.changes[option]
            bound = nearest if given is None else given
            cases.append(
                f"WHEN seqincrement {ascends} AND last_value {behind} {bound:d} "
                f"THEN ' RESTART WITH {bound:d}'"
            )
    alter = _Names.literal(f"ALTER SEQUENCE {name} {option_clauses(element.changes)}")
    restart = (
        f"(SELECT CASE {' '.join(cases)} ELSE '' END "
        f"FROM {name}, pg_sequence WHERE seqrelid = held)"
    )
    return _block(
        f"held regclass := {literal};", f"{_keep_out('held')}\nEXECUTE {alter} || {restart};"
    )


@compiles(CommentOnSequence)
def _comment_on_sequence(element: CommentOnSequence, compiler: DDLCompiler, **kw: Any) -> str:
    names = _Names(compiler)
    comment = "NULL" if element.comment is None else names.literal_name(element.comment)
    return f"COMMENT ON SEQUENCE {names.sequence(element.sequence)} IS {comment}"


@compiles(ResyncColumn)
def _resync_column(element: ResyncColumn, compiler: DDLCompiler, **kw: Any) -> str:
    names = _Names(compiler)
    table, column = names.table(element.table, element.schema), names.column(element.column)
    if element.sequence is not None:
        held = f"{names.literal(names.sequence(element.sequence))}::regclass"
    else:
        held = _held_sequence(names, table, element.column)
    missing = names.literal(
        f"{table}.{column} has no sequence: "
        "expected an identity, an owned sequence or a default of nextval()"
    )
    return _block(
        """
held regclass;
step bigint;
low bigint;
high bigint;
furthest bigint;
last bigint;
called boolean;
""",
        f"""
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE;
held := {held};
IF held IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = {missing};
END IF;
{_keep_out("held")}
{_read_furthest(names, table, column, "furthest")}
EXECUTE 'SELECT last_value, is_called FROM ' || held INTO last, called;
IF sign(step) * (furthest - last - CASE WHEN called THEN step ELSE 0 END::numeric) >= 0 THEN
    PERFORM setval(held, furthest);
END IF;
""",
    )


@compiles(AdoptColumn)
def _adopt_column(element: AdoptColumn, compiler: DDLCompiler, **kw: Any) -> str:
    names = _Names(compiler)
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
    return _block(
        """
held regclass;
step bigint;
low bigint;
high bigint;
last bigint;
called boolean := true;
reached bigint;
""",
        f"""
LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;
held := {_held_sequence(names, table, element.column)};
IF held IS NULL THEN
    {create};
    held := {literal};
    {_read_furthest(names, table, column, "last")}
ELSE
    {_keep_out("held")}
    IF {identity} THEN
        EXECUTE 'SELECT last_value, is_called FROM ' || held INTO last, called;
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
{_keep_out("held")}
SELECT seqincrement INTO step FROM pg_sequence WHERE seqrelid = held;
SELECT last_value INTO reached FROM {name};
IF sign(step) * (last::numeric - reached) > 0 OR (reached = last AND called) THEN
    PERFORM setval(held, last, called);
END IF;
ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT nextval({literal});
{owned}
""",
    )


@compiles(ReleaseColumn)
def _release_column(element: ReleaseColumn, compiler: DDLCompiler, **kw: Any) -> str:
    names = _Names(compiler)
    table, column = names.table(element.table, element.schema), names.column(element.column)
    name = names.sequence(element.sequence)
    away = f"ALTER SEQUENCE {name} OWNED BY NONE;"
    if not element.keep:
        away += f"\nDROP SEQUENCE {name};"
    body = f"""
LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;
held := {names.literal(name)};
{_keep_out("held")}
SELECT last_value, is_called INTO last, called FROM {name};
ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT;
{away}
"""
    if element.identity is not None:
        identity = element.identity
        clauses = option_clauses(SequenceOptions.declared_by(identity).given())
        if element.identity_sequence is not None:
            clauses = f"SEQUENCE NAME {names.sequence(element.identity_sequence)} {clauses}".strip()
        behind = ">" if identity.increment is not None and identity.increment < 0 else "<"
        body += f"""
ALTER TABLE {table} ALTER COLUMN {column}
    ADD GENERATED {"ALWAYS" if identity.always else "BY DEFAULT"} AS IDENTITY{
            f" ({clauses})" if clauses else ""
        };
held := pg_get_serial_sequence({names.literal(table)}, {names.literal_name(element.column)});
EXECUTE 'SELECT last_value FROM ' || held INTO reached;
IF reached {behind} last OR (reached = last AND called) THEN
    PERFORM setval(held, last, called);
END IF;
"""
    return _block("held regclass;\nlast bigint;\ncalled boolean;\nreached bigint;", body)


def _keep_out(held: str) -> str:
    """Return SQL that changes nothing, but blocks ``nextval()`` on the sequence until the
    transaction ends.
    """
    return (
        f"EXECUTE 'ALTER SEQUENCE ' || {held} || ' INCREMENT BY ' "
        f"|| (SELECT seqincrement FROM pg_sequence WHERE seqrelid = {held});"
    )


def _read_furthest(names: _Names, table: str, column: str, variable: str) -> str:
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


def _held_sequence(names: _Names, table: str, column: str) -> str:
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
