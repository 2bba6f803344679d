"""``register(..., prefetch=n)``: ids kept in advance, so that a flush of few objects need not ask
for any.

They are kept with the database connection that reserved them, as PostgreSQL keeps the ids of a
sequence with ``CACHE``: they never reach another database, process or thread, and are lost when the
connection is closed.

The facts of their table may be outdated: a trigger may change the key by now, or the column refuse
it. So they are compared before such a row is written, under the table's lock and in the message of
the INSERTs (``_writers.statement_queue``). If they are no longer true, nothing of the message is
carried out, the ids are discarded, and the flush starts again. A driver that sends one statement
per message would need a round trip for the comparison, the very one that kept ids save: there none
are kept.

A repair moves a sequence past ids that the table holds, perhaps past kept ids too. A repair in this
process makes all kept ids invalid at once (:func:`moves`). A repair in another process cannot be
detected without a query, and no catalogue row shows it either: the first duplicate key discards the
ids that its connection keeps. A sequence that was restarted (``TRUNCATE .. RESTART IDENTITY``,
``ALTER SEQUENCE .. RESTART``) counts in another file, which is compared, too.

A table's name without a schema depends on the present ``search_path``. Its ids are kept only if the
server reports every change of ``search_path`` (PostgreSQL 18), and only for the path under which
they were reserved. On older servers, a function or a statement given to the driver may change the
path unnoticed, and rows would get another table's ids without an error. Each engine that keeps no
ids for this reason logs it once.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from .._database import is_first_time
from .._drivers import driver_of
from .._sqlstate import sqlstate
from . import catalogue
from .keys import KeySequence
from .table_names import effective_schema

log = logging.getLogger("sqla_seqreserve.prefetch")

_INFO: Final = "sqla_seqreserve_kept_ids"

_UNIQUE_VIOLATION: Final = "23505"

_WARNING: Final = "prefetch keeps no ids"


# Repairs are rare, so one counter serves all sequences.
_counter = itertools.count(1)
_moves = 0


def moves() -> int:
    """Return how many times this process has moved a sequence. Read it before ids are fetched; once
    it has changed, these ids must be discarded.
    """
    return _moves


def sequence_moved() -> None:
    """Count a sequence as moved; called after the database has moved it."""
    global _moves
    _moves = next(_counter)


@dataclass(slots=True, eq=False)
class Shelf:
    """The ids of one sequence that one database connection keeps, in ``nextval`` order, and how
    many it should keep.
    """

    ahead: int = 0
    ids: list[Any] = field(default_factory=list)

    def lacking(self, count: int, *, asks_anyway: bool) -> int:
        """Return how many ids to fetch so that ``count`` can be taken: 0 if enough are kept, unless
        the database will be asked anyway.
        """
        if len(self.ids) >= count and not asks_anyway:
            return 0
        return max(count + self.ahead - len(self.ids), 0)

    def take(self, count: int, fetched: list[Any]) -> list[Any]:
        """Return the next ``count`` ids, kept ones first; the rest of the fetched ones is kept."""
        self.ids += fetched
        taken = self.ids[:count]
        del self.ids[:count]
        return taken


def shelf_of(connection: Connection, source: KeySequence, ahead: int) -> Shelf:
    """Return the shelf of a sequence, to keep ``ahead`` ids; where none may be kept, an empty one
    that keeps none.
    """
    facts, sequence, declared = source.facts, source.sequence, source.key.declared
    assert facts is not None
    assert source.key.table is not None
    # The value of a default may depend on the time of evaluation.
    if not ahead or sequence is None:
        return Shelf()
    schemas = [source.key.table.schema, *([declared.schema] if declared is not None else [])]
    path: str | None = ""
    if not all(effective_schema(connection, schema) for schema in schemas):
        driver = driver_of(connection.dialect)
        path = driver.setting(connection.connection, "search_path") if driver else None
        if path is None:
            _warn(connection, source)
            return Shelf()
    shelves: dict[Any, tuple[catalogue.TableFacts, int | None, int, Shelf]]
    shelves = connection.info.setdefault(_INFO, {})
    place = (path, facts.name, sequence.name)
    # Read before any id is fetched: a repair from now on makes the ids of this flush invalid as
    # well.
    moved = moves()
    known, file, moved_then, shelf = shelves.get(place, (None, None, 0, Shelf()))
    if known is not facts or file != sequence.file or moved_then != moved:
        # The table was altered or replaced; or a sequence was restarted or moved.
        shelf = Shelf()
        shelves[place] = facts, sequence.file, moved, shelf
    shelf.ahead = ahead
    return shelf


def forget_after(connection: Connection, error: BaseException) -> None:
    """Discard all ids that a connection keeps if the error is a duplicate key: a sequence may have
    been moved or restarted.
    """
    if (
        isinstance(error, DBAPIError)
        and sqlstate(error) == _UNIQUE_VIOLATION
        and not (connection.closed or connection.invalidated)
    ):
        connection.info.pop(_INFO, None)


def _warn(connection: Connection, source: KeySequence) -> None:
    """Log once per engine that no ids are kept, and what would help. There is no other sign of it,
    because everything works.
    """
    if is_first_time(connection.dialect, _WARNING):
        log.warning(
            "prefetch keeps no ids for %s on this engine: its table or sequence has no schema, and "
            "the server does not report search_path (PostgreSQL 18 does, a pooler may not). Name "
            "the schema, in MetaData(schema=...), __table_args__ or schema_translate_map",
            source.key.mapper.class_.__name__,
        )
