"""Measures how far the server is: times a round trip of statements that are sent anyway."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, TypeVar

_UNKNOWN: Final = 300.0
_RECENT: Final = 5
_AT_FIRST: Final = 8
_EVERY: Final = 16
_SUDDEN: Final = 2.0
_TOLERANCE: Final = 0.2
_MOST_CHOSEN: Final = 256

_MOST_AT_FIRST: Final = 1_200.0
"""The largest value that the first few times may give, because any of them may be an exception."""

WORK: Final = 60.0
"""Microseconds of a small statement beside its round trip. When the costs of the ways were
measured, the distance was the time of an INSERT of one row. So this is added to the time of a
BEGIN, which does no work.
"""

MOST_TIMED: Final = 5
"""With at most this many rows, an INSERT takes little work beside its round trip."""

_MOST_BY_WAITING: Final = 4.0
"""A statement that may have waited raises the known time to at most this many times its value."""

_CERTAIN: Final = 32
"""A time measured without waiting stays certain for this many slower statements that may have
waited.
"""

_BEGUN: Final = 120.0
"""The distance, in microseconds, from which a BEGIN by itself costs more than to put it into the
message of another statement, which psycopg's cursor does not do by itself. Between two processes
that share a core the distance is 75 to 90, on two cores of the same machine 140 to 170.
"""

_COMPARED: Final = 400.0
_COUNTED: Final = 5.0
"""The distance, in microseconds, from which a COMMIT by itself costs more than the server's
comparison before it, and what each counted row adds. Measured after a pause, as between the
requests of an application: in a loop the comparison costs less.
"""

_T = TypeVar("_T")


class Distance:
    """The round trip to one engine's server, in microseconds, with the work of a small statement.

    It is the shortest of the last few times. Longer times waited for something, so a few of them
    have no effect; if the network becomes slower, that is detected after a few statements. The
    BEGIN of a transaction waits for nothing. An INSERT may wait for a lock: its time shows that the
    server is not farther away than that, and raises the value only if nothing better is known.

    Several threads may call it at the same time: a lost measurement does no harm.
    """

    __slots__ = ("_again", "_certain", "_flushes", "_recent", "chosen", "round_trip", "rounded")

    def __init__(self) -> None:
        self._recent = deque[float](maxlen=_RECENT)
        self._flushes = 0
        self._certain = 0
        self._again = False
        self.round_trip = _UNKNOWN
        """The shortest of the last few times, in microseconds."""
        self.chosen: dict[Any, Any] = {}
        """The choices made at this distance (:meth:`keep`); dropped when it changes."""
        self.rounded: float = _UNKNOWN
        """The round trip in microseconds, updated only if it changes much. Routes are chosen by it,
        so that they are not chosen again each time the network is a little slower or faster.
        """

    @property
    def is_measured(self) -> bool:
        """Whether any time was measured; until then a default is assumed."""
        return bool(self._recent)

    def begin_pays(self) -> bool:
        """Whether it costs less to have a BEGIN travel with the first statement of its transaction
        than to send it by itself. A server of which nothing is known may be far.
        """
        return not self._recent or self.rounded > _BEGUN

    def commit_pays(self, counted: int = 0) -> bool:
        """Whether it costs less to let a COMMIT travel along than to send it by itself, if the
        server must compare something before it. True if nothing was measured, because the server
        may be far away.

        :param counted: how many rows the server must count.
        """
        return not self._recent or self.rounded > _COMPARED + counted * _COUNTED

    def keep(self, key: Any, choice: _T) -> _T:
        """Store a choice, and return it. When too many are stored, all are dropped first."""
        if len(self.chosen) >= _MOST_CHOSEN:
            self.chosen = {}
        self.chosen[key] = choice
        return choice

    def is_due(self) -> bool:
        """Whether a flush should measure the distance: the first few flushes, then one now and
        then, and those after a much longer time, until it is clear whether that was an exception.
        """
        self._flushes += 1
        return self._again or self._flushes <= _AT_FIRST or not self._flushes % _EVERY

    def note(self, seconds: float) -> None:
        """Record the time of a round trip that waited for nothing and did no work."""
        self._certain = _CERTAIN
        self._note(seconds * 1e6 + WORK)

    def note_bound(self, seconds: float, round_trips: int = 1) -> None:
        """Record the time of a statement of little work, which may have waited for a lock.

        :param seconds: the time of all its round trips.
        """
        found = seconds * 1e6 / round_trips
        if found > self.round_trip:
            if self._certain:
                self._certain -= 1
                return
            found = min(found, _MOST_BY_WAITING * self.round_trip)
        self._note(found)

    def _note(self, found: float) -> None:
        recent = self._recent
        recent.append(found)
        known = min(recent)
        if len(recent) < _RECENT:
            known = min(known, _MOST_AT_FIRST)
        self.round_trip = known
        self._again = found > _SUDDEN * known
        if abs(known - self.rounded) > _TOLERANCE * self.rounded:
            self.rounded = known
            self.chosen = {}
