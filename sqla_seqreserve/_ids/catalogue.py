"""The facts of PostgreSQL's catalogue about a table, read once per database and compared again at
every use.

A :class:`TableFacts` is cached with its engine (``_database``), under the table's name
as the connection writes it. Names resolve through ``search_path``, tables are altered while an
application runs, and an engine may even connect to several databases. So code that uses cached
facts sends :attr:`TableFacts.fingerprint` along and lets the database compare it: facts that are no
longer true are read again. The fingerprint is made of the ``xmin`` of every catalogue row from
which the facts were read: the table's, its columns' (a default or an identity changes nothing
else), its triggers' and its rules'.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Row, text

from .._database import known_of
from .._drivers.queries import query_unheard
from .._reasons import Reason
from .server import IS_DISTRIBUTED
from .server_defaults import DEFAULT, NUMBERED_BY, SURELY_READ, DefaultFacts, default_of
from .statement_facts import (
    IS_INHERITED,
    IS_UNIQUE,
    MAY_LOCK_ROWS,
    TRIGGERS,
    UNIQUE_INDEXES,
    WATCHED,
)
from .table_names import TableName

if TYPE_CHECKING:
    from .._drivers import Comparison


@dataclass(frozen=True, slots=True)
class SequenceFacts:
    """The sequence that fills a column: its name as SQL, with its schema, how it counts, and
    whether the current role may take values from it. ``file``: the file in which it counts, which
    changes when it is restarted.
    """

    name: str
    oid: int
    increment: int
    minimum: int
    maximum: int
    cycle: bool
    usable: bool
    file: int | None


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column: its type, below any ``domain``, and what the database fills in by itself.

    ``type_text`` is that type with its length or precision: ``numeric(10,2)``. ``element_type`` is
    the type of an array's elements. ``surely_read``: its default gives only a constant or the
    present time, which a driver can read.
    """

    name: str
    fingerprint: str
    type_name: str
    type_oid: int
    type_text: str
    element_type: str | None
    element_is_enum: bool
    is_enum: bool
    is_unknown_domain: bool
    always_identity: bool
    generated: bool
    fills_itself: bool
    sequence: SequenceFacts | None
    default: DefaultFacts | None = None
    surely_read: bool = False
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class TableFacts:
    """One table as the database has it now. ``distributed``: Citus manages it, so its rows are
    stored in shards. ``watched``: for which of insert, update and delete a rule or a trigger sees a
    difference between one statement for many rows and one per row. ``inherited``: other tables
    inherit from it. ``row_lockable``: the role may lock the table as each of the three does, and
    lock its rows. ``unique_columns``: the columns that its unique indexes and exclusion
    constraints, or its partitions', use; ``unique_indexes`` identifies these indexes.
    """

    name: TableName
    oid: int
    fingerprint: str
    action_fingerprint: str | None
    kind: str
    lockable: bool
    row_security: bool
    insert_rules: bool
    insert_triggers: bool
    before_insert_triggers: bool
    statement_triggers: bool
    references_itself: bool
    distributed: bool
    watched: frozenset[str]
    inherited: bool
    row_lockable: bool
    unique_indexes: str
    unique_columns: frozenset[str]
    columns: Mapping[str, ColumnFacts]
    comparisons: dict[tuple[str | None, bool], Comparison] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """The comparisons of these facts with the database (``_ids.fetch``), discarded together with
    the facts.
    """

    def unique_columns_set_by(self, assigned: Collection[str]) -> list[str]:
        """Return the columns of unique indexes that may change if these columns are set. A
        generated column is computed from others, so it always counts.
        """
        return [
            name
            for name in sorted(self.unique_columns)
            if name in assigned or (name in self.columns and self.columns[name].generated)
        ]


FINGERPRINT: Final = """ROW(c.oid, c.relkind, row_security_active(c.oid), c.relhasrules,
    c.relhastriggers,
    ARRAY(SELECT x.xmin FROM pg_attribute x WHERE x.attrelid = c.oid ORDER BY x.attnum))::text"""
