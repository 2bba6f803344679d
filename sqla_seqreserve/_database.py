"""Stores what this process knows of the database of one engine.

SQLAlchemy has one dialect for each ``create_engine()``, and engines derived by
``execution_options()`` share it. So a database is found by its dialect, and deleted with it. Each
part is filled by the module that its docstring names. This module only holds the parts, and imports
only their types.
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
    """What is known of the database of one engine."""

    distance: Distance = field(default_factory=Distance)
    """How far away its server is."""
    driver: Driver | None = None
    """The driver as it was found below the last connection that was examined (``_drivers``)."""
    driver_is_known: bool = False
    listens: bool = False
    """Whether the dialect calls our listeners before it sends a statement
    (``_drivers.execution``).
    """
    server: Server | None = None
    """The kind of server, after it was asked (``_ids.server``)."""
    server_taken_for: Server | None = None
    """The kind of server until it is asked, judged by what its connections report."""
    tables: dict[str, TableFacts] = field(default_factory=dict)
    """The facts of each table, by its name as SQL (``_ids.catalogue``)."""
    met: set[str] = field(default_factory=set)
    """Tables whose facts were unknown when a COMMIT might have travelled with an INSERT into them
    (``_writers.commit_in_message``).
    """
    uncounted: set[str] = field(default_factory=set)
    """Tables, by their names as SQL, for which the server cannot check in a message of several
    statements how many rows an UPDATE or DELETE matches (``_writers.commit_in_message``).
    """
    rows_passed: dict[str, int] = field(default_factory=dict)
    """For each table, by its name as SQL: how many rows were written without COPY since its facts
    were last doubted.
    """
    sequences: dict[str, SequenceFacts] = field(default_factory=dict)
    """The facts of each sequence that a model names, by its name as SQL."""
    outgrown: set[tuple[int, int]] = field(default_factory=set)
    """Sequences by oid, each with the largest value of the model's type, which its ids exceed
    (``_ids.keys``).
    """
    comparisons: dict[TextClause, str] = field(default_factory=dict)
    """The text of each comparison that precedes INSERTs, as the driver takes it (``_ids.fetch``); a
    few hundred at most.
    """
    arbiters: dict[tuple[Any, ...], Arbiter] = field(default_factory=dict)
    """The unique index that an upsert uses, by class, table and the way it was given
    (``_bulk.arbiter``); a few hundred at most.
    """
    without_drift: set[tuple[Any, ...]] = field(default_factory=set)
    """The checks that drift guards need not repeat, by guard and ``schema_translate_map``
    (``_flush.drift``).
    """
    warned: set[str] = field(default_factory=set)
    """The warnings that were logged once and are not logged again."""


# Stored in the dialect's own __dict__, and so for as long as the dialect exists. A flush looks its
# database up many times, and a weak reference would take three calls each time.
_KEPT: Final = "sqla_seqreserve_database"


def database_of(dialect: Dialect) -> Database:
    """The database of the engine that has this dialect."""
    kept = dialect.__dict__
    if _KEPT not in kept:
        kept.setdefault(_KEPT, Database())
    known: Database = kept[_KEPT]
    return known
