"""The way of one class in a flush: who writes its new objects, and why.

It is decided once, before the first INSERT (``_flush.routing``, ``_flush.reserving``). The save,
the insert step and the report read it; ``explain()`` determines it without a flush.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Table
from sqlalchemy.orm import Mapper

from .. import _reasons as why
from .._reasons import Reason
from .._rows.plan import InsertPlan
from ..reports import Writer
from .passthrough import Passthrough

_NONE: Final[Mapping[Table, InsertPlan]] = {}


@dataclass(slots=True, eq=False)
class Way:
    """Who writes the new objects of a class, or of a whole hierarchy. Nobody changes an instance,
    but the class is not frozen: that would triple the cost of creating one, which a flush of one
    object may do.

    :param writer: ``"copy"``: COPY writes the rows that it writes exactly, INSERT the others.
    :param reason: why COPY does not write them.
    :param plans: how rows reach each table, as far as this was determined. If COPY writes, the
        facts of all tables were compared under a lock that lasts until the transaction ends.
    :param plain: set if SQLAlchemy saves the objects by itself because nothing costs less.
    """

    writer: Writer
    reason: Reason | None = None
    plans: Mapping[Table, InsertPlan] = field(default_factory=lambda: _NONE)
    plain: Passthrough | None = None

    def plan(self, table: Table) -> InsertPlan | None:
        """The plan by which COPY writes rows into the table; ``None`` if COPY does not."""
        return self.plans.get(table) if self.writer == "copy" else None


def copied(ways: Mapping[Mapper[Any], Way]) -> dict[Mapper[Any], Collection[InsertPlan]]:
    """The classes that COPY writes, each with its plans."""
    return {mapper: way.plans.values() for mapper, way in ways.items() if way.writer == "copy"}


BY_INSERT: Final = Way("insert", why.FEW)
"""SQLAlchemy's INSERT writes the objects, because it is cheaper."""

NOT_ENROLLED: Final = Way("orm", why.NOT_ENROLLED)
