"""Why rows go another way than COPY: every reason that ``explain()`` and the reports give, each
with its remedy.

A reason is a value. It is made here, where the names in it are known, and whoever decides by one
compares the value, never its text. The guide ``explain`` lists them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason, and what somebody can do about it; ``str()`` is the reason's text.

    Two reasons are equal where they say the same, so that rows can be summed up by them.
    """

    text: str
    remedy: str

    def __str__(self) -> str:
        return self.text


_NOTHING: Final = "nothing: SQLAlchemy writes as it would without register()"
_BULK: Final = 'set registration.mode = "bulk"'
_PSYCOPG: Final = "use psycopg: postgresql+psycopg://"
_ONLY_LOOKS: Final = "listen to before_cursor_execute or after_cursor_execute if it only looks"
_SAME_TYPE: Final = "give model and database the same type"
_SET_KEY: Final = "set the key before the flush, or have one sequence number it"

# Settings and sessions

NOT_ENROLLED: Final = Reason(
    "the class is not enrolled", "name it, or its base, in register(classes=...)"
)
MODE_OFF: Final = Reason("mode is off", _BULK)
MODE_RESERVE: Final = Reason("mode is reserve", _BULK)
SHARDED: Final = Reason("the session is sharded", "give each database a session of its own")
TWO_PHASE: Final = Reason(
    "the session is two-phase", "leave twophase out where one database is written"
)
PARTIAL: Final = Reason("flush(objects) was called", "call flush() for all")
NOT_BATCHED: Final = Reason(
    "the mapper has batch=False",
    "leave batch=False out of the mapper, unless an event counts on saves one by one",
)
AUTOCOMMIT: Final = Reason(
    "the connection is in autocommit",
    "save in a transaction, not with isolation_level AUTOCOMMIT",
)
OLD_SNAPSHOT: Final = Reason(
    "the transaction sees an old snapshot (REPEATABLE READ or SERIALIZABLE)",
    "use READ COMMITTED, or save before anything is read",
)
NOT_COMPARABLE: Final = Reason(
    "nothing can be compared in this transaction",
    "write in a READ COMMITTED transaction, as a role that may INSERT into the whole table",
)
IN_PAGES: Final = Reason(
    "SQLAlchemy sends many rows in one statement",
    "nothing: SQLAlchemy executes it as it would without register()",
)

# COMMIT by itself

COMMIT_APART: Final = Reason('commit is "apart"', 'register with commit="along"')
SEVERAL_CONNECTIONS: Final = Reason(
    "the session's transaction has several connections", "give each database a session of its own"
)
GIVEN_CONNECTION: Final = Reason(
    "the session was given its connection, or has a savepoint or a two-phase transaction on it",
    "give the session an engine, and let it begin its own transaction",
)
OWN_FLUSH: Final = Reason(
    "the session has a flush() of its own, which may act before the COMMIT",
    "listen to before_flush in its place",
)
MORE_TO_FLUSH: Final = Reason(
    "listeners have added or changed objects that are flushed next",
    "add and change them in before_flush",
)
COUNTED: Final = Reason(
    "SQLAlchemy compares how many rows an UPDATE or DELETE has matched",
    "nothing: the COMMIT follows once the rows are counted",
)
ACTS_AFTER_INSERT: Final = Reason(
    "listeners to refresh_flush, expire or an attribute hear of an inserted object",
    "listen to before_flush or after_commit in their place",
)
NOT_LOOKED_AT: Final = Reason(
    "the table of a row that brings values back was not looked at yet",
    "nothing: a flush that reserves keys, or a second one, looks at it",
)


def listener_between(event: str) -> Reason:
    return Reason(
        f"a listener to {event} may act before the COMMIT",
        "listen to before_flush or after_commit in its place",
    )


def no_commit_along(driver: str) -> Reason:
    return Reason(f"{driver} sends COMMIT in a round trip of its own here", _PSYCOPG)


def may_come_back_otherwise(table: str) -> Reason:
    return Reason(
        f"what comes back of an INSERT into {table} may make SQLAlchemy refuse it",
        "nothing: the COMMIT follows once the values are looked at",
    )


# Databases and drivers

