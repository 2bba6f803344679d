"""The works of :data:`~sqla_seqreserve.bench.WORKS`, a file for each theme."""

from __future__ import annotations

from typing import Final

from ..work import Work
from . import (
    chain,
    changes,
    changes_of_rows,
    few,
    inheritance,
    large,
    mappings,
    one_table,
    open_transaction,
    relationship,
    sequence_default,
    statements,
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
    changes.CHANGED,
    changes.CHANGED_FAR,
    changes.TEN_CHANGED_FAR,
    changes.CHANGED_HERE_AND_THERE,
    changes.VERSIONED,
    changes.DELETED,
    changes.LINKED,
    changes.UNLINKED,
    statements.INSERT_ROWS,
    statements.INSERT_NULLS,
    statements.INSERT_RETURNING,
    statements.UPDATE_ROWS,
    statements.INSERT_MAPPINGS,
    statements.UPDATE_MAPPINGS,
    changes_of_rows.UPDATE,
    changes_of_rows.DELETE,
    changes_of_rows.SYNC,
    large.LARGE,
)
