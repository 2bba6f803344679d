"""Implements ``bulk_update``: the rows are checked, staged, and joined with the tables' rows in one
statement.

Existing rows are found by the key and locked in the order of their primary key, as a flush locks
them; then each table is updated from the rows found, all within one statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    and_,
    case,
    exists,
    func,
    select,
)
from sqlalchemy import update as core_update
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.orm.exc import StaleDataError

from .._mistakes import attribute_keys, check_attributes
from .._reasons import Reason
from .._sqlalchemy.listeners import interference_on
from .._sqlalchemy.mapping import key_columns
from ..errors import ConfigurationError
from ..reports import Writer
from .class_tables import ClassTables
from .input import chunks, within
from .matching import FITS, STALE, Matching
from .row_by_row import execute_singly
from .row_checks import NO_VALUE
from .sending import send
from .set_clause import set_beside
from .staged_rows import NUMBER, Source, labelled_keys, named
from .target import Target, row_by_row_reason

_MOST_NAMED: Final = 5

_DEFAULT_OF_NEW_ROWS: Final = (
    "has no value, and the column takes no NULL: its default is for new rows only"
)


@dataclass(slots=True, eq=False)
class Updated:
    """The result of an update. If wanted: the ``keys`` of the rows found, by number, and the keys
    of those ``changed``, as they were before.
    """

    total: int = 0
    updated: int = 0
    found: int = 0
    missing: Sequence[int] = ()
    writer: Writer = "insert"
    reason: Reason | None = None
    keys: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    changed: list[tuple[Any, ...]] = field(default_factory=list)


def update_rows(
    session: Session,
    connection: Connection,
    mapper: Mapper[Any],
    rows: Any,
    *,
    key: str | Iterable[str] | None,
    columns: str | Iterable[str] | None,
    where: ColumnElement[bool] | None,
    wants_keys: Callable[[], bool],
    progress: Callable[[int], object] | None,
    chunk_rows: int | None,
) -> Updated:
    """Update the existing rows.

    :param wants_keys: whether the caller wants the keys of the rows found; asked when all rows are
        there.
    """
    stream = within(session, rows, chunks(rows, chunk_rows, mapper))
    first = next(stream, None)
    class_tables = ClassTables(session, connection, mapper, progress)
    by = _named(mapper, "key", class_tables.attributes if key is None else key)
    if not by:
        raise ConfigurationError("key=() finds no row: expected the attributes of a key")
    chosen = None if columns is None else _named(mapper, "columns", columns)
    if first is None:
        return Updated()
    pinned = class_tables.pin() is not None
    target = Target(class_tables, "bulk_update()")
    first = class_tables.filled(first)
    given = class_tables.given_by(first)
    required = dict.fromkeys(by, "has no value, and is of the key by which the row is found")
    if isinstance(first[0], Mapping):
        # Otherwise the check below names the wrong row.
        change = _Change(target, given, by, chosen)
        for attribute, message in change.required.items():
            required.setdefault(attribute, message)
    values = class_tables.check_alike(first, 0, given, required, by)
    staged = target.staged(given, change.made)
    interference = interference_on(connection)
    reason = interference or row_by_row_reason(target.plans.values(), "update")

    def write(source: Source, total: int, records: Sequence[Mapping[str, Any]]) -> Updated:
        plans = {item.attribute: item for item in source.plan.columns}
        matching = Matching(source, target, [plans[attribute] for attribute in by], total)
        if reason is not None:
            return change.write_singly(matching, where, records)
        return change.write(matching, where, wants_keys=wants_keys())

    return send(
        class_tables,
        staged,
        first,
        values,
        stream,
        write,
        pinned=pinned,
        reason=reason,
        check=lambda chunk, start: class_tables.check_alike(chunk, start, given, required, by),
    )


def _named(mapper: Mapper[Any], what: str, names: str | Iterable[str]) -> list[str]:
    chosen = list(dict.fromkeys(attribute_keys(what, names)))
    check_attributes(mapper, f"{what}={names!r}", chosen)
    return chosen


class _Change:
    """The change that the rows describe.

    :param given: the attributes that each row gives.
    :param by: the attributes of the key.
    :param chosen: the attributes to set; ``None``: all but the key's.
    """

    def __init__(
        self, target: Target, given: frozenset[str], by: list[str], chosen: list[str] | None
    ) -> None:
        self.target = target
        version = target.mapper.version_id_col
        plans = {name: target.column_plan(name) for name in given}
        fixed = {*by, *(a for a, item in plans.items() if item and item.column in self._keys())}
        self.stale: Column[Any] | None = None
        for name, item in plans.items():
            if item is not None and item.column is version and name not in (chosen or ()):
                fixed.add(name)
                self.stale = item.column if name not in by else None
        if chosen is None:
            chosen = sorted(given - fixed)
        lacking = sorted(set(chosen) - given)
        if lacking:
            raise ConfigurationError(
                f"columns={chosen!r}: the rows do not give {', '.join(lacking)}. Expected "
                "attributes that every row gives"
            )
        if not chosen:
            raise ConfigurationError(
                "The rows give no attribute to set, but those of the key. Expected one or more"
            )
        items = [item for item in map(target.column_plan, chosen) if item is not None]
        # The staging reports a column that cannot be written.
        self.columns = [item.column for item in items]
        # A trigger or rule may fill what is NULL in the given row.
        filled = {
            table
            for table, plan in target.plans.items()
            if "update" in plan.facts.watched or plan.facts.kind not in {"r", "p"}
        }
        self.required = {
            str(item.attribute): NO_VALUE
            if item.column.default is None and item.column.server_default is None
            else _DEFAULT_OF_NEW_ROWS
            for item in items
            if not item.column.nullable
            and not item.evaluates_none
            and item.column.table not in filled
        }
        if len(target.plans) > 1 and any(column in self._keys() for column in self.columns):
            raise ConfigurationError(
                f"{target.name} is stored in several tables, and bulk_update() changes no key that "
                "they share. Change the objects, and flush()"
            )
        tables = {column.table for column in self.columns}
        if version is not None:
            tables.add(version.table)
        self.tables = [table for table in target.plans if table in tables]
        self.made: dict[Column[Any], Callable[[], Any]] = {}
        self.set: dict[Table, dict[Any, Any]] = {table: {} for table in self.tables}
        for table in self.tables:
            self._on_update(table)

    def _keys(self) -> set[Any]:
        mapper, plans = self.target.mapper, self.target.plans
        return {key for table in plans for key in key_columns(mapper, table)}

    def _on_update(self, table: Table) -> None:
        """Find what is set in a table in addition to what the rows give: a version, and
        ``onupdate`` values.
        """
        staged = {item.column for item in self.target.plans[table].columns}
        names = {column.name for column in (*self.columns, *self.made)}
        for item, value, call in set_beside(self.target.mapper, table, self.columns):
            if call is None:
                self.set[table][item] = value
            elif item in staged and item.name not in names:
                self.made[item] = call
            else:
                self.set[table][item] = call()

    def _from_rows(self, table: Table) -> list[Column[Any]]:
        """Return the columns of a table that get their value from the row."""
        return [c for c in (*self.columns, *self.made) if c.table is table]

    def _found(self, matching: Matching, where: Any, columns: Iterable[str] = ()) -> Any:
        return matching.found(
            list(dict.fromkeys(columns)),
            where=where,
            version=self.stale,
            locked=[table for table in self.tables if table in self.target.stored],
            key_share=True,
        )

    # One statement

    def write(self, matching: Matching, where: Any, *, wants_keys: bool) -> Updated:
        """Update all rows by one statement."""
        target = self.target
        names = [c.name for table in self.tables for c in self._from_rows(table)]
        found = self._found(matching, where, names)
        allowed = [found.c[FITS]]
        if self.stale is not None:
            known = found.alias(named("stale"))
            allowed.append(~exists(select(known.c[NUMBER]).where(known.c[STALE])))
        if matching.total > 1:
            allowed.append(~matching.has_duplicates())
        all_written: list[Any] = []
        for index, table in enumerate(self.tables):
            stored = target.table_keys(table)
            same = [a == b for a, b in zip(stored, matching.keys_of(found), strict=True)]
            values = {c: found.c[c.name] for c in self._from_rows(table)}
            statement = core_update(table).where(and_(*same, *allowed))
            all_written.append(
                statement.values({**self.set[table], **values})
                .returning(
                    found.c[NUMBER],
                    *(stored if wants_keys else ()),
                    # As they were before. A key that is not unique finds several rows.
                    *(labelled_keys(matching.keys_of(found)) if wants_keys else ()),
                )
                .cte(named(f"written_{index}"))
            )
        *others, written = all_written
        read = self._read_keys if wants_keys else self._read_counts
        outcome, stale = read(matching, found, written, others)
        if not outcome.updated and matching.total > 1:
            matching.refuse_duplicates()
        self._refuse_stale(stale)
        return outcome

    def _read_keys(
        self, matching: Matching, found: Any, written: Any, others: Sequence[Any]
    ) -> tuple[Updated, list[int]]:
        """Execute the statement; return its result with the keys of all rows, and the numbers of
        the rows that give another version.

        :param written: the rows that the UPDATE of the last table wrote.
        :param others: the UPDATEs of the other tables.
        """
        outcome, stale = Updated(matching.total), list[int]()
        new = [written.c[c.key] for c in self.target.table_keys(self.tables[-1])]
        old = matching.keys_of(found)
        same = [a == b for a, b in zip(old, matching.keys_of(written), strict=True)]
        is_written = and_(found.c[NUMBER] == written.c[NUMBER], *same)
        statement = (
            select(found.c[NUMBER], found.c[STALE], written.c[NUMBER], *old, *new)
            .select_from(found.outerjoin(written, is_written))
            .add_cte(*others)
        )
        width = len(new)
        for number, is_stale, done, *both in matching.source.connection.execute(statement):
            before, now = tuple(both[:width]), tuple(both[width:])
            outcome.keys[number] = before if done is None else now
            outcome.found += 1
            if done is not None:
                outcome.changed.append(before)
            if is_stale:
                stale.append(number)
        outcome.updated = len(outcome.changed)
        if len(outcome.keys) < matching.total:
            outcome.missing = [n for n in range(matching.total) if n not in outcome.keys]
        return outcome, stale

    def _read_counts(
        self, matching: Matching, found: Any, written: Any, others: Sequence[Any]
    ) -> tuple[Updated, list[int]]:
        """As :meth:`_read_keys`, but without the keys: the database counts the rows."""
        rows = matching.rows
        is_there = exists(select(found.c[NUMBER]).where(found.c[NUMBER] == rows.c[NUMBER]))
        there = select(func.count()).select_from(found).scalar_subquery()
        matched: Any = there
        if {item.column for item in matching.by} != set(self.target.keys):
            # A row that finds several must not make up for one that finds none.
            matched = select(func.count(found.c[NUMBER].distinct())).scalar_subquery()
        missing = select(func.array_agg(rows.c[NUMBER])).where(~is_there).scalar_subquery()
        counts: list[Any] = [
            there,
            select(func.count()).select_from(written).scalar_subquery(),
            # Nothing is looked up when no row is missing.
            case((matched < matching.total, missing)),
        ]
        if self.stale is not None:
            stale_rows = select(func.array_agg(found.c[NUMBER])).where(found.c[STALE])
            counts.append(stale_rows.scalar_subquery())
        counted = matching.source.connection.execute(select(*counts).add_cte(*others)).one()
        number_found, updated, numbers_missing, *stale = counted
        outcome = Updated(
            matching.total, updated, number_found, missing=sorted(numbers_missing or ())
        )
        return outcome, [number for numbers in stale for number in numbers or ()]

    def _refuse_stale(self, numbers: Sequence[int]) -> None:
        if not numbers:
            return
        ordered = sorted(numbers)
        shown = ", ".join(map(str, ordered[:_MOST_NAMED]))
        more = ", …" if len(ordered) > _MOST_NAMED else ""
        raise StaleDataError(
            f"{self.target.name}: {len(ordered)} rows give another version than the database has "
            f"(rows {shown}{more}); nothing was written"
        )

    # Row by row

    def write_singly(
        self, matching: Matching, where: Any, records: Sequence[Mapping[str, Any]]
    ) -> Updated:
        """Update each row by SQLAlchemy's own statement, with its values as parameters."""
        connection, outcome = matching.source.connection, Updated(matching.total)
        matching.refuse_duplicates()
        found = self._found(matching, where)
        there = select(found.c[NUMBER], found.c[FITS], found.c[STALE], *matching.keys_of(found))
        meant, stale = list[tuple[int, tuple[Any, ...]]](), list[int]()
        for number, fits, is_stale, *key in connection.execute(there):
            outcome.keys[number] = tuple(key)
            outcome.found += 1
            if is_stale:
                stale.append(number)
            if fits:
                meant.append((number, tuple(key)))
        self._refuse_stale(stale)
        outcome.updated = len(meant)
        outcome.missing = [n for n in range(matching.total) if n not in outcome.keys]
        outcome.changed = [key for _, key in meant]
        for table in self.tables:
            stored, columns = self.target.table_keys(table), self._from_rows(table)
            values = [{c: records[number][c.name] for c in columns} for number, _ in meant]
            done = execute_singly(
                connection,
                core_update(table).values(self.set[table])
                if self.set[table]
                else core_update(table),
                stored,
                outcome.changed,
                values,
            )
            outcome.updated = min(outcome.updated, done)
        self._note_new_keys(outcome, meant, records)
        return outcome

    def _note_new_keys(
        self,
        outcome: Updated,
        meant: Sequence[tuple[int, tuple[Any, ...]]],
        records: Sequence[Mapping[str, Any]],
    ) -> None:
        """Where rows change their primary key, record the new key."""
        names = {i: k.name for i, k in enumerate(self.target.keys) if k in set(self.columns)}
        for number, key in meant if names else ():
            record = records[number]
            outcome.keys[number] = tuple(
                record[names[i]] if i in names else value for i, value in enumerate(key)
            )