"""A value that changes when the table or one of its columns is altered, as an SQL expression on
``pg_class c``. A first trigger or rule changes it too; ``TRUNCATE`` does not. It contains whether
row-level security applies to the current role, so another role cannot use the same facts.
"""

ACTION_FINGERPRINT: Final = """ROW(
    ARRAY(SELECT x.xmin FROM pg_trigger x
           WHERE x.tgrelid = c.oid
              OR c.relkind = 'p' AND x.tgrelid IN (SELECT relid FROM pg_partition_tree(c.oid))
           ORDER BY x.oid),
    ARRAY(SELECT x.xmin FROM pg_rewrite x WHERE x.ev_class = c.oid ORDER BY x.oid))::text"""
"""A value that changes when a trigger or rule of a table that has any, or a trigger of a partition,
is created, altered or dropped. PostgreSQL takes longer to plan it than the rest of a reservation.
"""

INSERT_RULES: Final = (
    "EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = {table} AND r.ev_type = '3')"
)
"""Whether a rule may write something other than the row of an INSERT, as an SQL expression."""

COLUMN_FINGERPRINT: Final = "ROW(a.attrelid, a.xmin, row_security_active(a.attrelid))::text"
"""A value that changes when the column gets another type, default or identity, when the table's
name leads to another table, or when other policies apply to the role, as an SQL expression on
``pg_attribute a``. It takes a third of the time of the full comparison, which matters in a flush of
one object.
"""

_SEQUENCE_COLUMNS: Final = """
    quote_ident(n.nspname) || '.' || quote_ident(q.relname) AS sequence_name,
    q.oid AS sequence_oid, p.seqincrement, p.seqmin, p.seqmax, p.seqcycle,
    has_sequence_privilege(q.oid, 'USAGE, UPDATE') AS sequence_usable,
    pg_relation_filenode(q.oid) AS sequence_file"""

_FACTS = text(
    f"""
    SELECT wanted.slot, c.oid, {FINGERPRINT} AS fingerprint,
           CASE WHEN c.relhastriggers OR c.relhasrules OR c.relkind = 'p'
                THEN {ACTION_FINGERPRINT} END AS action_fingerprint,
           c.relkind::text AS kind, row_security_active(c.oid) AS row_security,
           c.relkind IN ('r', 'p')
               AND has_table_privilege(c.oid, 'INSERT') AS lockable,
           {INSERT_RULES.format(table="c.oid")} AS insert_rules,
           {TRIGGERS.format(mask=4, bits=4)} AS insert_triggers,
           {TRIGGERS.format(mask=7, bits=7)} AS before_insert_triggers,
           {TRIGGERS.format(mask=5, bits=4)} AS statement_triggers,
           EXISTS (SELECT FROM pg_constraint k
                    WHERE k.conrelid = c.oid AND k.confrelid = c.oid
                      AND k.contype = 'f') AS references_itself,
           {IS_DISTRIBUTED} AS distributed,
           {WATCHED} AS watched,
           {IS_INHERITED} AS inherited,
           {MAY_LOCK_ROWS} AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
               AS row_lockable,
           {UNIQUE_INDEXES} AS unique_indexes,
           {IS_UNIQUE} AS is_unique,
           a.attname::text AS column_name, {COLUMN_FINGERPRINT} AS column_fingerprint,
           b.typname::text AS type_name, b.oid AS type_oid, b.typtype::text AS type_kind,
           format_type(b.oid, CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END)
               AS type_text,
           CASE WHEN t.typtype = 'd' THEN t.typname::text END AS domain,
           e.typname::text AS element_type, e.typtype::text AS element_kind,
           a.attidentity::text AS identity, a.attgenerated::text AS generated,
           a.atthasdef OR a.attidentity <> '' AS fills_itself,
           {SURELY_READ} AS surely_read,
           s.sequence_name, s.sequence_oid, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle,
           s.sequence_usable, s.sequence_file, v.expression, v.is_fresh, v.is_allowed
      FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS wanted (name, slot)
      JOIN pg_class c ON c.oid = to_regclass(wanted.name)
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_type t ON t.oid = a.atttypid
      JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
      LEFT JOIN pg_type e ON e.oid = b.typelem AND b.typcategory = 'A'
      LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum AND a.attidentity = ''
      LEFT JOIN LATERAL (
          SELECT {_SEQUENCE_COLUMNS}
            FROM ({NUMBERED_BY}) f
            JOIN pg_class q ON q.oid = f.oid AND q.relkind = 'S'
            JOIN pg_namespace n ON n.oid = q.relnamespace
            JOIN pg_sequence p ON p.seqrelid = q.oid
           ORDER BY f.rank, f.oid
           LIMIT 1) s ON true
      LEFT JOIN LATERAL ({DEFAULT}) v ON true
     ORDER BY wanted.slot, a.attnum
    """  # noqa: S608  # the expression above, no input
)

