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

from sqlalchemy import Sequence
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import DDLElement
from sqlalchemy.sql.compiler import DDLCompiler


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


class QuotedNames:
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


def do_block(declarations: str, body: str) -> str:
    # A column of the table may have the name of one of our variables.
    text = (
        "#variable_conflict use_column\n"
        f"DECLARE\n{indent(declarations)}\nBEGIN\n{indent(body)}\nEND"
    )
    tag = "$do$"
    while tag in text:
        tag = f"{tag[:-1]}_$"
    return f"DO {tag}\n{text}\n{tag}"


def indent(text: str) -> str:
    return "\n".join(f"    {line}" if line else line for line in text.strip().splitlines())


@compiles(AlterSequence)
def _alter_sequence(element: AlterSequence, compiler: DDLCompiler, **kw: Any) -> str:
    names = QuotedNames(compiler)
    quoted = [
        ".".join([names.table(name[0], name[2]), names.column(name[1])])
        if isinstance(name, tuple)
        else names.column(name)
        for name in element.names
    ]
    return " ".join(["ALTER SEQUENCE", names.sequence(element.sequence), element.clause, *quoted])


@compiles(AlterBounds)
def _alter_bounds(element: AlterBounds, compiler: DDLCompiler, **kw: Any) -> str:
    name = QuotedNames(compiler).sequence(element.sequence)
    literal = QuotedNames.literal(name)
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
    alter = QuotedNames.literal(f"ALTER SEQUENCE {name} {option_clauses(element.changes)}")
    restart = (
        f"(SELECT CASE {' '.join(cases)} ELSE '' END "
        f"FROM {name}, pg_sequence WHERE seqrelid = held)"
    )
    return do_block(
        f"held regclass := {literal};", f"{keep_out('held')}\nEXECUTE {alter} || {restart};"
    )


@compiles(CommentOnSequence)
def _comment_on_sequence(element: CommentOnSequence, compiler: DDLCompiler, **kw: Any) -> str:
    names = QuotedNames(compiler)
    comment = "NULL" if element.comment is None else names.literal_name(element.comment)
    return f"COMMENT ON SEQUENCE {names.sequence(element.sequence)} IS {comment}"


def keep_out(held: str) -> str:
    """Return SQL that changes nothing, but blocks ``nextval()`` on the sequence until the
    transaction ends.
    """
    return (
        f"EXECUTE 'ALTER SEQUENCE ' || {held} || ' INCREMENT BY ' "
        f"|| (SELECT seqincrement FROM pg_sequence WHERE seqrelid = {held});"
    )
