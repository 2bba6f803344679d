"""``register(..., prefetch=n)``: ids kept ahead, so that a flush of few objects asks for none.

They are kept with the database connection that reserved them, as PostgreSQL keeps those of a
sequence with ``CACHE``: they never reach another database, another process or another thread, and
go when the connection goes.

What is known of their table may be of the past: a trigger may change the key by now, or the column
refuse it. So it is compared before such a row is written, under the table's lock and in the message
of the INSERTs (``_writers.statement_queue``). Where it no longer holds nothing of the message is
carried out, the ids are thrown away, and the flush begins anew. A driver that sends one statement
in a message would need a round trip for that, which is what keeping ids saves: there none are kept.

A repair moves a sequence past ids that the table holds by then, kept ones perhaps among them. One
of this process makes all kept ids invalid at once (:func:`moves`). One of another process cannot be
known here without asking the database, and no catalogue row tells of it either: the first duplicate
key throws away what its connection keeps. A sequence that was restarted (``TRUNCATE .. RESTART
IDENTITY``, ``ALTER SEQUENCE .. RESTART``) counts in another file, which is compared, too.

A table's name without a schema means whatever ``search_path`` says at the moment. Its ids are kept
only where the server tells of every change of ``search_path`` (PostgreSQL 18), under the path of
the time: below, a function or a statement that the driver is given may change it unseen, and rows
would get another table's ids without an error. Each engine that is asked in vain says so once.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from .._audit import sqlstate
from .._database import database_of
from .._drivers import driver_of
from . import catalogue
from .keys import KeySequence

log = logging.getLogger("sqla_seqreserve.prefetch")

_INFO: Final = "sqla_seqreserve_kept_ids"

_UNIQUE_VIOLATION: Final = "23505"

_WARNING: Final = "prefetch keeps no ids"


# Repairs are rare, so all sequences share one count of them.
_counter = itertools.count(1)
_moves = 0


def moves() -> int:
    """How many times a sequence was moved by this process: to be noted before ids are fetched,
    which are to be thrown away once it has changed.
    """
    return _moves


def sequence_moved() -> None:
    """Count a sequence as moved; called once the database has moved it."""
    global _moves
    _moves = next(_counter)


@dataclass(slots=True, eq=False)
class Shelf:
    """The ids that one database connection keeps of one sequence, in ``nextval`` order, and how
    many it is to keep.
    """

    ahead: int = 0
    ids: list[Any] = field(default_factory=list)

    def lacking(self, count: int, *, asks_anyway: bool) -> int:
        """How many ids to fetch so that ``count`` can be taken: 0 if they are here, unless the
        database will be asked anyway.
        """
        if len(self.ids) >= count and not asks_anyway:
            return 0
        return max(count + self.ahead - len(self.ids), 0)

    def take(self, count: int, fetched: list[Any]) -> list[Any]:
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
    assert source.key.table is not None
    # What a default gives may be of the moment.
    if not ahead or sequence is None:
        return Shelf()
    schemas = [source.key.table.schema, *([declared.schema] if declared is not None else [])]
    path: str | None = ""
    if not all(catalogue.effective_schema(connection, schema) for schema in schemas):
        driver = driver_of(connection.dialect)
        path = driver.setting(connection.connection, "search_path") if driver else None
        if path is None:
            _warn(connection, source)
            return Shelf()
    shelves: dict[Any, tuple[catalogue.TableFacts, int | None, int, Shelf]]
    shelves = connection.info.setdefault(_INFO, {})
    place = (path, facts.name, sequence.name)
    # Before any id is fetched: a repair from now on makes those of this flush invalid as well.
    moved = moves()
    known, file, moved_then, shelf = shelves.get(place, (None, None, 0, Shelf()))
    if known is not facts or file != sequence.file or moved_then != moved:
        # The table was altered, or is another; or some sequence was restarted, or moved.
        shelf = Shelf()
        shelves[place] = facts, sequence.file, moved, shelf
    shelf.ahead = ahead
    return shelf


def forget_after(connection: Connection, error: BaseException) -> None:
    """Throw away all ids that a connection keeps, if the error tells of a duplicate key: somebody
    may have moved a sequence, or restarted it.
    """
    if (
        isinstance(error, DBAPIError)
        and sqlstate(error) == _UNIQUE_VIOLATION
        and not (connection.closed or connection.invalidated)
    ):
        connection.info.pop(_INFO, None)


def _warn(connection: Connection, source: KeySequence) -> None:
    """Say once an engine that nothing is kept, and what would help: nothing else would, for all
    works.
    """
    warned = database_of(connection.dialect).warned
    if _WARNING in warned:
        return
    warned.add(_WARNING)
    log.warning(
        "prefetch keeps no ids for %s on this engine: its table or sequence has no schema, and the "
        "server does not report search_path (PostgreSQL 18 does, a pooler may not). Name the "
        "schema, in MetaData(schema=...), __table_args__ or schema_translate_map",
        source.key.mapper.class_.__name__,
    )
