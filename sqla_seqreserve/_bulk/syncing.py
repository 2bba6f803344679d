"""What ``bulk_sync`` does in addition to an upsert: it deletes rows of the scope that are not given
and leaves rows without changes alone; the upsert writes the rest.

Two calls with the same scope wait for each other by an advisory lock of the transaction. Without it
they would deadlock, since each deletes what the other inserts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from inspect import isfunction
from typing import Any, Final
from zlib import crc32

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    TextClause,
    and_,
    cast,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.exc import ArgumentError
from sqlalchemy.sql import Select, visitors
from sqlalchemy.types import NullType, TypeDecorator, UserDefinedType

from .._ids.table_names import stored_name
from .._rows.plan import InsertPlan
from .._sqlalchemy.engine import autocommits
from .._sqlalchemy.listeners import interference_on
from .._sqlalchemy.savepoint import savepoint
from ..errors import ConfigurationError, InvalidRowsError, RowProblem
from .class_tables import ClassTables
from .deleting import delete_found, tables_of
from .given_rows import Given
from .on_conflict import Outcome
from .set_clause import Update
from .staged_rows import NUMBER, keys_in, labelled_keys, named
from .target import Target

_LOCK: Final = text("SELECT pg_advisory_xact_lock(:table, :scope)")

_COMPARED: Final = frozenset(
    {
        *("bool", "date", "float4", "float8", "int2", "int4", "int8", "jsonb", "numeric"),
        *("time", "timestamp", "timestamptz", "uuid"),
    }
)
"""Types whose equal values are always the same value."""

_COLLATED: Final = frozenset({"text", "varchar"})


class _Record(UserDefinedType[Any]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "record"


@dataclass(slots=True, eq=False)
class Syncing:
    """One ``bulk_sync``.

    :param scope: the condition for the table's rows that are to become the given ones.
    :param dry_run: only count; write nothing.
    :param wants_keys: whether the caller wants the keys of the deleted rows; asked when all rows
        are there.
    :param inserted: how many rows are new, as far as they were compared; ``updated`` likewise.
    :param removed: the keys of the deleted rows.
    """

    scope: ColumnElement[bool]
    dry_run: bool
    wants_keys: Callable[[], bool]
    deleted: int = 0
    inserted: int = 0
    updated: int = 0
    removed: list[tuple[Any, ...]] = field(default_factory=list)
    _is_certain: bool = False

    def run(
        self,
        class_tables: ClassTables,
        given: Given,
        upsert: Callable[[Update], Outcome],
    ) -> Outcome:
        """Make the rows of the scope equal to the given ones.

        :param given: the rows; the columns that it compares are overwritten in an existing row.
        :param upsert: inserts and updates.
        """
        target = self._target(class_tables)
        connection = class_tables.connection
        if not self.dry_run:
            self._lock(connection, given.plan, target)
        self._compare(given, target)
        if self.dry_run:
            return Outcome(self.inserted, self.updated)
        outcome = Outcome(0, 0)
        stays = self._is_certain or autocommits(connection)
        with nullcontext() if stays else savepoint(class_tables.session, connection):
            if self.deleted:
                singly = _goes_singly(connection, given.plan)
                self._delete(
                    connection, given.plan, target, self._not_given(given, target), singly=singly
                )
            if self.inserted or self.updated:
                outcome = upsert(_changes(given))
                self._check_written(given, target)
        return outcome

    def clear(self, class_tables: ClassTables) -> None:
        """Delete all rows of the scope, because no row is given."""
        connection = class_tables.connection
        target = self._target(class_tables)
        [(_, plan)] = target.plans.items()
        condition = self._scope(target)
        if self.dry_run:
            counted = select(func.count()).select_from(plan.table).where(condition)
            self.deleted = connection.execute(counted).scalar_one()
            return
        self._lock(connection, plan, target)
        singly = _goes_singly(connection, plan)
        self._delete(connection, plan, target, condition, singly=singly)

    def _lock(self, connection: Connection, plan: InsertPlan, target: Target) -> None:
        """Wait for other calls with the same scope."""
        compiled = self._scope(target).compile(dialect=connection.dialect)
        scope = crc32(f"{compiled} {sorted(compiled.params.items())!r}".encode())
        connection.execute(_LOCK, {"table": _signed(plan.facts.oid), "scope": _signed(scope)})

    def _compare(self, given: Given, target: Target) -> None:
        """Compare the given rows with those of the table, and count what is to be written.

        :raises InvalidRowsError: two rows match the same row, or a row is outside the scope.
        """
        connection, rows, scope = given.source.connection, given.rows, self._scope(target)
        is_within = func.coalesce(scope, false())
        differs = _differ(given, [(c, rows.c[c.name]) for c in given.compared])
        matched = (
            select(
                func.count().label("there"),
                func.count().filter(is_within, differs).label("differ"),
                func.array_agg(rows.c[NUMBER]).filter(~is_within).label("elsewhere"),
            )
            .select_from(given.stored().join(rows, given.is_same_row()))
            .subquery(named("matched"))
        )
        in_scope = select(func.count()).select_from(given.target).where(scope)
        outside = select(func.array_agg(rows.c[NUMBER])).where(self._is_outside(given, target))
        counts: list[Any] = [
            *matched.c,
            outside.scalar_subquery(),
            in_scope.scalar_subquery(),
            given.has_duplicates(),
        ]
        if given.is_computed:
            unmatched = select(func.array_agg(rows.c[NUMBER])).where(~given.is_matchable())
            counts.append(unmatched.scalar_subquery())
        there, differ, elsewhere, out, within, twice, *unmatchable = connection.execute(
            select(*counts)
        ).one()
        if twice:
            given.refuse_duplicates()
        given.has_no_duplicates = True
        given.refuse_unmatchable(next(filter(None, unmatchable), ()))
        found = dict.fromkeys(out or (), "is outside the scope")
        found.update((n, "is a row of the table outside the scope") for n in elsewhere or ())
        self._refuse(given, target, found)
        self.inserted, self.updated = given.total - there, differ
        # A row of the table matches one given row at most, because no two are the same.
        self.deleted = within - there

    def _check_written(self, given: Given, target: Target) -> None:
        """Refuse rows that, once written, are not in the scope."""
        if self._is_certain:
            return
        rows = given.rows
        is_within = exists(
            select(literal(1))
            .select_from(given.stored())
            .where(given.is_same_row(), self._scope(target))
            .correlate(rows)
        )
        found = given.source.connection.execute(select(rows.c[NUMBER]).where(~is_within))
        outside = dict.fromkeys(found.scalars(), "is outside the scope")
        self._refuse(given, target, outside, stays=autocommits(given.source.connection))

    def _target(self, class_tables: ClassTables) -> Target:
        target = _target(class_tables)
        [table] = target.plans
        found = select(literal(1)).select_from(table).where(self._scope(target))
        target.refuse_other_tables("scope", found)
        return target

    def _scope(self, target: Target) -> ColumnElement[bool]:
        scope: ColumnElement[bool] = target.plainly(self.scope)
        return and_(scope, *target.is_of_class())

    def _not_given(self, given: Given, target: Target) -> ColumnElement[bool]:
        return and_(self._scope(target), ~given.is_given())

    def _is_outside(self, given: Given, target: Target) -> ColumnElement[bool]:
        """Whether a given row is certainly outside the scope."""
        scope, staged = target.plainly(self.scope), given.source.plan.columns
        names = {item.column: item.column.name for item in staged if item.default is None}
        for element in visitors.iterate(scope):
            is_column = isinstance(element, Column)
            if isinstance(element, Select) or (is_column and element not in names):
                return false()
        self._is_certain = True

        def replaced(element: Any, **_: Any) -> Any:
            return given.rows.c[names[element]] if isinstance(element, Column) else None

        inside = visitors.replacement_traverse(scope, {}, replaced)
        return ~func.coalesce(inside, false())

    def _refuse(
        self, given: Given, target: Target, found: Mapping[int, str], *, stays: bool = False
    ) -> None:
        if found:
            done = "all rows stay written, by autocommit" if stays else "nothing was written"
            attributes = ", ".join(
                sorted({str(c.key) for c in visitors.iterate(self.scope) if isinstance(c, Column)})
            )
            raise InvalidRowsError(
                f"{target.name}: {len(found)} of {given.total} rows are not in the scope that they "
                f"are given for; {done}",
                [RowProblem(number, attributes, found[number]) for number in sorted(found)],
            )

    def _delete(
        self,
        connection: Connection,
        plan: InsertPlan,
        target: Target,
        condition: ColumnElement[bool],
        *,
        singly: bool,
    ) -> None:
        found: Any = select(*labelled_keys(target.keys)).select_from(plan.table).where(condition)
        found = found.order_by(*target.keys)
        locked = target.lockable(connection)
        found = (found.with_for_update(of=locked) if locked else found).cte(named("found"))
        keys = keys_in(found, target.keys)
        done = delete_found(
            connection, [(plan.table, plan)], keys, wants_keys=self.wants_keys(), singly=singly
        )
        self.deleted, self.removed = done.rows, done.keys


def checked_scope(scope: Any) -> ColumnElement[bool]:
    """Return the scope as SQL.

    :raises ConfigurationError: it is no condition on the class's attributes.
    """
    expected = (
        "scope must be a condition on the class's attributes, or sqlalchemy.true() for all rows, "
        f"found {scope!r}"
    )
    if scope is None or isinstance(scope, TextClause) or isfunction(scope):
        raise ConfigurationError(expected)
    try:
        found = and_(scope)
    except ArgumentError as error:
        raise ConfigurationError(expected) from error
    if not isinstance(found.type, Boolean | NullType | TypeDecorator):
        raise ConfigurationError(expected)
    return found


def _changes(given: Given) -> Update:
    """Return the change of existing rows, which leaves alone those that have the given values: in
    the table as the statement finds it, and as another transaction leaves the row meanwhile.
    """
    columns, excluded = tuple(given.compared), pg_insert(given.target).excluded
    return Update(
        columns,
        where=_differ(given, [(c, excluded[c.key]) for c in columns]),
        differs=_differ(given, given.in_existing()),
    )


def _differ(given: Given, pairs: Iterable[tuple[Any, Any]]) -> ColumnElement[bool]:
    """Whether the two values of a pair differ, for any of the compared columns. Types whose equal
    values may be written differently (citext, box, interval), or that have no equality (json), are
    compared byte by byte.

    :param pairs: for each compared column: its value in the table, and the given one.
    """
    found: list[ColumnElement[bool]] = []
    for column, (stored, value) in zip(given.compared, pairs, strict=True):
        known = given.plan.facts.columns.get(stored_name(column.name))
        if known is not None and (known.type_name in _COMPARED or known.is_enum):
            found.append(stored.is_distinct_from(value))
        elif known is not None and known.type_name in _COLLATED:
            found.append(stored.collate("C").is_distinct_from(value.collate("C")))
        else:
            # Without the cast, PostgreSQL compares the rows' elements and not the records.
            left, right = (cast(func.row(each), _Record()) for each in (stored, value))
            found.append(left.op("*<>", is_comparison=True)(right))
    return or_(false(), *found)


def _target(class_tables: ClassTables) -> Target:
    """Return the target, if the class is stored in a single table.

    :raises ConfigurationError: subclasses have tables of their own.
    """
    target = Target(class_tables, "bulk_sync()")
    tables = tables_of(class_tables.connection, target)
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise ConfigurationError(
            f"Objects of {target.name} are stored in several tables ({names}), and bulk_sync() "
            "is about one. Use bulk_upsert() or bulk_update(), and bulk_delete()"
        )
    return target


def _goes_singly(connection: Connection, plan: InsertPlan) -> bool:
    """Whether each row is deleted by a statement of its own."""
    return interference_on(connection) is not None or "delete" in plan.facts.watched


def _signed(number: int) -> int:
    return number - 2**32 if number >= 2**31 else number
