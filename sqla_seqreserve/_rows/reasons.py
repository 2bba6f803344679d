"""Why rows of a class that COPY writes go another way, by what they hold; and why a statement for
many rows is executed row by row: what only a report says. The remedies are there too.
"""

from __future__ import annotations

from typing import Final

from .._reasons import Reason

_NOTHING: Final = "nothing: SQLAlchemy executes it as it would without register()"
_PSYCOPG: Final = "use psycopg: postgresql+psycopg://"
_ONE_TYPE: Final = "give all rows values of one Python type in this column"

# What rows hold

FEW: Final = Reason(
    "few rows",
    "nothing: INSERT is cheaper; copy_from of explain() says from how many rows COPY is cheaper, "
    "many_from from how many changed or deleted objects one statement for all is",
)
FEWER_THAN_ASKED: Final = Reason(
    "few rows: fewer than copy_min_rows", "leave copy_min_rows out, to have it chosen by cost"
)
FEW_OF_THEIR_KIND: Final = Reason(
    "few rows of their kind",
    "nothing, or set the same attributes on all objects: a COPY needs one set of columns",
)
FEW_FOR_SHARDS: Final = Reason("few rows for many shards", "nothing: INSERT is cheaper")
SEVERAL_TYPES: Final = Reason("some rows hold values of several types", _ONE_TYPE)


def sql_expression(attribute: str) -> Reason:
    return Reason(
        f"{attribute} is an SQL expression", "compute it in Python, or by the server's default"
    )


def no_value(attribute: str) -> Reason:
    return Reason(
        f"{attribute} has no value",
        "set the key in Python; by a server default the database makes it, and INSERT brings it "
        "back",
    )


def context_default(column: str) -> Reason:
    return Reason(
        f"the rows give different columns, and the default of {column} takes a context: by it the "
        "default may look at the rows before",
        f"give {column} a default without a context, or set the same attributes on all objects",
    )


def not_processed(column: str, error: str) -> Reason:
    return Reason(f"{column} cannot be processed ({error})", "give it a value that its type takes")


def unknown_types(column: str, types: str, declared: str) -> Reason:
    return Reason(
        f"{column} holds {types} for a column of type {declared}",
        "give it the column's own Python type, or register a CopyCodec for the type",
    )


def refused_by_codec(column: str, why: str) -> Reason:
    return Reason(
        f"the CopyCodec of {column} refuses a value ({why})",
        "nothing where the value is right: INSERT writes it",
    )


def not_as_text(column: str) -> Reason:
    return Reason(
        f"another column has the rows go as text, in which {column} holds a value that COPY and "
        "INSERT may read otherwise",
        _PSYCOPG,
    )


def several_types(column: str) -> Reason:
    return Reason(
        f"{column} holds values of several types, which INSERT may cast to one of them", _ONE_TYPE
    )


def may_be_cast(attribute: str) -> Reason:
    return Reason(
        f"{attribute} holds values that an INSERT with known keys may cast otherwise", _ONE_TYPE
    )


def cast_or_refused(column: str) -> Reason:
    return Reason(
        f"{column} holds a value that the server would cast or refuse",
        "give it a value that the column takes as it is: a time zone only where the column has one",
    )


def not_in_utc(column: str) -> Reason:
    return Reason(
        f"{column} holds a time that cannot be converted to a naive one in UTC",
        "give the value no time zone, or the column DateTime(timezone=True)",
    )


def adapted(column: str, type_: str) -> Reason:
    return Reason(
        f"{column} holds {type_}, for which the application has an adapter of its own",
        "nothing: what was registered with the driver for a type is honoured",
    )


# Statements for many rows

SAME_KEY: Final = Reason("two rows may be for the same key", "give each row once")
OWN_SCHEMAS: Final = Reason(
    "the statement has a schema_translate_map of its own",
    "set it on the session's connection or the engine",
)
NOT_PLAIN: Final = Reason("the statement is more than its table, its values and its key", _NOTHING)
NOT_AN_ARRAY: Final = Reason(
    "a parameter holds values that an array might not hold exactly", _ONE_TYPE
)
STATEMENT_CHANGED: Final = Reason(
    "a listener of the engine changed the statement",
    "leave retval=True out if the listener only looks, or takes notes",
)
ALTERED: Final = Reason(
    "the table was altered meanwhile, or cannot be locked",
    "nothing: the next statement finds the table as it is now",
)
VALUES_COME_BACK: Final = Reason(
    "values of the database come back with each row",
    "leave eager_defaults=True out, if they need not be there at once",
)
EXPRESSION_SET: Final = Reason(
    "an SQL expression is set", "nothing: each object has a statement of its own"
)
VERSION_ALONE: Final = Reason("SQLAlchemy compares each version by itself", _NOTHING)
REGISTERED_LATE: Final = Reason(
    "the session was registered within its transaction", "register it before it is used"
)
DISTRIBUTED_STATEMENT: Final = Reason("Citus distributes the table", _NOTHING)


def watched_statement(table: str, kind: str) -> Reason:
    return Reason(f"{table} has a rule or a trigger on {kind}", _NOTHING)


def inherited(table: str) -> Reason:
    return Reason(f"other tables inherit from {table}", _NOTHING)


def not_lockable(table: str) -> Reason:
    return Reason(
        f"the role may not lock {table} or its rows", f"GRANT UPDATE ON {table} to the role"
    )


def rows_refer(table: str) -> Reason:
    return Reason(f"rows of {table} refer to each other", _NOTHING)


def unique_columns(columns: str) -> Reason:
    return Reason(f"a unique index looks at {columns}", _NOTHING)
