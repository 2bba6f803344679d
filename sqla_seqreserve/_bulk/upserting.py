"""Implements ``bulk_upsert``: the rows are checked, staged, and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, text
from sqlalchemy.orm import Mapper, Session

from .._ids.table_names import stored_name, table_name
from .._mistakes import attribute_keys, check_attributes, no_such_table
from .._rows.plan import Absent, InsertPlan
from .._sqlalchemy.listeners import interference_on
from .._sqlalchemy.mapping import polymorphic_attribute
from ..errors import ConfigurationError
from .arbiter import Arbiter, find_arbiter, known_arbiter
from .class_tables import ClassTables
from .given_rows import Given
from .input import chunks, within
from .on_conflict import Outcome, Upserting
from .row_by_row import OneByOne
from .sending import send
from .set_clause import Update
from .staged_rows import Source
from .staging import staged_plan
from .syncing import Syncing

_COMPUTED = text(
    """
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod),
           pg_get_expr(d.adbin, d.adrelid)
      FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = to_regclass(:table) AND a.attname::text = ANY (CAST(:names AS text[]))
    """
)


def upsert(
    session: Session,
    connection: Connection,
    mapper: Mapper[Any],
    rows: Any,
    *,
    conflict: str | Iterable[str],
    update: Iterable[str] | None,
    where: ColumnElement[bool] | None,
    wants_keys: bool,
    wants_changed: Callable[[], bool],
    progress: Callable[[int], object] | None,
    chunk_rows: int | None,
    sync: Syncing | None = None,
) -> Outcome:
    """Upsert the rows.

    :param wants_keys: whether the caller wants each row's key.
    :param wants_changed: whether the caller wants the keys of the updated rows; asked when all rows
        are there.
    :param sync: handles the table's other rows, for ``bulk_sync``.
    """
    stream = within(session, rows, chunks(rows, chunk_rows, mapper))
    first = next(stream, None)
    class_tables = ClassTables(session, connection, mapper, progress)
    _require_one_table(class_tables)
    what = "conflict" if sync is None else "key"
    conflict = conflict if isinstance(conflict, str) else tuple(attribute_keys(what, conflict))
    if first is None:
        _checked_update(mapper, update, ())
        if sync is not None:
            _located(class_tables, conflict, what)
            sync.clear(class_tables)
        elif not isinstance(conflict, str):
            check_attributes(mapper, f"{what}={conflict!r}", conflict)
        return Outcome(0, 0)
    plan, arbiter, pinned = _located(class_tables, conflict, what)
    first = class_tables.filled(first)
    given = class_tables.given_by(first)
    arbiter_attributes, computed = _needed(connection, plan, arbiter, given)
    overwritten = _checked_update(mapper, update, given, arbiter)
    sequence = _sequence_of_key(class_tables)
    required = class_tables.required()
    never_null = set(required)
    if sync is not None and not arbiter.nulls_alike:
        never_null |= _attributes_of_elements(plan, arbiter)
    message = f"has no value, and {arbiter.name} looks at it"
    required |= {name: message for name in arbiter_attributes if name in never_null}
    values = class_tables.check_alike(first, 0, given, required)
    interference = interference_on(connection)

    def write(source: Source, total: int, records: Sequence[Mapping[str, Any]]) -> Outcome:
        compared = () if sync is None else overwritten
        rows = Given(source, plan, arbiter, total, compared)

        def run(change: Update) -> Outcome:
            if interference is None:
                upserting = Upserting(rows, sequence, change)
            else:
                upserting = OneByOne(rows, change, records, interference)
            return upserting.run(wants_keys=wants_keys, wants_changed=wants_changed())

        if sync is None:
            outcome = run(Update(overwritten, where))
        else:
            outcome = sync.run(class_tables, rows, run)
        outcome.total = total
        return outcome

    return send(
        class_tables,
        staged_plan(plan, given, _constants(mapper, given)),
        first,
        values,
        stream,
        write,
        pinned=pinned,
        reason=interference,
        check=lambda chunk, start: class_tables.check_alike(chunk, start, given, required),
        few=not (computed or arbiter.collated),
        dry=sync is not None and sync.dry_run,
        computed=computed,
    )


def _require_one_table(class_tables: ClassTables) -> None:
    if len(class_tables.tables) != 1:
        names = ", ".join(table.name for table in class_tables.tables)
        raise ConfigurationError(
            f"{class_tables.mapper.class_.__name__} is stored in several tables ({names}), and ON "
            "CONFLICT is about one. Expected a class of one table"
        )


def _located(
    class_tables: ClassTables, conflict: str | tuple[str, ...], what: str
) -> tuple[InsertPlan, Arbiter, bool]:
    """Find the unique index that decides which rows exist, and lock the table if it can be
    compared with what is known of it. Return the table's plan, the index, and whether the table is
    locked.

    :param what: the name of the caller's argument ``conflict``.
    :raises ConfigurationError: the database has no such table or index.
    """
    connection, mapper = class_tables.connection, class_tables.mapper
    [table] = class_tables.tables
    name = table_name(connection, table)
    arbiter = known_arbiter(connection, mapper, name, conflict)
    compared = [arbiter.facts] if arbiter is not None else []
    pinned = class_tables.pin(indexes=compared) is not None
    if not pinned:
        class_tables.look_anew()
    plan = class_tables.plans[table]
    if plan is None:
        raise no_such_table(name)
    if arbiter is None or not compared:
        arbiter = find_arbiter(connection, mapper, plan.facts.name, conflict, what)
    return plan, arbiter, pinned


def _sequence_of_key(class_tables: ClassTables) -> tuple[Column[Any], str] | None:
    """Return the only key column that a sequence numbers, with the sequence's name."""
    source = class_tables.source
    if source.sequence is None or source.key.column is None or source.others:
        return None
    return source.key.column, source.sequence.name


