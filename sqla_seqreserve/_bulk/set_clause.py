"""The SET clause of an upsert or UPDATE: what changes in a row that exists already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Integer, Table
from sqlalchemy.orm import Mapper

from .._rows.plan import InsertPlan
from .._sqlalchemy.mapping import plain_callable
from ..errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Update:
    """How an existing row is changed.

    :param columns: the columns to overwrite with the given row's value.
    :param where: which rows to change, as ``on_conflict_do_update()`` takes it.
    :param differs: whether a given row differs from the existing row that was found for it. Other
        rows are not sent.
    """

    columns: tuple[Column[Any], ...]
    where: ColumnElement[bool] | None
    differs: ColumnElement[bool] | None = None

    def overwritten(self, plan: InsertPlan, excluded: Any) -> Iterator[tuple[Any, Any]]:
        """Yield each column and its new value; a column that the rows do not give gets its
        ``onupdate``.

        :param excluded: the given row.
        :raises ConfigurationError: an ``onupdate`` reads the row.
        """
        if not self.columns:
            return
        for item in self.columns:
            yield item, excluded[item.key]
        for item, value, call in set_beside(plan.mapper, plan.table, self.columns):
            yield item, value if call is None else call()


def set_beside(
    mapper: Mapper[Any], table: Table, given: Iterable[Column[Any]]
) -> Iterator[tuple[Column[Any], Any, Callable[[], Any] | None]]:
    """Yield what an UPDATE sets in a table in addition to the given columns, by version counting
    and ``onupdate``: each column with its value, or with the function that makes it.

    :raises ConfigurationError: an ``onupdate`` reads the row.
    """
    version = mapper.version_id_col
    generator: Any = mapper.version_id_generator
    # A set, because ``in`` on another iterable compares columns with ``==``, which makes SQL.
    columns = set(given)
    for item in table.columns:
        onupdate: Any = item.onupdate
        if item in columns:
            continue
        if item is version and generator:
            counted = isinstance(item.type, Integer)
            yield item, item + 1 if counted else generator(None), None
        elif onupdate is None:
            continue
        elif onupdate.is_clause_element or onupdate.is_scalar:
            yield item, onupdate.arg, None
        else:
            call = plain_callable(onupdate)
            if call is None:
                raise ConfigurationError(
                    f"{table.name}.{item.name} has an onupdate= that looks at the row, which one "
                    "statement for all rows cannot give it. Expected a function without arguments, "
                    "a value or an SQL expression; or give its value in every row"
                )
            yield item, None, call
