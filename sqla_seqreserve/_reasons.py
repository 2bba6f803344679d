"""Why rows go another way than COPY or one statement: every reason that ``explain()`` and the
reports give, each with its remedy.

A reason is a value, and whoever decides by one compares the value, never its text. The guide
``explain`` lists them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter
from typing import Final


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason, and what somebody can do about it; ``str()`` is the reason's text. Two are equal
    where they say the same, so that rows can be summed up by them.
    """

    text: str
    remedy: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ReasonFor:
    """A reason that names a table, a column or the like; called with them, in its text's order."""

    text: str
    remedy: str

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called with."""
        return tuple(name for _, name, _, _ in Formatter().parse(self.text) if name)

    def __call__(self, *values: object) -> Reason:
        given = dict(zip(self.names, values, strict=True))
        return Reason(self.text.format(**given), self.remedy.format(**given))


_BULK: Final = 'set registration.mode = "bulk"'
_NOTHING: Final = "nothing: SQLAlchemy writes as it would without register()"
_NOT_TOGETHER: Final = "nothing: SQLAlchemy executes it as it would without register()"
_ONE_TYPE: Final = "give all rows values of one Python type in this column"
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
    "the connection is in autocommit", "save in a transaction, not with isolation_level AUTOCOMMIT"
)
OLD_SNAPSHOT: Final = Reason(
    "the transaction sees an old snapshot (REPEATABLE READ or SERIALIZABLE)",
    "use READ COMMITTED, or save before anything is read",
)
NOT_COMPARABLE: Final = Reason(
    "nothing can be compared in this transaction",
    "write in a READ COMMITTED transaction, as a role that may INSERT into the whole table",
)
IN_PAGES: Final = Reason("SQLAlchemy sends many rows in one statement", _NOT_TOGETHER)

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
    "SQLAlchemy counts the rows that an UPDATE or DELETE matches: their values come back, they are "
    "many for this distance, or the table has rules",
    "nothing: the COMMIT follows once the rows are counted",
)
NEAR: Final = Reason(
    "the server is near: what is compared before the COMMIT takes longer than a round trip",
    "nothing: where the keys of all rows are known before, it travels along",
)
ACTS_AFTER_INSERT: Final = Reason(
    "listeners to refresh_flush, expire or an attribute hear of an inserted object",
    "listen to before_flush or after_commit in their place",
)
NOT_LOOKED_AT: Final = Reason(
    "the table of a row that brings values back was not looked at yet",
    "nothing: a flush that reserves keys, or a second one, looks at it",
)
listener_between = ReasonFor(
    "a listener to {event} may act before the COMMIT",
    "listen to before_flush or after_commit in its place",
)
no_commit_along = ReasonFor("{driver} sends COMMIT in a round trip of its own here", _PSYCOPG)
may_come_back_otherwise = ReasonFor(
    "what comes back of an INSERT into {table} may make SQLAlchemy refuse it",
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
not_postgresql = ReasonFor("the database is {database}", "nothing: only PostgreSQL is sped up")
other_engine = ReasonFor(
    "{name} is not PostgreSQL, and reserving ids was not tried on it", _NOTHING
)
no_xmin = ReasonFor(
    "the catalogue of this {name} has no xmin, so nobody can tell whether what is known of a "
    "table still holds",
    _NOTHING,
)
no_fast_path = ReasonFor(
    "driver {driver} has no fast path here; use psycopg, psycopg2 or asyncpg (the part of the "
    "URL after postgresql+)",
    _PSYCOPG,
)
no_binary_codec = ReasonFor(
    "asyncpg has no binary codec for the type with oid {oid} here", _PSYCOPG
)


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
listener_to = ReasonFor("a listener to {event} may see, change or refuse each INSERT", _ONLY_LOOKS)
executing_listener_to = ReasonFor(
    "a listener to {event} may execute each INSERT by itself", _ONLY_LOOKS
)
compiled_otherwise = ReasonFor(
    "@compiles({element}) of the application may write another INSERT",
    "compile a class of your own that derives from {element}",
)
own_way = ReasonFor("{cls} makes or executes statements in its own way", _NOTHING)

# Tables

NO_TABLE: Final = Reason(
    "the database has no such table", "create it, or have search_path lead to it"
)
VERSION_BY_DATABASE: Final = Reason(
    "its version is generated by the database",
    "have SQLAlchemy count versions: leave version_id_generator=False out",
)
RESTLESS: Final = Reason(
    "its tables are altered faster than they can be looked at", "save when the migration is through"
)
DISTRIBUTED: Final = Reason(
    "Citus distributes the table: each INSERT travels to its shard and COPY goes from shard to "
    "shard, so COPY pays from more rows on",
    "nothing: copy_from of explain() says from how many rows COPY pays",
)
REFUSED_BY_CITUS: Final = Reason(
    "Citus refused the COPY", "nothing: INSERT writes the rows, or says what is wrong with them"
)
not_a_table = ReasonFor("{table} is {kind}", "map the table that holds the rows")
no_insert_privilege = ReasonFor(
    "the role has no INSERT privilege on the whole of {table}",
    "GRANT INSERT ON {table} to the role",
)
before_insert_trigger = ReasonFor(
    "{table} has a BEFORE INSERT trigger, which may change or discard rows",
    "make it an AFTER trigger, a default or a generated column, if it may be one",
)
row_security = ReasonFor(
    "{table} has row-level security",
    "nothing: under row-level security SQLAlchemy writes as it would without register()",
)
insert_rule = ReasonFor("{table} has a rule on INSERT", "make the rule an AFTER INSERT trigger")
no_column = ReasonFor(
    "{table} has no column {column}", "migrate the table, or take the column off the model"
)

# Columns

computed = ReasonFor("column {column} is computed by the database", "declare it as Computed")
wrapped_in_sql = ReasonFor(
    "the type of {column} wraps its values in SQL",
    "convert in process_bind_param, not in bind_expression, or register a CopyCodec",
)
sql_default = ReasonFor(
    "the default of {name} is an SQL expression",
    "make the default of {name} a server_default or a Python function",
)
sentinel = ReasonFor(
    "{column} is an insert_sentinel, which SQLAlchemy counts as it inserts",
    "leave insert_sentinel() out of the table, or make its keys in Python",
)
other_type = ReasonFor(
    "column {column} is {model} in the model, {stored} in the database", _SAME_TYPE
)
narrowing_type = ReasonFor(
    "column {column} is {model} in the model, to which INSERT casts, {stored} in the database",
    _SAME_TYPE,
)
no_model_type = ReasonFor("column {column} has no type in the model", "give the column a type")
domain_over_domain = ReasonFor(
    "column {column} is a domain over a domain", "make it a domain over the type itself"
)
type_below_domain = ReasonFor(
    "column {column} is a DOMAIN over {stored} in the model: its values are the driver's",
    "give the column the type below in the model",
)


# Keys

NO_GENERATED_KEY: Final = Reason("no key column is generated by the database", _SET_KEY)
NO_TABLE_OF_ITS_OWN: Final = Reason("it is not mapped to a table of its own", _SET_KEY)
NO_KEYS_RESERVED: Final = Reason("no keys were reserved", _NOTHING)
KEYS_OF_THE_USER: Final = Reason(
    "the keys are the user's own", "leave the keys out, or make the column GENERATED BY DEFAULT"
)


def not_reserved(reason: Reason) -> Reason:
    """Return the reason why no key is reserved, as the reason why COPY does not write the class."""
    return Reason(f"no id is reserved: {reason.text}", reason.remedy)


key_type = ReasonFor(
    "key column {column} is not {expected}", "make the key in Python: a default such as uuid.uuid4"
)
key_stored_as = ReasonFor("column {column} is {stored} in the database", _SAME_TYPE)
trigger_on_key = ReasonFor("a BEFORE INSERT trigger of {table} may change the key", _SET_KEY)
rule_on_key = ReasonFor("a rule on INSERT of {table} may discard the row of a key", _SET_KEY)
no_sequence = ReasonFor("the database has no sequence {sequence}", "create sequence {sequence}")
no_sequence_for = ReasonFor(
    "the database has no sequence for column {column}",
    "number {column} by an identity: ALTER TABLE .. ADD GENERATED BY DEFAULT AS IDENTITY",
)
no_default_for = ReasonFor(
    "the database has no default of column {column} that gives another value each time",
    "give it a volatile default, such as gen_random_uuid(), or set the key before the flush",
)
no_usage = ReasonFor(
    "the role has no USAGE privilege on sequence {sequence}",
    "GRANT USAGE ON SEQUENCE {sequence} to the role",
)
beyond_model = ReasonFor(
    "ids of {sequence} are beyond the type of {column} in the model",
    "declare {column} as BigInteger",
)
default_not_allowed = ReasonFor(
    "the role may not use all that the default of {column} calls",
    "GRANT EXECUTE on the functions of {column}, and USAGE on their schemas, to the role",
)
default_gave = ReasonFor(
    "its default {default} gave {what}",
    "give it a default that is another value each time, or set the key before the flush",
)

# What rows hold

FEW: Final = Reason(
    "few rows",
    "nothing: INSERT is cheaper; explain() says from how many rows COPY is (copy_from), and from "
    "how many changed or deleted objects one statement for all (many_from)",
)
FEWER_THAN_ASKED: Final = Reason(
    "few rows: fewer than copy_min_rows", "leave copy_min_rows out, to have it chosen by cost"
)
FEW_OF_THEIR_KIND: Final = Reason(
    "few rows of their kind",
    "nothing, or set the same attributes on all objects: a COPY needs one set of columns",
)
FEW_FOR_SHARDS: Final = Reason("few rows for many shards", "nothing: INSERT is cheaper")
NUMBERED_BESIDE: Final = Reason("the database numbers another class of its table", "see its reason")
SEVERAL_TYPES: Final = Reason("some rows hold values of several types", _ONE_TYPE)
sql_expression = ReasonFor(
    "{attribute} is an SQL expression", "compute it in Python, or by the server's default"
)
no_value = ReasonFor(
    "{attribute} has no value",
    "set the key in Python; by a server default the database makes it, and INSERT brings it back",
)
context_default = ReasonFor(
    "the rows give different columns, and the default of {column} takes a context: by it the "
    "default may look at the rows before",
    "give {column} a default without a context, or set the same attributes on all objects",
)
not_processed = ReasonFor(
    "{column} cannot be processed ({error})", "give it a value that its type takes"
)
unknown_types = ReasonFor(
    "{column} holds {types} for a column of type {declared}",
    "give it the column's own Python type, or register a CopyCodec for the type",
)
refused_by_codec = ReasonFor(
    "the CopyCodec of {column} refuses a value ({why})",
    "nothing where the value is right: INSERT writes it",
)
not_as_text = ReasonFor(
    "another column has the rows go as text, in which {column} holds a value that COPY and "
    "INSERT may read otherwise",
    _PSYCOPG,
)
several_types = ReasonFor(
    "{column} holds values of several types, which INSERT may cast to one of them", _ONE_TYPE
)
may_be_cast = ReasonFor(
    "{attribute} holds values that an INSERT with known keys may cast otherwise", _ONE_TYPE
)
cast_or_refused = ReasonFor(
    "{column} holds a value that the server would cast or refuse",
    "give it a value that the column takes as it is: a time zone only where the column has one",
)
not_in_utc = ReasonFor(
    "{column} holds a time that cannot be converted to a naive one in UTC",
    "give the value no time zone, or the column DateTime(timezone=True)",
)
adapted = ReasonFor(
    "{column} holds {type_}, for which the application has an adapter of its own",
    "nothing: what was registered with the driver for a type is honoured",
)

# Statements for many rows

SAME_KEY: Final = Reason("two rows may be for the same key", "give each row once")
OWN_SCHEMAS: Final = Reason(
    "the statement has a schema_translate_map of its own",
    "set it on the session's connection or the engine",
)
NOT_PLAIN: Final = Reason(
    "the statement is more than its table, its values and its key", _NOT_TOGETHER
)
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
VERSION_ALONE: Final = Reason("SQLAlchemy compares each version by itself", _NOT_TOGETHER)
REGISTERED_LATE: Final = Reason(
    "the session was registered within its transaction", "register it before it is used"
)
DISTRIBUTED_STATEMENT: Final = Reason("Citus distributes the table", _NOT_TOGETHER)
watched_statement = ReasonFor("{table} has a rule or a trigger on {kind}", _NOT_TOGETHER)
inherited = ReasonFor("other tables inherit from {table}", _NOT_TOGETHER)
not_lockable = ReasonFor(
    "the role may not lock {table} or its rows", "GRANT UPDATE ON {table} to the role"
)
rows_refer = ReasonFor("rows of {table} refer to each other", _NOT_TOGETHER)
unique_columns = ReasonFor("a unique index looks at {columns}", _NOT_TOGETHER)
