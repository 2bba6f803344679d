"""The past checks of each sequence, for the page's charts and for forecasts: in memory, or in a
file that outlives the process.

Recent checks are kept at a short distance, older ones at a longer distance: five seconds apart at
first, an eighth of their age later, and none older than thirty days. That is some 150 checks, of
each selection of sequences: checks of other models in the same database do not push them out. The
file is a SQLite database, which several processes may share, also for several databases. Later
errors of the file are logged, and the page shows the history that it can read.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import TypeAlias

from ..errors import ConfigurationError
from .report import HealthReport, SequenceHealth

Point: TypeAlias = tuple[str, int | None, int]
"""The time, the sequence's own value, and the gap."""

Seen: TypeAlias = tuple[float, int, int]
"""The time in seconds since 1970, the number of ids left, and the gap."""

SequenceKey: TypeAlias = tuple[str | None, str | None, str | None]

_SPACING = 5.0
_STEPS_AN_OCTAVE = 8
_LONGEST = 30 * 24 * 3600.0
_MOST_SEQUENCES = 2_000
_SEPARATOR = "\x1f"

_log = logging.getLogger("sqla_seqreserve.health")

# One row per check: place names the database and, behind a separator, the selection of sequences
# (files from before that lack it), at is seconds since 1970, and seen is a JSON array of
# [table, column, sequence, last value, gap, ids left]; files from before forecasts lack the last.
_CREATE = (
    "CREATE TABLE IF NOT EXISTS health_checks"
    " (place TEXT NOT NULL, at REAL NOT NULL, seen TEXT NOT NULL, PRIMARY KEY (place, at))"
)
_TIMES = "SELECT at FROM health_checks WHERE place = ? ORDER BY at DESC"
_LAST = "SELECT seen FROM health_checks WHERE place = ? ORDER BY at DESC LIMIT 1"
_OF_PLACE = f"(place = :place OR instr(place, :place || char({ord(_SEPARATOR)})) = 1)"
_ALL = f"SELECT at, seen FROM health_checks WHERE {_OF_PLACE} ORDER BY at"  # noqa: S608  # no input
_INSERT = "INSERT OR IGNORE INTO health_checks (place, at, seen) VALUES (?, ?, ?)"
_DELETE = "DELETE FROM health_checks WHERE place = ? AND at = ?"
_DELETE_OLD = f"DELETE FROM health_checks WHERE {_OF_PLACE} AND at < :at"  # noqa: S608  # no input


class HealthHistory:
    """The history of one router.

    :param file: where to keep it, made if it is not there; None: in memory, until the process
        ends.
    :param option: what the user calls the file, for the error.
    :raises ConfigurationError: the file cannot be made or is no history
    """

    def __init__(
        self, file: str | os.PathLike[str] | None = None, *, option: str = "history"
    ) -> None:
        self._file = None if file is None else os.fspath(file)
        self._lock = threading.Lock()
        self._memory: sqlite3.Connection | None = None
        if self._file is None:
            self._memory = _connect(":memory:")
            weakref.finalize(self, self._memory.close)
        try:
            with self._connection() as store:
                store.execute("BEGIN IMMEDIATE")  # refused where nothing may be written
                store.execute(_CREATE)
                store.execute("COMMIT")
        except sqlite3.Error as error:
            raise ConfigurationError(
                f"{option}: {self._file} cannot be used ({error}); name a file in a folder that "
                "may be written to, or one that this option has made"
            ) from error

    def add(self, place: str, report: HealthReport) -> None:
        """Record a check, unless one with the same results was recorded a moment ago.

        Otherwise many viewers would push older checks out.
        """
        if len(report.sequences) > _MOST_SEQUENCES:
            return
        at = report.checked_at.timestamp()
        seen = json.dumps([[*key_of(e), e.last_value, e.gap, e.ids_left] for e in report.sequences])
        selection = f"{place}{_SEPARATOR}{_digest(report)}"
        with self._forgiven(), self._connection() as store:
            store.execute("BEGIN IMMEDIATE")
            times = [time for (time,) in store.execute(_TIMES, (selection,))]
            recent = bool(times) and at - times[0] < _SPACING
            if not (recent and store.execute(_LAST, (selection,)).fetchone() == (seen,)):
                store.execute(_INSERT, (selection, at, seen))
                store.executemany(_DELETE, ((selection, time) for time in outlived([at, *times])))
                # Also those of selections that are no longer checked.
                store.execute(_DELETE_OLD, {"place": place, "at": at - _LONGEST})
            store.execute("COMMIT")

    def points(self, place: str) -> dict[SequenceKey, list[Point]]:
        """Return the values that the checks found for each sequence, the oldest first.

        Of consecutive checks with the same values, only the first and the last are returned.
        """
        points: dict[SequenceKey, list[Point]] = {}
        for at, seen in self._rows(place):
            moment = datetime.fromtimestamp(at, UTC).isoformat()
            for table, column, sequence, value, gap, *_ in json.loads(seen):
                past = points.setdefault((table, column, sequence), [])
                if len(past) > 1 and past[-1][1:] == past[-2][1:] == (value, gap):
                    past.pop()
                past.append((moment, value, gap))
        return points

    def seen(self, place: str) -> dict[SequenceKey, list[Seen]]:
        """Return how many ids each check found left in each sequence, the oldest first."""
        found: dict[SequenceKey, list[Seen]] = {}
        for at, seen in self._rows(place):
            for table, column, sequence, _, gap, *left in json.loads(seen):
                if left and left[0] is not None:
                    found.setdefault((table, column, sequence), []).append((at, left[0], gap))
        return found

    def _rows(self, place: str) -> list[tuple[float, str]]:
        with self._forgiven(), self._connection() as store:
            return store.execute(_ALL, {"place": place}).fetchall()
        return []

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Open the file for each use: a connection must not be carried over a fork."""
        with self._lock:
            store = self._memory or _connect(self._file or "")
            try:
                yield store
            finally:
                if store is not self._memory:
                    store.close()

    @contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            # A full disk must not make the health check fail.
            _log.warning("the history of checks in %s could not be used: %s", self._file, error)


def _connect(name: str) -> sqlite3.Connection:
    # Autocommit: each BEGIN is our own. Other processes are waited for.
    return sqlite3.connect(name, timeout=5.0, isolation_level=None, check_same_thread=False)


def _digest(report: HealthReport) -> str:
    keys = sorted(map(repr, map(key_of, report.sequences)))
    return sha256("\n".join(keys).encode()).hexdigest()[:16]


def outlived(times: Iterable[float]) -> list[float]:
    """Return the times, the newest first, of the checks to delete.

    Time is divided into steps, twice as wide at twice the age and nested, so that a check kept in a
    step is never lost to a wider step that holds nothing else. The first check of each step is
    kept, and the newest of all.
    """
    first: dict[tuple[int, int], float] = {}
    newest: float | None = None
    dropped = []
    for time in times:
        if newest is None:
            newest = time
        age = newest - time
        if age > _LONGEST:
            dropped.append(time)
            continue
        octave = max(0, int(math.log2(max(age, 1.0) / (_SPACING * _STEPS_AN_OCTAVE))))
        step = (octave, int(time // (_SPACING * 2**octave)))
        if first.get(step, newest) != newest:
            dropped.append(first[step])
        first[step] = time
    return dropped


def key_of(entry: SequenceHealth) -> SequenceKey:
    """Return the key that identifies the entry within a check."""
    return entry.table, entry.column, entry.sequence
