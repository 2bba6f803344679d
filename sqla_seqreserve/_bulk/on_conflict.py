"""Runs one ``bulk_upsert``: its rows, staged or sent along, in one INSERT .. ON CONFLICT.

The statement first looks each row up by the arbiter's columns, and takes an id from the sequence
only for rows that do not exist; ON CONFLICT by itself would take one for every row. It writes in
the order of the arbiter's columns, so two upserts of the same rows lock them in the same order and
wait for each other instead of deadlocking. If another transaction inserts a row after the look-up,
ON CONFLICT still finds it; that costs an id and nothing else. If two given rows match the same row
of the table, the statement writes nothing, and the duplicates are looked for afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Select,
    and_,
    case,
    cast,
    false,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm.exc import FlushError

from .._reasons import Reason
from .._rows.plan import Absent
from ..reports import Writer
from .given_rows import Given
from .set_clause import Update
from .staged_rows import NUMBER, key_label, keys_in, named

# Names used next to the table's own columns.
_ID: Final = "sqla_seqreserve_id"
_NEW: Final = "sqla_seqreserve_new"


@dataclass(slots=True, eq=False)
class Outcome:
    """How many rows an upsert wrote, whether COPY brought them, and why they were written one by
    one. If wanted: the ``keys`` of every row, and of those ``changed``.
    """

    inserted: int
    updated: int
    total: int = 0
    writer: Writer = "insert"
    reason: Reason | None = None
    keys: list[tuple[Any, ...]] = field(default_factory=list)
    changed: list[tuple[Any, ...]] = field(default_factory=list)


def _next(sequence: str) -> ColumnElement[int]:
    # A constant, which is resolved once; a parameter would be resolved for each row.
    quoted = sequence.replace("'", "''")
    return func.nextval(literal_column(f"'{quoted}'::regclass"), type_=BigInteger)


class _OverridingSelect(Select[Any]):
    """A SELECT for an INSERT that may give GENERATED ALWAYS columns their value."""

    inherit_cache = True


@compiles(_OverridingSelect, "postgresql")
def _compile(element: _OverridingSelect, compiler: Any, **options: Any) -> str:
    return f"OVERRIDING SYSTEM VALUE {compiler.visit_select(element, **options)}"


class Upserting:
    """The statement of one upsert.

    :param sequence: the name of the sequence that numbers the key, with the key's column; ``None``:
        the server's defaults fill the key.
    """

    def __init__(
        self, given: Given, sequence: tuple[Column[Any], str] | None, update: Update
    ) -> None:
        self.given = given
        self.connection = given.source.connection
        self.plan = given.plan
        self.target = given.target
        self.arbiter = given.arbiter
        self.sequence = sequence
        self.update = update
        self.keys = given.keys

    def run(self, *, wants_keys: bool, wants_changed: bool) -> Outcome:
        """Write the rows.

        :param wants_keys: whether the caller wants the key of each row.
        :param wants_changed: whether the caller wants the keys of the updated rows.
        :raises InvalidRowsError: two rows match the same row of the table; nothing was written.
        """
        given = self.given
        if self._checks_first and not given.has_no_duplicates:
            given.refuse_duplicates()
        outcome, aligned = self._write(wants_keys=wants_keys, wants_changed=wants_changed)
        if not (outcome.inserted or outcome.updated or given.has_no_duplicates):
            given.refuse_duplicates()
        if not wants_keys:
            return outcome
        if len(aligned) < given.total:
            aligned = {**given.found(), **aligned}
        missing = next((n for n in range(given.total) if n not in aligned), None)
        if missing is not None:
            raise FlushError(
                f"Row {missing}: INSERT .. ON CONFLICT for {self.plan.mapper} left no row in "
                f"{self.target.name} that is certainly its own. A trigger discards it or "
                "changes its key, or another transaction has just deleted it; ask for "
                "returning=None"
            )
        outcome.keys = [aligned[number] for number in range(given.total)]
        return outcome

    @property
    def _checks_first(self) -> bool:
        """Whether a separate statement looks for duplicates. Statement triggers fire even where
        nothing is written, and Citus refuses the condition that the statement would need.
        """
        return bool(self.plan.facts.statement_triggers) or self.plan.facts.distributed

    def _write(
        self, *, wants_keys: bool, wants_changed: bool
    ) -> tuple[Outcome, dict[int, tuple[Any, ...]]]:
        """Write the rows; return the outcome, and the keys of the written rows by number."""
        outcome, aligned = Outcome(0, 0), dict[int, tuple[Any, ...]]()
        numbered: Any = self._numbered()
        # Citus accepts no join with a table of its own below the INSERT .. SELECT of every key.
        if wants_keys or self._is_partitioned or self.plan.facts.distributed:
            numbered = numbered.cte(named("numbered"))
        else:
            # A subquery is read once; a CTE would be materialized first.
            numbered = numbered.subquery(named("numbered"))
        returns_keys = wants_keys or wants_changed
        written = self._insert(numbered, keys=returns_keys or self._is_partitioned).cte(
            named("written")
        )
        source, is_new = self._with_news(numbered, written)
        if not returns_keys:
            counts = select(func.count().filter(is_new), func.count().filter(~is_new))
            row = self.connection.execute(counts.select_from(source)).one()
            outcome.inserted, outcome.updated = row
            return outcome, aligned
        written_keys = [written.c[key.key] for key in self.keys]
        number: Any = literal_column("NULL")
        if wants_keys:
            number = numbered.c[NUMBER]
            source = source.outerjoin(numbered, self._is_written(numbered, written))
        statement = select(number, is_new, *written_keys).select_from(source)
        for position, new, *key in self.connection.execute(statement):
            if new:
                outcome.inserted += 1
            else:
                outcome.updated += 1
                outcome.changed.append(tuple(key))
            if position is not None:
                aligned[position] = tuple(key)
        return outcome, aligned

    def _numbered(self) -> Select[Any]:
        """Select the rows to send in their order, each with the id that it has in the table or the
        next id; no row at all if two match the same one.
        """
        given = self.given
        rows, existing = given.rows, given.existing
        statement = select(rows, *keys_in(existing, self.keys))
        statement = statement.select_from(rows.outerjoin(existing, given.is_same()))
        statement = statement.where(given.are_sent(self.update.differs))
        if not (given.has_no_duplicates or self._checks_first):
            statement = statement.where(~given.has_duplicates())
        if self.sequence is None:
            return statement
        key, name = self.sequence
        position = list(self.keys).index(key)
        known: list[Any] = [existing.c[key_label(position)]]
        if key.name in rows.c:
            known.insert(0, rows.c[key.name])
        number = cast(func.coalesce(*known, _next(name), type_=BigInteger), key.type)
        return statement.add_columns(number.label(_ID)).order_by(rows.c[NUMBER])

    def _insert(self, numbered: Any, *, keys: bool) -> Any:
        target: list[Any] = []
        values: list[Any] = []
        for item in self.given.source.plan.columns:
            if self.sequence is not None and item.column is self.sequence[0]:
                continue
            target.append(item.column)
            values.append(numbered.c[item.column.name])
        if self.sequence is not None:
            target.append(self.sequence[0])
            values.append(self._id(numbered))
        given = {id(item) for item in target}
        for planned in self.plan.columns:
            default: Any = planned.column.default
            if (
                planned.absent is Absent.ELSEWHERE
                and id(planned.column) not in given
                and default is not None
                and default.is_clause_element
            ):
                target.append(planned.column)
                values.append(default.arg)
        rows = _OverridingSelect(*values).order_by(*(numbered.c[name] for name in self.given.names))
        if self._looks_again and not self.update.columns:
            # An existing row needs nothing.
            rows = rows.where(self._known(numbered).is_(None))
        statement = pg_insert(self.target).from_select(
            [item.key for item in target], rows, include_defaults=False
        )
        statement = self._on_conflict(statement)
        returned: list[Any] = []
        if keys:
            columns = [self.given.column(name) for name in self.arbiter.columns if name is not None]
            returned += dict.fromkeys([*self.keys, *columns])
        if not self._is_partitioned:
            returned.append(literal_column("(xmax = 0)", Boolean).label(_NEW))
        return statement.returning(*returned)

    def _on_conflict(self, statement: Insert) -> Insert:
        """Add to the INSERT what happens to an existing row."""
        where: ColumnElement[bool] | None = (
            literal_column(self.arbiter.predicate, Boolean)
            if self.arbiter.predicate is not None
            else None
        )
        elements: Any = self.arbiter.target()
        overwritten = dict(self.update.overwritten(self.plan, statement.excluded))
        if not overwritten:
            return statement.on_conflict_do_nothing(index_elements=elements, index_where=where)
        return statement.on_conflict_do_update(
            index_elements=elements, index_where=where, set_=overwritten, where=self.update.where
        )

    @property
    def _looks_again(self) -> bool:
        """Whether an existing row is sent with its own id to a statement that finds it by other
        columns. Citus accepts no statement that reads a row again.
        """
        return (
            self.sequence is not None
            and self.sequence[0].name not in self.arbiter.columns
            and not self.plan.facts.distributed
        )

    def _known(self, numbered: Any) -> Any:
        """The id of the existing row that was found, or NULL."""
        assert self.sequence is not None
        return numbered.c[key_label(list(self.keys).index(self.sequence[0]))]

    def _id(self, numbered: Any) -> Any:
        """Return the id with which a row is sent.

        ON CONFLICT may miss a row that another transaction is updating. PostgreSQL then retries by
        itself, but not if the primary key is a duplicate too, which it is when the row is sent with
        its own id. So the existing row is locked first: in the order of the arbiter, as ON CONFLICT
        does.
        """
        assert self.sequence is not None
        key, name = self.sequence
        number = numbered.c[_ID]
        if not (self._looks_again and self.update.columns):
            return number
        is_new = self._known(numbered).is_(None)
        if key.name in numbered.c:
            is_new |= numbered.c[key.name].is_not(None)
        locked = func.coalesce(self.given.locked(key, numbered), _next(name), type_=BigInteger)
        return case((is_new, number), else_=cast(locked, key.type))

    @property
    def _is_partitioned(self) -> bool:
        """Whether RETURNING shows no system columns, as is the case for partitioned tables."""
        return self.plan.facts.kind == "p"

    def _with_news(self, numbered: Any, written: Any) -> tuple[Any, ColumnElement[bool]]:
        """Return the written rows, and whether each one is new."""
        if not self._is_partitioned:
            return written, written.c[_NEW]
        labels = [key_label(index) for index in range(len(self.keys))]
        known = (
            select(*(numbered.c[label] for label in labels))
            .where(numbered.c[labels[0]].is_not(None))
            .subquery(named("known"))
        )
        same = and_(
            *(
                known.c[label] == written.c[key.key]
                for label, key in zip(labels, self.keys, strict=True)
            )
        )
        return written.outerjoin(known, same), known.c[labels[0]].is_(None)

    def _is_written(self, numbered: Any, written: Any) -> ColumnElement[bool]:
        """Whether a written row is that of a staged one."""
        if self.sequence is not None:
            key = self.sequence[0]
            return and_(numbered.c[_ID] == written.c[key.key], self._other_keys(numbered, written))
        names = {item.column.name for item in self.given.source.plan.columns}
        if all(key.name in names for key in self.keys):
            return and_(*(numbered.c[key.name] == written.c[key.key] for key in self.keys))
        if None in self.arbiter.columns:
            return false()
        return self.given.are_written(numbered, written)

    def _other_keys(self, numbered: Any, written: Any) -> ColumnElement[bool]:
        assert self.sequence is not None
        names = {item.column.name for item in self.given.source.plan.columns}
        return and_(
            true(),
            *(
                numbered.c[key.name] == written.c[key.key]
                for key in self.keys
                if key is not self.sequence[0] and key.name in names
            ),
        )