_SEQUENCE = text(
    f"""
    SELECT {_SEQUENCE_COLUMNS}
      FROM pg_class q
      JOIN pg_namespace n ON n.oid = q.relnamespace
      JOIN pg_sequence p ON p.seqrelid = q.oid
     WHERE q.oid = to_regclass(:name)
    """  # noqa: S608  # the expressions above, no input
)


@dataclass(slots=True, eq=False)
class Tables:
    """The facts of the tables of one engine's database, and of the sequences that models name, by
    their names as SQL.

    :param passed: how many rows were written into a table without COPY since its facts were last
        doubted.
    """

    facts: dict[TableName, TableFacts] = field(default_factory=dict)
    sequences: dict[str, SequenceFacts] = field(default_factory=dict)
    passed: dict[TableName, int] = field(default_factory=dict)


_DOUBTED_AFTER: Final = 20_000
"""For this many rows, SQLAlchemy sends twenty statements, which take half a second."""


def table_facts(
    connection: Connection, names: Iterable[TableName], *, unheard: bool = False
) -> dict[TableName, TableFacts | None]:
    """Return the facts of each named table, ``None`` if the database has no such table. It sends
    one query if any is not cached.

    :param unheard: whether to hide the query from the engine's listeners.
    """
    known = known_of(connection.dialect, Tables).facts
    wanted = list(dict.fromkeys(names))
    missing = [name for name in wanted if name not in known]
    if missing:
        known.update(_read(connection, missing, unheard=unheard))
    return {name: known.get(name) for name in wanted}


def is_in_doubt(connection: Connection, facts: TableFacts, rows: int) -> bool:
    """Whether to check if these facts are still true, because they keep this many more rows from
    reserved keys or from COPY: once for each :data:`_DOUBTED_AFTER` rows written without these.
    """
    passed = known_of(connection.dialect, Tables).passed
    passed[facts.name] = passed.get(facts.name, 0) + rows
    if passed[facts.name] <= _DOUBTED_AFTER:
        return False
    del passed[facts.name]
    return True


def cached(connection: Connection, name: TableName) -> TableFacts | None:
    """Return the cached facts of this table, ``None`` if none are cached; nothing is read."""
    return known_of(connection.dialect, Tables).facts.get(name)


def cached_facts(connection: Connection, names: Iterable[TableName]) -> list[TableFacts]:
    """Return the cached facts of these tables; nothing is read."""
    known = known_of(connection.dialect, Tables).facts
    return [known[name] for name in names if name in known]


def forget(connection: Connection, names: Iterable[TableName]) -> None:
    """Discard the facts of these tables, so that their next use reads them again."""
    tables = known_of(connection.dialect, Tables)
    forgotten = [tables.facts.pop(name, None) for name in names]
    if forgotten:
        # A new dictionary, since another thread may be reading from the old one.
        tables.sequences = {}


