"""The works of the table, a file for each theme."""

from __future__ import annotations

from typing import Final

from ..work import Work
from . import few, inheritance, large, mappings, one_table, relationship, sequence_default

__all__ = ["WORKS"]

WORKS: Final[tuple[Work, ...]] = (
    one_table.ADD_ALL,
    sequence_default.SEQUENCE_DEFAULT,
    few.FIFTY,
    few.ONE,
    relationship.RELATIONSHIP,
    inheritance.JOINED,
    mappings.MAPPINGS,
    mappings.OBJECTS,
    large.LARGE,
)
