"""Calls the Python-side defaults of rows, column by column."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from itertools import repeat, starmap
from typing import Any

from sqlalchemy import Column, Connection
from sqlalchemy.exc import DBAPIError

from .plan import ColumnPlan

__all__ = ["DefaultContext", "Missing"]


class Missing(enum.Enum):
    """Stands for no value where ``None`` is one (JSON)."""

    MISSING = 0


class DefaultContext:
    """What a context-sensitive default is called with: the parameters of the row, as
    SQLAlchemy's execution context gives them.
    """

    def __init__(
        self, connection: Connection, ready: list[tuple[ColumnPlan, Sequence[Any]]]
    ) -> None:
        self.connection = self.root_connection = connection
        self.dialect = connection.dialect
        self.engine = connection.engine
        self.isinsert = True
        self.isupdate = self.isdelete = False
        self.current_column: Column[Any] | None = None
        self._ready = ready
        self._position = 0

    @property
    def current_parameters(self) -> dict[str, Any]:
        return {
            plan.column.key: values[self._position]
            for plan, values in self._ready
            if plan.default is None or values[self._position] is not None
        }

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> dict[str, Any]:  # noqa: ARG002  # SQLAlchemy's signature
        return self.current_parameters

    def fill(self, plan: ColumnPlan, values: Sequence[Any]) -> Sequence[Any]:
        """The values with the default wherever there is none; the same list where nothing was
        missing.
        """
        assert plan.default is not None
        nothing = Missing.MISSING if plan.evaluates_none else None
        if type(nothing) not in set(map(type, values)):
            return values
        self.current_column = plan.column
        if plan.plain_default is not None:
            return self._call(plan, values, nothing)
        filled = list(values)
        slot = next(i for i, (ready, _) in enumerate(self._ready) if ready is plan)
        self._ready[slot] = (plan, filled)
        for position, value in enumerate(values):
            if value is nothing:
                self._position = position
                try:
                    filled[position] = plan.default(self)
                except Exception as error:
                    if plan.is_version:
                        raise
                    raise self.in_statement(error, plan.column) from error
        return filled

    def _call(self, plan: ColumnPlan, values: Sequence[Any], nothing: object) -> Sequence[Any]:
        """The values with a default that takes no context: a call a row, and nothing around it."""
        call = plan.plain_default
        assert call is not None
        try:
            if set(map(type, values)) == {type(nothing)}:
                # In a loop of C's, where every row wants it.
                filled = list(starmap(call, repeat((), len(values))))
            else:
                filled = [call() if value is nothing else value for value in values]
        except Exception as error:
            raise self.in_statement(error, plan.column) from error
        slot = next(i for i, (ready, _) in enumerate(self._ready) if ready is plan)
        self._ready[slot] = (plan, filled)
        return filled

    def in_statement(self, error: Exception, column: Column[Any]) -> BaseException:
        """The error as SQLAlchemy raises it: it runs a default, but no version, in a statement."""
        return DBAPIError.instance(
            f"INSERT INTO {column.table}",
            None,
            error,
            self.dialect.loaded_dbapi.Error,
            hide_parameters=True,
            dialect=self.dialect,
        )
