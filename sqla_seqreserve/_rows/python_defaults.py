"""Calls the Python-side defaults of rows, column by column."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat, starmap
from typing import Any, Final

from sqlalchemy import Column, Connection
from sqlalchemy.exc import DBAPIError

from .plan import ColumnPlan

_NONE_RESERVED: Final[Mapping[str, Container[int]]] = {}


@dataclass(frozen=True, slots=True, eq=False)
class FilledValues:
    """A column's values with defaults filled in, and as they were given."""

    values: Sequence[Any]
    given: Sequence[Any]
    nothing: object

    def is_default(self, position: int) -> bool:
        """Whether the row at this position of the batch had no value of its own."""
        return self.given[position] is self.nothing


class DefaultContext:
    """The argument of a context-sensitive default: the parameters of the row, as SQLAlchemy's
    execution context gives them. Columns that get a default hold their value if it has been
    computed already; the others, the default's own column among them, hold ``None``.

    :param ready: the columns of the INSERT, each with the values that were given.
    :param positions: the positions of the rows in the input.
    :param reserved: attribute of the key -> positions of the rows whose value was reserved.
    """

    def __init__(
        self,
        connection: Connection,
        ready: Sequence[tuple[ColumnPlan, Sequence[Any]]],
        positions: Sequence[int] = (),
        reserved: Mapping[str, Container[int]] = _NONE_RESERVED,
    ) -> None:
        self.connection = self.root_connection = connection
        self.dialect = connection.dialect
        self.engine = connection.engine
        self.isinsert = True
        self.isupdate = self.isdelete = False
        self.current_column: Column[Any] | None = None
        self.current_parameters: dict[str, Any] = {}
        self._ready = list(ready)
        self._positions = positions
        self._reserved = reserved

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, Any]:  # noqa: ARG002  # SQLAlchemy's signature
        return self.current_parameters

    def filled(self) -> list[tuple[ColumnPlan, Sequence[Any]]]:
        """Return the columns with their default filled in; the same list of values where nothing
        was missing. Defaults are called in SQLAlchemy's order: those that the ORM sets first, then
        row by row.
        """
        lacking = []
        for slot, (plan, values) in enumerate(self._ready):
            nothing = plan.nothing
            if plan.default is None or type(nothing) not in set(map(type, values)):
                continue
            if plan.is_of_class:
                self.current_column = plan.column
                default = plan.default
                filled = [default(self) if value is nothing else value for value in values]
                self._ready[slot] = (plan, filled)
            else:
                lacking.append(slot)
        called = [slot for slot in lacking if not _is_scalar(self._ready[slot][0])]
        if any(self._ready[slot][0].plain_default is None for slot in called):
            self._fill_by_row(lacking)
        else:
            for slot in lacking:
                if slot not in called:
                    self._fill_with_scalar(slot)
            self._call(called)
        return self._ready

    def _fill_by_row(self, lacking: Sequence[int]) -> None:
        """Call the defaults row by row, because at least one takes the context."""
        given = [values for _, values in self._ready]
        columns = []
        for slot in lacking:
            plan, values = self._ready[slot]
            filled = list(values)
            self._ready[slot] = (plan, filled)
            columns.append((plan, plan.nothing, str(plan.column.key), values, filled))
        keys = [str(plan.column.key) for plan, _ in self._ready]
        hidden = [
            (key, self._reserved[plan.attribute])
            for key, (plan, _) in zip(keys, self._ready, strict=True)
            if plan.attribute is not None and plan.attribute in self._reserved
        ]
        for row, parameters in enumerate(zip(*given, strict=True)):
            self.current_parameters = current = dict(zip(keys, parameters, strict=True))
            for key, positions in hidden:
                if self._positions[row] in positions:
                    del current[key]
            absent = [one for one in columns if one[3][row] is one[1]]
            for _, _, key, _, _ in absent:
                current[key] = None
            for plan, _, key, _, filled in absent:
                assert plan.default is not None
                self.current_column = plan.column
                try:
                    filled[row] = current[key] = plan.default(self)
                except Exception as error:
                    raise self.in_statement(error, plan.column) from error

    def _fill_with_scalar(self, slot: int) -> None:
        plan, values = self._ready[slot]
        assert plan.default is not None
        nothing, constant = plan.nothing, plan.default(self)
        filled = [constant if value is nothing else value for value in values]
        self._ready[slot] = (plan, filled)

    def _call(self, slots: Sequence[int]) -> None:
        """Call defaults that take no context: one call per row, and no other work."""
        columns = [self._ready[slot] for slot in slots]
        calls = [_of_each(plan, values) for plan, values in columns]
        if not calls:
            return
        try:
            # The loop runs in C; row by row if there are several defaults.
            several = list(zip(*calls, strict=True)) if len(calls) > 1 else None
            made = list(zip(*several, strict=True)) if several else [list(calls[0])]
        except Exception as error:
            raise self.in_statement(error, columns[0][0].column) from error
        for slot, (plan, _), filled in zip(slots, columns, made, strict=True):
            self._ready[slot] = (plan, filled)

    def in_statement(self, error: Exception, column: Column[Any]) -> BaseException:
        """Return the error as SQLAlchemy raises it: SQLAlchemy calls a default, but not a version,
        within a statement.
        """
        return DBAPIError.instance(
            f"INSERT INTO {column.table}",
            None,
            error,
            self.dialect.loaded_dbapi.Error,
            hide_parameters=True,
            dialect=self.dialect,
        )


def _is_scalar(plan: ColumnPlan) -> bool:
    return bool(getattr(plan.column.default, "is_scalar", False))


def _of_each(plan: ColumnPlan, values: Sequence[Any]) -> Iterator[Any]:
    """Yield the values of a column; where there is none, the result of its default."""
    call, nothing = plan.plain_default, plan.nothing
    assert call is not None
    if set(map(type, values)) == {type(nothing)}:
        return starmap(call, repeat((), len(values)))
    return (call() if value is nothing else value for value in values)
