"""The rows of one class for one table as they are written: batches for COPY, and the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column

from .._reasons import Reason
from .plan import ColumnPlan
from .python_defaults import FilledValues


@dataclass(slots=True, eq=False)
class Batch:
    """Rows with the same set of columns: positions in the input, and for each column its name, type
    oid and values.

    :param given: the values with defaults filled in; the writer does not compute defaults again.
    :param values: the same values after bind processors, which are not called again either.
    :param copy_values: the same in the form that COPY accepts, in ``binary`` format or not.
    :param copy_reason: why COPY cannot write these rows; ``None``: it can.
    :param casts: whether an INSERT with known keys cannot write them either, because it may cast
        their values differently from one that numbers the rows.
    """

    positions: Sequence[int]
    plans: list[ColumnPlan]
    columns: list[str]
    oids: list[int]
    given: list[Sequence[Any]]
    values: list[Sequence[Any]]
    defaults: dict[str, FilledValues]
    omitted: list[Column[Any]]
    copy_values: list[Sequence[Any]] = field(default_factory=list)
    copy_reason: Reason | None = None
    binary: bool = True
    casts: bool = False


@dataclass(slots=True, eq=False)
class Division:
    """The rows of one class, divided into batches and the rows that SQLAlchemy must write
    (positions by reason). If rows must keep their order, the rows of a batch are consecutive.
    """

    batches: list[Batch] = field(default_factory=list)
    elsewhere: dict[Reason, list[int]] = field(default_factory=dict)

    def by_insert(self) -> dict[int, Reason]:
        """Return the positions of the rows that COPY does not write, each with the reason."""
        parts = [
            *self.elsewhere.items(),
            *((each.copy_reason, each.positions) for each in self.batches),
        ]
        return {position: reason for reason, found in parts if reason for position in found}
