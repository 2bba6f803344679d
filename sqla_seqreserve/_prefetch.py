"""``register(..., prefetch=n)``: ids kept ahead, so that a flush of few objects asks for none.

They are kept with the database connection that reserved them, as PostgreSQL keeps those of a
sequence with ``CACHE``: they never reach another database, another process or another thread, and
go when the connection goes. What a ``CACHE`` notices and nobody can here without asking the
database is that the sequence was restarted or its table made anew meanwhile.

A table's name without a schema means whatever ``search_path`` says at the moment. Its ids are kept
only where the server tells of every change of ``search_path`` (PostgreSQL 18), under the path of
the time.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection

from . import _catalogue as catalogue
from ._driver import reported_setting
from ._keys import KeySequence

__all__ = ["kept_ids"]

_INFO: Final = "sqla_seqreserve_kept_ids"


def kept_ids(connection: Connection, source: KeySequence) -> list[int] | None:
    """The ids that this database connection keeps of a sequence, in ``nextval`` order: a list to
    take from and to fill; ``None`` where none may be kept.
    """
    facts, sequence, declared = source.facts, source.sequence, source.key.declared
    assert facts is not None
    assert sequence is not None
    assert source.key.table is not None
    schemas = [source.key.table.schema, *([declared.schema] if declared is not None else [])]
    path: str | None = ""
    if not all(catalogue.effective_schema(connection, schema) for schema in schemas):
        path = reported_setting(connection, "search_path")
        if path is None:
            return None
    shelves: dict[Any, tuple[catalogue.TableFacts, list[int]]]
    shelves = connection.info.setdefault(_INFO, {})
    shelf = (path, facts.name, sequence.name)
    known, ids = shelves.get(shelf, (None, []))
    if known is not facts:
        # The table was altered, or is another.
        ids = []
        shelves[shelf] = facts, ids
    return ids