CLIENT_CURSOR: Final = Reason(
    "psycopg's ClientCursor writes values into the statement, where they have other types than "
    "COPY gives them",
    "leave cursor_factory out; behind a pooler, prepare_threshold=None is enough",
)
WAIT_CALLBACK: Final = Reason(
    "psycopg2 takes no COPY while a wait callback is set (psycogreen, gevent)", _PSYCOPG
)


def not_postgresql(database: str) -> Reason:
    return Reason(f"the database is {database}", "nothing: only PostgreSQL is sped up")


def other_engine(name: str) -> Reason:
    return Reason(f"{name} is not PostgreSQL, and reserving ids was not tried on it", _NOTHING)


def no_xmin(name: str) -> Reason:
    return Reason(
        f"the catalogue of this {name} has no xmin, so nobody can tell whether what is known of a "
        "table still holds",
        _NOTHING,
    )


def no_fast_path(driver: str) -> Reason:
    return Reason(
        f"driver {driver} has no fast path here; use psycopg, psycopg2 or asyncpg (the part of the "
        "URL after postgresql+)",
        _PSYCOPG,
    )


def no_binary_codec(oid: int) -> Reason:
    return Reason(f"asyncpg has no binary codec for the type with oid {oid} here", _PSYCOPG)


def no_copy_through(cls: type) -> Reason:
    return Reason(
        f"{cls.__module__}.{cls.__qualname__}, in the place of the driver's own, has no COPY",
        "have that class pass on what it does not know",
    )


# Who listens, or writes statements

CHANGING_LISTENER: Final = Reason(
    "a listener to before_cursor_execute with retval=True may change each INSERT",
    "leave retval=True out if it only looks, or takes notes",
)


def listener_to(event: str) -> Reason:
    return Reason(f"a listener to {event} may see, change or refuse each INSERT", _ONLY_LOOKS)


def executing_listener_to(event: str) -> Reason:
    return Reason(f"a listener to {event} may execute each INSERT by itself", _ONLY_LOOKS)


def compiled_otherwise(element: str) -> Reason:
    return Reason(
        f"@compiles({element}) of the application may write another INSERT",
        f"compile a class of your own that derives from {element}",
    )


def own_way(cls: str) -> Reason:
    return Reason(f"{cls} makes or executes statements in its own way", _NOTHING)


# Tables

NO_TABLE: Final = Reason(
    "the database has no such table", "create it, or have search_path lead to it"
)
VERSION_BY_DATABASE: Final = Reason(
    "its version is generated by the database",
    "have SQLAlchemy count versions: leave version_id_generator=False out",
)
RESTLESS: Final = Reason(
    "its tables are altered faster than they can be looked at",
    "save when the migration is through",
)
DISTRIBUTED: Final = Reason(
    "Citus distributes the table: each INSERT travels to its shard and COPY goes from shard to "
    "shard, so COPY pays from more rows on",
    "nothing: copy_from of explain() says from how many rows COPY pays",
)
REFUSED_BY_CITUS: Final = Reason(
    "Citus refused the COPY", "nothing: INSERT writes the rows, or says what is wrong with them"
)


def not_a_table(table: str, kind: str = "not a table") -> Reason:
    return Reason(f"{table} is {kind}", "map the table that holds the rows")


def no_insert_privilege(table: str) -> Reason:
    return Reason(
        f"the role has no INSERT privilege on the whole of {table}",
        f"GRANT INSERT ON {table} to the role",
    )


def before_insert_trigger(table: str) -> Reason:
    return Reason(
        f"{table} has a BEFORE INSERT trigger, which may change or discard rows",
        "make it an AFTER trigger, a default or a generated column, if it may be one",
    )


def row_security(table: str) -> Reason:
    return Reason(
        f"{table} has row-level security",
        "nothing: under row-level security SQLAlchemy writes as it would without register()",
    )


def insert_rule(table: str) -> Reason:
    return Reason(f"{table} has a rule on INSERT", "make the rule an AFTER INSERT trigger")


def no_column(table: str, column: str) -> Reason:
    return Reason(
        f"{table} has no column {column}", "migrate the table, or take the column off the model"
    )


# Columns


