"""What becomes of a row that is there already: the SET of an upsert."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Integer

from .._rows.plan import InsertPlan
from .._sqlalchemy.mapping import plain_callable
from ..errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Update:
    """What becomes of a row that is there.

    :param columns: the columns to overwrite with the row's value.
    :param where: which rows, as ``on_conflict_do_update()`` takes it.
    """

    columns: tuple[Column[Any], ...]
    where: ColumnElement[bool] | None

    def overwritten(self, plan: InsertPlan, excluded: Any) -> Iterator[tuple[Any, Any]]:
        """Column -> what it is set to; what the rows do not give, by its ``onupdate``.

        :param excluded: the row that is given.
        :raises ConfigurationError: an ``onupdate`` looks at the row.
        """
        if not self.columns:
            return
        for item in self.columns:
            yield item, excluded[item.key]
        version = plan.mapper.version_id_col
        generator: Any = plan.mapper.version_id_generator
        # Not in the tuple: to look there compares columns as SQL does.
        columns = set(self.columns)
        for item in plan.table.columns:
            if item in columns:
                continue
            if item is version and generator:
                yield item, item + 1 if isinstance(item.type, Integer) else generator(None)
            elif item.onupdate is not None:
                yield item, _on_update(item)


def _on_update(item: Column[Any]) -> Any:
    onupdate: Any = item.onupdate
    if onupdate.is_clause_element or onupdate.is_scalar:
        return onupdate.arg
    call = plain_callable(onupdate)
    if call is None:
        raise ConfigurationError(
            f"{item.table.name}.{item.name} has an onupdate= that looks at the row, which one "
            "statement for all rows cannot give it. Expected a function without arguments, a "
            "value or an SQL expression; or name the column in `update` and give its value"
        )
    return call()
