"""The works of the table, a file for each theme."""

from __future__ import annotations

from typing import Final

from ..work import Work
from . import (
    chain,
    few,
    inheritance,
    large,
    mappings,
    one_table,
    open_transaction,
    relationship,
    sequence_default,
    streams,
    upsert,
)

__all__ = ["WORKS"]

WORKS: Final[tuple[Work, ...]] = (
    one_table.ADD_ALL,
    sequence_default.SEQUENCE_DEFAULT,
    few.FIFTY,
    few.ONE,
    few.ONE_FAR,
    open_transaction.OPEN_TRANSACTION,
    chain.CHAIN,
    relationship.RELATIONSHIP,
    inheritance.JOINED,
    mappings.MAPPINGS,
    mappings.OBJECTS,
    upsert.UPSERT,
    streams.STREAM,
    large.LARGE,
)