def distrust(connection: Connection, facts: TableFacts, column: str, problem: Reason) -> None:
    """Record that a default gave unusable values: it is not evaluated again while these facts are
    true.
    """
    known = known_of(connection.dialect, Tables).facts
    found = facts.columns[column]
    if known.get(facts.name) is facts and found.default is not None:
        refused = replace(found, default=replace(found.default, problem=problem))
        known[facts.name] = replace(facts, columns={**facts.columns, column: refused})


def renew(connection: Connection, names: Iterable[TableName]) -> None:
    """Read the facts of these tables now, in one query. Facts that are still true stay the same
    object, because kept ids and plans refer to it.
    """
    known = known_of(connection.dialect, Tables).facts
    wanted = list(dict.fromkeys(names))
    before = {name: known[name] for name in wanted if name in known}
    forget(connection, wanted)
    for name, facts in table_facts(connection, wanted).items():
        if facts is not None and before.get(name) == facts:
            known[name] = before[name]


def sequence_facts(connection: Connection, name: str) -> SequenceFacts | None:
    """Return the sequence of this name (as SQL), ``None`` if the database has none."""
    known = known_of(connection.dialect, Tables).sequences
    if name not in known:
        row = connection.execute(_SEQUENCE, {"name": name}).one_or_none()
        if row is None:
            return None
        known[name] = _sequence(row)
    return known[name]


def _read(
    connection: Connection, names: list[TableName], *, unheard: bool
) -> dict[TableName, TableFacts]:
    execute: Any = query_unheard if unheard else Connection.execute
    rows_of: dict[TableName, list[Row[Any]]] = {}
    for row in execute(connection, _FACTS, {"names": names}):
        rows_of.setdefault(names[row.slot - 1], []).append(row)
    return {name: _table(name, rows) for name, rows in rows_of.items()}


def _table(name: TableName, rows: Sequence[Row[Any]]) -> TableFacts:
    """Return the facts of a table from its rows, one for each column."""
    row = rows[0]
    return TableFacts(
        name=name,
        oid=row.oid,
        fingerprint=row.fingerprint,
        action_fingerprint=row.action_fingerprint,
        kind=row.kind,
        lockable=row.lockable,
        row_security=row.row_security,
        insert_rules=row.insert_rules,
        insert_triggers=row.insert_triggers,
        before_insert_triggers=row.before_insert_triggers,
        statement_triggers=row.statement_triggers,
        references_itself=row.references_itself,
        distributed=row.distributed,
        watched=frozenset(row.watched),
        inherited=row.inherited,
        row_lockable=row.row_lockable,
        unique_indexes=row.unique_indexes,
        unique_columns=frozenset(each.column_name for each in rows if each.is_unique),
        columns={each.column_name: _column(each) for each in rows},
    )


def _column(row: Row[Any]) -> ColumnFacts:
    return ColumnFacts(
        name=row.column_name,
        fingerprint=row.column_fingerprint,
        type_name=row.type_name,
        type_oid=row.type_oid,
        type_text=row.type_text,
        element_type=row.element_type,
        element_is_enum=row.element_kind == "e",
        is_enum=row.type_kind == "e",
        is_unknown_domain=row.type_kind == "d",
        always_identity=row.identity == "a",
        generated=bool(row.generated),
        fills_itself=row.fills_itself,
        surely_read=row.surely_read,
        domain=row.domain,
        sequence=_sequence(row) if row.sequence_name else None,
        default=default_of(row),
    )


def _sequence(row: Row[Any]) -> SequenceFacts:
    return SequenceFacts(
        name=row.sequence_name,
        oid=row.sequence_oid,
        increment=row.seqincrement,
        minimum=row.seqmin,
        maximum=row.seqmax,
        cycle=row.seqcycle,
        usable=row.sequence_usable,
        file=row.sequence_file,
    )