def computed(column: str) -> Reason:
    return Reason(f"column {column} is computed by the database", "declare it as Computed")


def wrapped_in_sql(column: str) -> Reason:
    return Reason(
        f"the type of {column} wraps its values in SQL",
        "convert in process_bind_param, not in bind_expression, or register a CopyCodec",
    )


def sql_default(name: str) -> Reason:
    return Reason(
        f"the default of {name} is an SQL expression",
        f"make the default of {name} a server_default or a Python function",
    )


def sentinel(column: str) -> Reason:
    return Reason(
        f"{column} is an insert_sentinel, which SQLAlchemy counts as it inserts",
        "leave insert_sentinel() out of the table, if no other database needs it",
    )


def other_type(column: str, model: str, stored: str) -> Reason:
    return Reason(f"column {column} is {model} in the model, {stored} in the database", _SAME_TYPE)


def narrowing_type(column: str, model: str, stored: str) -> Reason:
    return Reason(
        f"column {column} is {model} in the model, to which INSERT casts, {stored} in the database",
        _SAME_TYPE,
    )


def no_model_type(column: str) -> Reason:
    return Reason(f"column {column} has no type in the model", "give the column a type")


def domain_over_domain(column: str) -> Reason:
    return Reason(
        f"column {column} is a domain over a domain", "make it a domain over the type itself"
    )


def type_below_domain(column: str, stored: str) -> Reason:
    return Reason(
        f"column {column} is a DOMAIN over {stored} in the model: its values are the driver's",
        "give the column the type below in the model",
    )


# Keys

NO_GENERATED_KEY: Final = Reason("no key column is generated by the database", _SET_KEY)
NO_TABLE_OF_ITS_OWN: Final = Reason("it is not mapped to a table of its own", _SET_KEY)
NO_KEYS_RESERVED: Final = Reason("no keys were reserved", _NOTHING)
KEYS_OF_THE_USER: Final = Reason(
    "the keys are the user's own",
    "leave the keys out, or make the column GENERATED BY DEFAULT",
)


def not_reserved(reason: Reason) -> Reason:
    """The same, of a class whose keys the database gives."""
    return Reason(f"no id is reserved: {reason.text}", reason.remedy)


def key_type(column: str, expected: str) -> Reason:
    return Reason(
        f"key column {column} is not {expected}",
        "make the key in Python: a default such as uuid.uuid4",
    )


def key_stored_as(column: str, stored: str) -> Reason:
    return Reason(f"column {column} is {stored} in the database", _SAME_TYPE)


def trigger_on_key(table: str) -> Reason:
    return Reason(f"a BEFORE INSERT trigger of {table} may change the key", _SET_KEY)


def rule_on_key(table: str) -> Reason:
    return Reason(f"a rule on INSERT of {table} may discard the row of a key", _SET_KEY)


def no_sequence(sequence: str) -> Reason:
    return Reason(f"the database has no sequence {sequence}", f"create sequence {sequence}")


def no_sequence_for(column: str) -> Reason:
    return Reason(
        f"the database has no sequence for column {column}",
        f"number {column} by an identity: ALTER TABLE .. ADD GENERATED BY DEFAULT AS IDENTITY",
    )


def no_default_for(column: str) -> Reason:
    return Reason(
        f"the database has no default of column {column} that gives another value each time",
        "give it a volatile default, such as gen_random_uuid(), or set the key before the flush",
    )


def no_usage(sequence: str) -> Reason:
    return Reason(
        f"the role has no USAGE privilege on sequence {sequence}",
        f"GRANT USAGE ON SEQUENCE {sequence} to the role",
    )


def beyond_model(sequence: str, column: str) -> Reason:
    return Reason(
        f"ids of {sequence} are beyond the type of {column} in the model",
        f"declare {column} as BigInteger",
    )


def default_not_allowed(column: str) -> Reason:
    return Reason(
        f"the role may not use all that the default of {column} calls",
        f"GRANT EXECUTE on the functions of {column}, and USAGE on their schemas, to the role",
    )


def default_gave(default: str, what: str) -> Reason:
    return Reason(
        f"its default {default} gave {what}",
        "give it a default that is another value each time, or set the key before the flush",
    )
