"""SQL for the rows of one upsert, joined with the table's rows that they may match."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Exists,
    FromClause,
    ScalarSelect,
    and_,
    exists,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
)

from .._ids.table_names import stored_name
from .._rows.plan import InsertPlan
from .._sqlalchemy.mapping import key_columns
from ..errors import InvalidRowsError, RowProblem
from .arbiter import Arbiter
from .staged_rows import (
    NUMBER,
    Source,
    key_label,
    keys_in,
    labelled_keys,
    named,
    refuse_same_rows,
    same_rows,
)

HELD: Final = "sqla_seqreserve_held"
"""Name of the column that says whether the arbiter's index holds a row."""

_ELEMENT: Final = "sqla_seqreserve_element_{}"

_COMPARED: Final = "sqla_seqreserve_compared_{}"


class Given:
    """The given rows with the arbiter's elements, and the rows of the target.

    :param compared: columns of the target that are compared with the given rows.
    :ivar has_no_duplicates: whether it is known that no two given rows match the same row.
    """

    def __init__(
        self,
        source: Source,
        plan: InsertPlan,
        arbiter: Arbiter,
        total: int,
        compared: Sequence[Column[Any]] = (),
    ) -> None:
        self.source = source
        self.plan = plan
        self.target = plan.table
        self.arbiter = arbiter
        self.total = total
        self.compared = compared
        self.has_no_duplicates = total == 1
        self.keys = key_columns(plan.mapper, plan.table)
        self.names = [_ELEMENT.format(index) for index in range(len(arbiter.elements))]
        rows = self._rows()
        name = named("given")
        self.rows: Any = rows.subquery(name) if source.is_table else rows.cte(name)
        self.existing: Any = self._existing()

    def _rows(self) -> Any:
        """The given rows, with the arbiter's elements and whether the arbiter's index holds the
        row.
        """
        table = self.source.table
        elements = self._collated(
            table.c[name]
            if name is not None and name in table.c
            else literal_column(f"({element})")
            for name, element in zip(self.arbiter.columns, self.arbiter.elements, strict=True)
        )
        labelled = [item.label(label) for item, label in zip(elements, self.names, strict=True)]
        return select(table, *labelled, self._holds().label(HELD)).select_from(table)

    def _holds(self) -> ColumnElement[bool]:
        if self.arbiter.predicate is None:
            return literal_column("true", Boolean)
        return literal_column(f"({self.arbiter.predicate})", Boolean)

    def _existing(self) -> Any:
        """The target's rows that the arbiter's index holds, with its elements and the row's key."""
        elements = [
            element.label(label)
            for element, label in zip(self._target_elements(), self.names, strict=True)
        ]
        compared = [c.label(_COMPARED.format(index)) for index, c in enumerate(self.compared)]
        found = select(*labelled_keys(self.keys), *elements, *compared).select_from(self.target)
        if self.arbiter.predicate is not None:
            found = found.where(self._holds())
        return found.subquery(named("existing"))

    def _target_elements(self) -> list[Any]:
        """The arbiter's elements, computed from a row of the target."""
        return self._collated(
            self.column(name) if name is not None else literal_column(f"({element})")
            for name, element in zip(self.arbiter.columns, self.arbiter.elements, strict=True)
        )

    def _collated(self, elements: Iterable[Any]) -> list[Any]:
        """Give the elements the collations of the index, which may differ from the columns' own."""
        return [
            element if collation is None else element.op("COLLATE")(literal_column(collation))
            for element, collation in zip(elements, self.arbiter.collations, strict=True)
        ]

    def are_written(self, numbered: Any, written: Any) -> ColumnElement[bool]:
        """Whether a written row is a given one, compared by the arbiter's elements, which are all
        columns.

        :param written: the target's columns.
        """
        columns = [self.column(name or "").key for name in self.arbiter.columns]
        stored = self._collated(written.c[key] for key in columns)
        pairs = zip((numbered.c[label] for label in self.names), stored, strict=True)
        return and_(*(left == right for left, right in pairs))

    def column(self, name: str) -> Any:
        """Return the target's column with this name."""
        return next(item for item in self.target.columns if stored_name(item.name) == name)

    def is_same(self) -> ColumnElement[bool]:
        """Whether a row of the target matches a given row."""
        existing = [self.existing.c[name] for name in self.names]
        return and_(self.rows.c[HELD], *self._are_same(self.rows, existing))

    # The target's rows beside its columns

    @property
    def is_computed(self) -> bool:
        """Whether an element is an expression, or the index partial. Their SQL names columns
        without a table, so it must stand where there is no other table than the target.
        """
        return None in self.arbiter.columns or self.arbiter.predicate is not None

    def stored(self) -> FromClause:
        """The target; with the arbiter's elements of each row, if they are computed."""
        if not self.is_computed:
            return self.target
        return self.target.join(self.existing, self._is_existing())

    def _is_existing(self) -> ColumnElement[bool]:
        pairs = zip(self.keys, keys_in(self.existing, self.keys), strict=True)
        return and_(*(key == label for key, label in pairs))

    def is_same_row(self) -> ColumnElement[bool]:
        """The same as :meth:`is_same` for a row of :meth:`stored`; compared with the target's own
        columns, if no element is computed.
        """
        if self.is_computed:
            return self.is_same()
        return and_(self.rows.c[HELD], *self._are_same(self.rows, self._target_elements()))

    def is_given(self) -> Exists:
        """Whether a given row matches a row of the target."""
        given: FromClause = self.rows
        condition = self.is_same_row()
        if self.is_computed:
            given, condition = given.join(self.existing, condition), self._is_existing()
        found = select(literal(1)).select_from(given).where(condition)
        return exists(found.correlate(self.target))

    def is_matchable(self) -> ColumnElement[bool]:
        """Whether a given row could match a row of the target: the index holds it, and no element
        of it is a NULL that equals nothing.
        """
        conditions = [self.rows.c[HELD]]
        if not self.arbiter.nulls_alike:
            conditions += [self.rows.c[name].is_not(None) for name in self.names]
        return func.coalesce(and_(*conditions), false())

    def in_existing(self) -> list[tuple[Any, Any]]:
        """Return the compared columns, each in :attr:`existing` and in :attr:`rows`."""
        return [
            (self.existing.c[_COMPARED.format(index)], self.rows.c[column.name])
            for index, column in enumerate(self.compared)
        ]

    def are_sent(self, differs: ColumnElement[bool] | None) -> ColumnElement[bool]:
        """Whether a given row is sent, beside the existing row that was found for it, if any.

        :param differs: whether the two differ; ``None``: all rows are sent.
        """
        if differs is None:
            return true()
        return or_(self.existing.c[key_label(0)].is_(None), differs)

    def _are_same(self, rows: Any, elements: Iterable[Any]) -> list[ColumnElement[bool]]:
        """Return the conditions that a row's elements equal these, one by one.

        :param rows: something that has the rows' elements by name.
        """
        pairs = zip((rows.c[name] for name in self.names), elements, strict=True)
        if self.arbiter.nulls_alike:
            return [left.is_not_distinct_from(right) for left, right in pairs]
        return [left == right for left, right in pairs]

    def locked(self, key: Any, numbered: Any) -> ScalarSelect[Any]:
        """Select ``key`` of the target's row that was found for a given row, and lock that row;
        NULL if another transaction has deleted it since, or changed its elements.

        :param numbered: the rows' elements, with the keys of the rows found for them.
        """
        numbers = keys_in(numbered, self.keys)
        keys = [item == number for item, number in zip(self.keys, numbers, strict=True)]
        found = select(key).select_from(self.target)
        found = found.where(*keys, *self._are_same(numbered, self._target_elements()))
        if self.arbiter.predicate is not None:
            found = found.where(self._holds())
        return found.with_for_update(key_share=True).correlate(numbered).scalar_subquery()

    def found(self) -> dict[int, tuple[Any, ...]]:
        """Return the keys of the rows, by number, as the table has them now."""
        keys = keys_in(self.existing, self.keys)
        statement = select(self.rows.c[NUMBER], *keys).select_from(
            self.rows.join(self.existing, self.is_same())
        )
        rows = self.source.connection.execute(statement)
        return {number: tuple(key) for number, *key in rows}

    # Duplicates

    def _groups(self, *columns: Any) -> Any:
        """Return groups of rows that match the same row of the table. Only rows that can already
        exist count: the index holds them, and does not treat a NULL of theirs as distinct.
        """
        conditions = [self.rows.c[HELD]]
        if not self.arbiter.nulls_alike:
            conditions += [self.rows.c[name].is_not(None) for name in self.names]
        return same_rows(self.rows, columns, [self.rows.c[name] for name in self.names], conditions)

    def has_duplicates(self) -> Exists:
        """Whether two given rows match the same row of the table."""
        return exists(self._groups(literal(1)).correlate(None))

    def refuse_duplicates(self) -> None:
        """Refuse given rows that match the same row of the table.

        :raises InvalidRowsError: naming each with the first of them.
        """
        number = self.rows.c[NUMBER]
        refuse_same_rows(
            self.source.connection.execute(self._groups(func.min(number), func.array_agg(number))),
            self.plan.mapper,
            self.total,
            self._attributes(),
            self.arbiter.name,
        )

    def refuse_unmatchable(self, numbers: Sequence[int]) -> None:
        """Refuse given rows that can match no row of the table.

        :raises InvalidRowsError: naming each.
        """
        if not numbers:
            return
        name = self.arbiter.name
        what = f"is not held by {name}, or {name} computes NULL for it: so no row matches it"
        attributes = self._attributes()
        raise InvalidRowsError(
            f"{self.plan.mapper.class_.__name__}: {len(numbers)} of {self.total} rows cannot be "
            f"looked up by {name}; nothing was written",
            [RowProblem(number, attributes, what) for number in sorted(numbers)],
        )

    def _attributes(self) -> str:
        attributes = {stored_name(c.column.name): c.attribute for c in self.plan.columns}
        return ", ".join(
            str(attributes.get(name or "", name) or element)
            for name, element in zip(self.arbiter.columns, self.arbiter.elements, strict=True)
        )
