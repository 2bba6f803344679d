"""Finds the rows of a class's tables that match given rows by a key, and locks them in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Table,
    and_,
    exists,
    false,
    func,
    literal,
    select,
    true,
)

from .._rows.plan import ColumnPlan
from .staged_rows import NUMBER, Source, keys_in, labelled_keys, named, refuse_same_rows, same_rows
from .target import Target

FITS: Final = "sqla_seqreserve_fits"
"""Name of the column that says whether the condition holds for a row that was found."""

STALE: Final = "sqla_seqreserve_stale"
"""Name of the column that says whether the version of a found row differs from the given one."""


class Matching:
    """The given rows, and the rows of the tables that have their key.

    :param by: the columns of the key, as they are staged.
    """

    def __init__(self, source: Source, target: Target, by: Sequence[ColumnPlan], total: int):
        self.source = source
        self.target = target
        self.total = total
        self.by = by
        given = select(source.table)
        name = named("given")
        self.rows: Any = given.subquery(name) if source.is_table else given.cte(name)

    def is_same(self) -> ColumnElement[bool]:
        """Whether a row of the tables matches a given row."""
        pairs = [item.column == self.rows.c[item.column.name] for item in self.by]
        return and_(*pairs, *self.target.is_of_class())

    def found(
        self,
        columns: Sequence[str] = (),
        *,
        where: ColumnElement[bool] | None = None,
        version: Any = None,
        locked: Sequence[Table] = (),
        key_share: bool = False,
    ) -> Any:
        """Return a CTE with the number and the key of each matching row, locked in the order of the
        key.

        :param columns: columns of the given rows to add.
        :param where: the condition that becomes :data:`FITS`.
        :param version: a column that must equal the given value: :data:`STALE`.
        :param locked: the tables whose rows are locked.
        :param key_share: whether other transactions may still refer to the rows.
        :raises ConfigurationError: the condition joins rows of another table.
        """
        rows, target = self.rows, self.target
        fits: Any = true()
        if where is not None:
            fits = func.coalesce(target.plainly(and_(where), rows), false())
        stale = false() if version is None else version.is_distinct_from(rows.c[version.name])
        statement = select(
            rows.c[NUMBER],
            *labelled_keys(target.keys),
            *(rows.c[name] for name in columns),
            fits.cast(Boolean).label(FITS),
            stale.cast(Boolean).label(STALE),
        ).select_from(target.mapper.persist_selectable.join(rows, self.is_same()))
        if where is not None:
            target.refuse_other_tables("where", statement)
        statement = statement.order_by(*target.keys)
        if locked:
            statement = statement.with_for_update(of=list(locked), key_share=key_share)
        return statement.cte(named("found"))

    def keys_of(self, found: Any) -> list[Any]:
        """Return the key columns of what :meth:`found` returned."""
        return keys_in(found, self.target.keys)

    # Duplicates

    def _groups(self, *columns: Any) -> Any:
        by = [self.rows.c[item.column.name] for item in self.by]
        return same_rows(self.rows, columns, by)

    def has_duplicates(self) -> ColumnElement[bool]:
        """Whether two given rows match the same row of the tables."""
        return exists(self._groups(literal(1)).correlate(None))

    def refuse_duplicates(self) -> None:
        """Refuse given rows that match the same row of the tables.

        :raises InvalidRowsError: naming each with the first of them.
        """
        number = self.rows.c[NUMBER]
        attributes = ", ".join(str(item.attribute) for item in self.by)
        groups = self._groups(func.min(number), func.array_agg(number))
        refuse_same_rows(
            self.source.connection.execute(groups),
            self.target.mapper,
            self.total,
            attributes,
            attributes,
        )
