"""Rows as objects, by their keys: one SELECT for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, select
from sqlalchemy.orm import Mapper, Session

from .._writers.readback import unnested

__all__ = ["loaded"]


def loaded(session: Session, mapper: Mapper[Any], keys: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The objects of these keys, in their order, as the database has them now. Nothing is flushed
    first.
    """
    if not keys:
        return []
    columns = list(mapper.primary_key)
    names = [f"k{index}" for index in range(len(columns))]
    wanted = unnested(names, columns, list(zip(*keys, strict=True)))
    same = and_(*(wanted.c[name] == key for name, key in zip(names, columns, strict=True)))
    statement = select(mapper.class_).join(wanted, same).order_by(wanted.c.position)
    options = {"populate_existing": True, "autoflush": False}
    return list(
        session.scalars(statement, execution_options=options, bind_arguments={"mapper": mapper})
    )
