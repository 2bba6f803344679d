"""Inserts rows before the clock starts, which are then changed or deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from ..place import Place

__all__ = ["analyze", "fill", "ids_of"]


def fill(place: Place, model: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows with plain SQLAlchemy."""
    with Session(place.engine) as session:
        session.execute(insert(model), rows, execution_options={"render_nulls": True})
        session.commit()
    analyze(place, model.__tablename__)


def analyze(place: Place, *tables: str) -> None:
    """Give the planner statistics of these tables, as it has for an application's."""
    with place.engine.begin() as connection:
        connection.execute(text(f"ANALYZE {', '.join(tables)}"))


def ids_of(place: Place, model: Any) -> list[int]:
    """The keys in the order of the rows' numbers."""
    with place.engine.connect() as connection:
        return list(connection.scalars(select(model.id).order_by(model.number)))