def _constants(mapper: Mapper[Any], given: frozenset[str]) -> dict[str, Any]:
    polymorphic = polymorphic_attribute(mapper)
    if polymorphic is None or polymorphic in given:
        return {}
    return {polymorphic: mapper.polymorphic_identity}


def _needed(
    connection: Connection, plan: InsertPlan, arbiter: Arbiter, given: frozenset[str]
) -> tuple[list[str], dict[str, str]]:
    """Return the attributes that the arbiter uses; and those of its columns that the database
    computes, each with its definition.

    :raises ConfigurationError: the arbiter uses a column that the rows do not give.
    """
    attributes: list[str] = []
    computed: list[str] = []
    lacking: list[str] = []
    by_name = {stored_name(item.column.name): item for item in plan.columns}
    for name in sorted(arbiter.needed):
        item = by_name.get(name)
        if plan.facts.columns[name].generated:
            computed.append(name)
        elif item is None or not (item.attribute in given or item.absent is Absent.DEFAULT):
            lacking.append(item.attribute or name if item is not None else name)
        elif item.attribute is not None:
            attributes.append(item.attribute)
    if lacking:
        raise ConfigurationError(
            f"{arbiter.name} of {plan.facts.name} looks at {', '.join(lacking)}, which the rows do "
            "not give; so nothing shows whether they exist. Give it in every row"
        )
    found: dict[str, str] = {}
    if computed:
        names = {"table": plan.facts.name, "names": computed}
        for name, kind, expression in connection.execute(_COMPUTED, names):
            found[name] = f"{kind} GENERATED ALWAYS AS ({expression})"
    return attributes, found


def _attributes_of_elements(plan: InsertPlan, arbiter: Arbiter) -> set[str]:
    return {
        item.attribute
        for item in plan.columns
        if item.attribute is not None and stored_name(item.column.name) in arbiter.columns
    }


def _checked_update(
    mapper: Mapper[Any],
    update: Iterable[str] | None,
    given: Iterable[str],
    arbiter: Arbiter | None = None,
) -> tuple[Column[Any], ...]:
    """Return the columns to overwrite.

    :raises ConfigurationError: a name is not a column of the class, or the rows do not give it.
    """
    columns = {prop.key: prop.columns[0] for prop in mapper.column_attrs}
    if update is None:
        fixed = set(arbiter.columns) if arbiter is not None else set()
        chosen = [
            key
            for key in sorted(given)
            if key in columns
            and stored_name(columns[key].name) not in fixed
            and columns[key] not in mapper.primary_key
        ]
    else:
        chosen = attribute_keys("update", update)
        check_attributes(mapper, f"update={update!r}", chosen)
        lacking = sorted(set(chosen).difference(given)) if arbiter is not None else []
        if lacking:
            raise ConfigurationError(
                f"update={update!r}: the rows do not give {', '.join(lacking)}. Expected "
                "attributes that every row gives"
            )
    found = []
    for key in chosen:
        item = columns[key]
        if not isinstance(item, Column):
            raise ConfigurationError(
                f"Rows are written to columns, and {mapper.class_.__name__}.{key} is none that can "
                "be written"
            )
        found.append(item)
    return tuple(found)
