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

from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection

from .._drivers import driver_of
from . import catalogue
from .keys import KeySequence

__all__ = ["Shelf", "shelf_of"]

_INFO: Final = "sqla_seqreserve_kept_ids"


@dataclass(slots=True, eq=False)
class Shelf:
    """The ids that one database connection keeps of one sequence, in ``nextval`` order, and how
    many it is to keep.
    """

    ahead: int = 0
    ids: list[int] = field(default_factory=list)

    def lacking(self, count: int, *, asks_anyway: bool) -> int:
        """How many ids to fetch so that ``count`` can be taken: 0 if they are here, unless the
        database will be asked anyway.
        """
        if len(self.ids) >= count and not asks_anyway:
            return 0
        return max(count - len(self.ids), 0) + self.ahead

    def take(self, count: int, fetched: list[int]) -> list[int]:
        """The next ``count`` ids; what is left of the fetched ones is kept. Those that were kept
        came first.
        """
        self.ids += fetched
        taken = self.ids[:count]
        del self.ids[:count]
        return taken


def shelf_of(connection: Connection, source: KeySequence, ahead: int) -> Shelf:
    """The shelf of a sequence, to hold ``ahead`` ids; an empty one, to hold none, where none may
    be kept.
    """
    facts, sequence, declared = source.facts, source.sequence, source.key.declared
    assert facts is not None
    assert sequence is not None
    assert source.key.table is not None
    if not ahead:
        return Shelf()
    schemas = [source.key.table.schema, *([declared.schema] if declared is not None else [])]
    path: str | None = ""
    if not all(catalogue.effective_schema(connection, schema) for schema in schemas):
        driver = driver_of(connection.dialect)
        path = driver.setting(connection.connection, "search_path") if driver else None
        if path is None:
            return Shelf()
    shelves: dict[Any, tuple[catalogue.TableFacts, Shelf]]
    shelves = connection.info.setdefault(_INFO, {})
    place = (path, facts.name, sequence.name)
    known, shelf = shelves.get(place, (None, Shelf()))
    if known is not facts:
        # The table was altered, or is another.
        shelf = Shelf()
        shelves[place] = facts, shelf
    shelf.ahead = ahead
    return shelf
