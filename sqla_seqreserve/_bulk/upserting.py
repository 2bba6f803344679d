"""One ``bulk_upsert``: the rows staged in a temporary table, then one INSERT .. ON CONFLICT.

The statement looks each row up by the arbiter's columns first, and takes an id from the sequence
for those rows alone that are not there; ON CONFLICT by itself would take one for every row. It
writes in the order of the arbiter's columns, so that two upserts of the same rows lock them in one
order and wait for each other instead of dead-locking. What the look-up did not see, for another
transaction inserted it meanwhile, ON CONFLICT still finds: it costs an id and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Integer,
    Select,
    and_,
    cast,
    false,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm.exc import FlushError

from .. import _host as host
from .._rows.plan import Absent, InsertPlan
from ..errors import ConfigurationError, InvalidRowsError, RowProblem
from .arbiter import Arbiter
from .staging import NUMBER, Staging

__all__ = ["Outcome", "Update", "Upserting"]

_MOST_PROBLEMS: Final = 1000

# Names beside those of the table's own columns.
_ELEMENT: Final = "sqla_seqreserve_element_{}"
_KEY: Final = "sqla_seqreserve_key_{}"
_HELD: Final = "sqla_seqreserve_held"
_ID: Final = "sqla_seqreserve_id"
_NEW: Final = "sqla_seqreserve_new"


@dataclass(frozen=True, slots=True)
class Update:
    """What becomes of a row that is there.

    :param columns: the columns to overwrite with the row's value.
    :param where: which rows, as ``on_conflict_do_update()`` takes it.
    """

    columns: tuple[Column[Any], ...]
    where: ColumnElement[bool] | None


@dataclass(slots=True, eq=False)
class Outcome:
    """What an upsert wrote; as asked for, the ``keys`` of every row, and of those ``changed``."""

    inserted: int
    updated: int
    keys: list[tuple[Any, ...]] = field(default_factory=list)
    changed: list[tuple[Any, ...]] = field(default_factory=list)


class _OverridingSelect(Select[Any]):
    """A SELECT for an INSERT that may give GENERATED ALWAYS columns their value."""

    inherit_cache = True


@compiles(_OverridingSelect, "postgresql")
def _compile(element: _OverridingSelect, compiler: Any, **options: Any) -> str:
    return f"OVERRIDING SYSTEM VALUE {compiler.visit_select(element, **options)}"


class Upserting:
    """The statements of one upsert over rows that are staged.

    :param sequence: the name of the sequence that numbers the key, with the key's column; ``None``:
        the server's defaults do what there is to do.
    """

    def __init__(
        self,
        staged: Staging,
        plan: InsertPlan,
        arbiter: Arbiter,
        sequence: tuple[Column[Any], str] | None,
        update: Update,
        total: int,
    ) -> None:
        self.connection = staged.connection
        self.staged = staged
        self.plan = plan
        self.target = plan.table
        self.arbiter = arbiter
        self.sequence = sequence
        self.update = update
        self.total = total
        self.keys: Sequence[Any] = host.key_columns(plan.mapper, plan.table)
        self.names = [_ELEMENT.format(index) for index in range(len(arbiter.elements))]

    def refuse_duplicates(self) -> None:
        """Refuse rows that are one and the same row of the table.

        :raises InvalidRowsError: naming each with the one before it.
        """
        rows = self._rows().subquery("given")
        keys = [rows.c[name] for name in self.names]
        numbers = func.array_agg(rows.c[NUMBER]).label("numbers")
        statement = (
            select(func.min(rows.c[NUMBER]), func.max(rows.c[NUMBER]), numbers)
            .where(self._is_keyed(rows))
            .group_by(*keys)
            .having(func.count() > 1)
            .order_by(func.min(rows.c[NUMBER]))
            .limit(_MOST_PROBLEMS)
        )
        problems = []
        for first, _, found in self.connection.execute(statement):
            problems += [
                RowProblem(number, self._attributes(), f"is the same row as row {first}")
                for number in sorted(found)[1:]
            ]
        if problems:
            problems.sort(key=lambda problem: problem.index)
            raise InvalidRowsError(
                f"{self.plan.mapper.class_.__name__}: {len(problems)} of {self.total} rows are for "
                f"a row that another one is for, by {self.arbiter.name}; nothing was written",
                problems,
            )

    def _attributes(self) -> str:
        named = {item.column.name: item.attribute for item in self.plan.columns}
        return ", ".join(
            str(named.get(name or "", name) or element)
            for name, element in zip(self.arbiter.columns, self.arbiter.elements, strict=True)
        )

    def _rows(self) -> Select[Any]:
        """The staged rows, with the arbiter's elements and whether it holds the row."""
        staged = self.staged.table
        elements = [
            (
                staged.c[name]
                if name is not None and name in staged.c
                else literal_column(f"({element})")
            ).label(label)
            for name, element, label in zip(
                self.arbiter.columns, self.arbiter.elements, self.names, strict=True
            )
        ]
        return select(staged, *elements, self._holds().label(_HELD)).select_from(staged)

    def _holds(self) -> ColumnElement[bool]:
        if self.arbiter.predicate is None:
            return literal_column("true", Boolean)
        return literal_column(f"({self.arbiter.predicate})", Boolean)

    def _is_keyed(self, rows: Any) -> ColumnElement[bool]:
        """Whether a row can be there already: the index holds it, and knows no NULL of it."""
        conditions = [rows.c[_HELD]]
        if not self.arbiter.nulls_alike:
            conditions += [rows.c[name].is_not(None) for name in self.names]
        return and_(*conditions)

    def _existing(self) -> Any:
        """The rows of the table that the arbiter holds, with its elements and the row's key."""
        table = self.target
        elements = [
            (
                table.c[self._key_of(name)] if name is not None else literal_column(f"({element})")
            ).label(label)
            for name, element, label in zip(
                self.arbiter.columns, self.arbiter.elements, self.names, strict=True
            )
        ]
        keys = [key.label(_KEY.format(index)) for index, key in enumerate(self.keys)]
        found = select(*keys, *elements).select_from(table)
        if self.arbiter.predicate is not None:
            found = found.where(self._holds())
        return found.subquery("existing")

    def _key_of(self, name: str) -> str:
        return next(item.key for item in self.target.columns if item.name == name)

    def _is_same(self, rows: Any, existing: Any) -> ColumnElement[bool]:
        pairs = [(rows.c[name], existing.c[name]) for name in self.names]
        if self.arbiter.nulls_alike:
            same = [left.is_not_distinct_from(right) for left, right in pairs]
        else:
            same = [left == right for left, right in pairs]
        return and_(rows.c[_HELD], *same)

    def run(self, *, keys: bool, changed: bool) -> Outcome:
        """Write the rows.

        :param keys: whether the key of each row is wanted.
        :param changed: whether the keys of the rows that were updated are.
        """
        numbered = self._numbered().cte("numbered")
        written = self._insert(numbered).cte("written")
        source, is_new = self._with_news(numbered, written)
        if not keys and not changed:
            counts = select(func.count().filter(is_new), func.count().filter(~is_new)).select_from(
                source
            )
            return Outcome(*self.connection.execute(counts).one())
        if not keys:
            found = self.connection.execute(
                select(is_new, *(written.c[key.key] for key in self.keys)).select_from(source)
            ).all()
            return Outcome(
                sum(row[0] for row in found),
                sum(not row[0] for row in found),
                changed=[tuple(row[1:]) for row in found if not row[0]],
            )
        statement = select(
            numbered.c[NUMBER], is_new, *(written.c[key.key] for key in self.keys)
        ).select_from(source.outerjoin(numbered, self._is_written(numbered, written)))
        outcome = Outcome(0, 0)
        aligned: dict[int, tuple[Any, ...]] = {}
        for number, new, *key in self.connection.execute(statement):
            if new:
                outcome.inserted += 1
            else:
                outcome.updated += 1
                outcome.changed.append(tuple(key))
            if number is not None:
                aligned[number] = tuple(key)
        if len(aligned) < self.total:
            aligned = {**self._found(), **aligned}
        missing = next((n for n in range(self.total) if n not in aligned), None)
        if missing is not None:
            raise FlushError(
                f"Row {missing}: INSERT .. ON CONFLICT for {self.plan.mapper} left no row in "
                f"{self.target.name} that can be told to be its own. A trigger discards it or "
                "changes its key; ask for returning=None"
            )
        outcome.keys = [aligned[number] for number in range(self.total)]
        return outcome

    def _numbered(self) -> Select[Any]:
        """The staged rows in their order, each with what it has in the table or the next id."""
        rows = self._rows().subquery("given")
        existing = self._existing()
        statement = select(
            rows,
            *(existing.c[_KEY.format(index)] for index in range(len(self.keys))),
        )
        if self.sequence is not None:
            key, name = self.sequence
            position = list(self.keys).index(key)
            known: list[Any] = [existing.c[_KEY.format(position)]]
            if key.name in rows.c:
                known.insert(0, rows.c[key.name])
            # A constant, which is looked up once; a parameter would be for each row.
            quoted = name.replace("'", "''")
            taken = func.nextval(literal_column(f"'{quoted}'::regclass"), type_=BigInteger)
            number = cast(func.coalesce(*known, taken, type_=BigInteger), key.type)
            statement = statement.add_columns(number.label(_ID))
        return statement.select_from(
            rows.outerjoin(existing, self._is_same(rows, existing))
        ).order_by(rows.c[NUMBER])

    def _insert(self, numbered: Any) -> Any:
        target: list[Any] = []
        values: list[Any] = []
        for item in self.staged.plan.columns:
            if self.sequence is not None and item.column is self.sequence[0]:
                continue
            target.append(item.column)
            values.append(numbered.c[item.column.name])
        if self.sequence is not None:
            target.append(self.sequence[0])
            values.append(numbered.c[_ID])
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
        rows = _OverridingSelect(*values).order_by(*(numbered.c[name] for name in self.names))
        statement = pg_insert(self.target).from_select(
            [item.key for item in target], rows, include_defaults=False
        )
        where: ColumnElement[bool] | None = (
            literal_column(self.arbiter.predicate, Boolean)
            if self.arbiter.predicate is not None
            else None
        )
        elements: Any = self.arbiter.target()
        overwritten = dict(self._overwritten(statement.excluded))
        if overwritten:
            statement = statement.on_conflict_do_update(
                index_elements=elements,
                index_where=where,
                set_=overwritten,
                where=self.update.where,
            )
        else:
            statement = statement.on_conflict_do_nothing(index_elements=elements, index_where=where)
        returned = [*self.keys]
        returned += [
            self.target.c[self._key_of(name)]
            for name in self.arbiter.columns
            if name is not None and self.target.c[self._key_of(name)] not in self.keys
        ]
        if not self._is_partitioned:
            returned.append(literal_column("(xmax = 0)", Boolean).label(_NEW))
        return statement.returning(*returned)

    def _overwritten(self, excluded: Any) -> Iterator[tuple[Any, Any]]:
        """Column -> what it is set to, of a row that is there."""
        if not self.update.columns:
            return
        for item in self.update.columns:
            yield item, excluded[item.key]
        version = self.plan.mapper.version_id_col
        generator: Any = self.plan.mapper.version_id_generator
        for item in self.target.columns:
            if item in self.update.columns:
                continue
            if item is version and generator:
                yield item, item + 1 if isinstance(item.type, Integer) else generator(None)
            elif item.onupdate is not None:
                yield item, self._on_update(item)

    def _on_update(self, item: Column[Any]) -> Any:
        onupdate: Any = item.onupdate
        if onupdate.is_clause_element or onupdate.is_scalar:
            return onupdate.arg
        call = host.plain_callable(onupdate)
        if call is None:
            raise ConfigurationError(
                f"{self.target.name}.{item.name} has an onupdate= that looks at the row, which one "
                "statement for all rows cannot give it. Expected a function without arguments, a "
                "value or an SQL expression; or name the column in `update` and give its value"
            )
        return call()

    @property
    def _is_partitioned(self) -> bool:
        """Whether RETURNING shows no system column, as PostgreSQL has it for partitioned tables."""
        return self.plan.facts.kind == "p"

    def _with_news(self, numbered: Any, written: Any) -> tuple[Any, ColumnElement[bool]]:
        """The rows that were written, and whether one was not there before."""
        if not self._is_partitioned:
            return written, written.c[_NEW]
        labels = [_KEY.format(index) for index in range(len(self.keys))]
        known = (
            select(*(numbered.c[label] for label in labels))
            .where(numbered.c[labels[0]].is_not(None))
            .subquery("known")
        )
        same = and_(
            *(
                known.c[label] == written.c[key.key]
                for label, key in zip(labels, self.keys, strict=True)
            )
        )
        return written.outerjoin(known, same), known.c[labels[0]].is_(None)

    def _is_written(self, numbered: Any, written: Any) -> ColumnElement[bool]:
        """Whether a row that was written is that of a staged one."""
        if self.sequence is not None:
            key = self.sequence[0]
            return and_(numbered.c[_ID] == written.c[key.key], self._other_keys(numbered, written))
        names = {item.column.name for item in self.staged.plan.columns}
        if all(key.name in names for key in self.keys):
            return and_(*(numbered.c[key.name] == written.c[key.key] for key in self.keys))
        same = []
        for name, label in zip(self.arbiter.columns, self.names, strict=True):
            if name is None:
                return false()
            same.append(numbered.c[label] == written.c[self._key_of(name)])
        return and_(*same)

    def _other_keys(self, numbered: Any, written: Any) -> ColumnElement[bool]:
        assert self.sequence is not None
        names = {item.column.name for item in self.staged.plan.columns}
        return and_(
            true(),
            *(
                numbered.c[key.name] == written.c[key.key]
                for key in self.keys
                if key is not self.sequence[0] and key.name in names
            ),
        )

    def _found(self) -> dict[int, tuple[Any, ...]]:
        """The keys of the staged rows as the table has them now."""
        rows = self._rows().subquery("given")
        existing = self._existing()
        keys = [existing.c[_KEY.format(index)] for index in range(len(self.keys))]
        statement = select(rows.c[NUMBER], *keys).select_from(
            rows.join(existing, self._is_same(rows, existing))
        )
        return {number: tuple(key) for number, *key in self.connection.execute(statement)}
