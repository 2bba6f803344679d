"""What this process remembers of the database of one engine.

SQLAlchemy has one dialect for each ``create_engine()``, whatever ``execution_options()`` make of
the engine, so a database is found by its dialect, and forgotten with it. Each part is filled by the
module that its line names. This one holds the parts, and imports only their types.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Dialect, TextClause

from ._routes import Distance

if TYPE_CHECKING:
    from ._bulk.arbiter import Arbiter
    from ._drivers import Driver
    from ._ids.catalogue import SequenceFacts, TableFacts
    from ._ids.server import Server


@dataclass(slots=True, eq=False)
class Database:
    """The database behind one engine, as far as it is known."""

    distance: Distance = field(default_factory=Distance)
    """How far its server is."""
    driver: Driver | None = None
    """The driver as it was below the connection that was looked at last (``_drivers``)."""
    driver_is_known: bool = False
    listens: bool = False
    """Whether the dialect asks us before it sends a statement (``_drivers.execution``)."""
    server: Server | None = None
    """The kind of server, once it was asked (``_ids.server``)."""
    server_taken_for: Server | None = None
    """The same, by what its connections report, until it was asked."""
    tables: dict[str, TableFacts] = field(default_factory=dict)
    """The facts of each table, by its name as SQL (``_ids.catalogue``)."""
    met: set[str] = field(default_factory=set)
    """Tables that were not looked at when a COMMIT might have travelled with an INSERT into them
    (``_writers.commit_in_message``).
    """
    uncounted: set[str] = field(default_factory=set)
    """Tables, by their names as SQL, of which the server does not say how many rows an UPDATE or
    DELETE among others matches (``_writers.commit_in_message``).
    """
    rows_passed: dict[str, int] = field(default_factory=dict)
    """By the same names: how many rows were written without COPY since the facts were doubted."""
    sequences: dict[str, SequenceFacts] = field(default_factory=dict)
    """The facts of each sequence that a model names, by its name as SQL."""
    outgrown: set[tuple[int, int]] = field(default_factory=set)
    """Sequences by oid, with the largest value of the model's type that their ids are beyond
    (``_ids.keys``).
    """
    comparisons: dict[TextClause, str] = field(default_factory=dict)
    """The text of each comparison that goes before INSERTs, as the driver takes it
    (``_ids.fetch``); a few hundred at most.
    """
    arbiters: dict[tuple[Any, ...], Arbiter] = field(default_factory=dict)
    """The unique index that an upsert names, by class, table and what it was named by
    (``_bulk.arbiter``); a few hundred at most.
    """
    without_drift: set[tuple[Any, ...]] = field(default_factory=set)
    """What drift guards need not check again: guard and ``schema_translate_map``
    (``_flush.drift``).
    """
    warned: set[str] = field(default_factory=set)
    """What was said once in the log, and is not said again."""


# Kept in the dialect's own dict, and so for as long as the dialect: a flush asks for its database
# many times, and to find it by a weak reference takes three calls.
_KEPT: Final = "sqla_seqreserve_database"


def database_of(dialect: Dialect) -> Database:
    """The database of the engine that has this dialect."""
    kept = dialect.__dict__
    if _KEPT not in kept:
        kept.setdefault(_KEPT, Database())
    known: Database = kept[_KEPT]
    return known
