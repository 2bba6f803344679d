"""How far the server is: the time of a round trip, from statements that were sent anyway."""

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
"""What the first few times may make of it: any of them may be an exception."""

WORK: Final = 60.0
"""Microseconds of a small statement beside its round trip. The costs of the ways were measured with
INSERTs of one row for the distance, so a BEGIN, which does nothing, is taken for one.
"""

_MOST_BY_WAITING: Final = 4.0
"""How many times the time that is known a statement may raise it to that may have waited."""

_CERTAIN: Final = 32
"""For how many statements that may have waited a time that was measured without stays certain."""

_BEGUN: Final = 120.0
"""From how many microseconds the round trip of a BEGIN costs more than to put it into the message
of another statement, which psycopg's cursor does not do by itself. Between two processes that share
a core it takes 75 to 90, on two cores of the same machine 140 to 170.
"""

_COMPARED: Final = 400.0
_COUNTED: Final = 5.0
"""From how many microseconds the round trip of a COMMIT costs more than what the server compares
before it, and how many more for each row that it counts; measured after a pause, as between the
requests of an application: in a loop it costs less.
"""

_T = TypeVar("_T")


class Distance:
    """The round trip to one engine's server, in microseconds, the work of a small statement
    included.

    It is the shortest of the last few times: longer ones waited for something, so that one of them,
    or some, never count; and a network that has become slower, or faster, is noticed after as many.
    The BEGIN of a transaction waits for nothing. An INSERT may wait for a lock: its time says that
    the server is no farther, and counts as another only where nothing better is known.

    Threads may note at once: a lost note does no harm.
    """

    __slots__ = ("_again", "_certain", "_flushes", "_recent", "chosen", "round_trip", "rounded")

    def __init__(self) -> None:
        self._recent = deque[float](maxlen=_RECENT)
        self._flushes = 0
        self._certain = 0
        self._again = False
        self.round_trip = _UNKNOWN
        """Microseconds."""
        self.chosen: dict[Any, Any] = {}
        """What was chosen at this distance (:meth:`keep`); forgotten when it changes."""
        self.rounded: float = _UNKNOWN
        """Microseconds, about: what routes are chosen by, so that they are chosen once, and not
        each time the network is a little slower or faster.
        """

    @property
    def is_measured(self) -> bool:
        """Whether it is more than what a server is taken for at first."""
        return bool(self._recent)

    def begin_pays(self) -> bool:
        """Whether it costs less to have a BEGIN travel with the first statement of its transaction
        than to send it by itself. A server of which nothing is known may be far.
        """
        return not self._recent or self.rounded > _BEGUN

    def commit_pays(self, counted: int = 0) -> bool:
        """Whether it costs less to have a COMMIT travel along than to send it by itself, where the
        server has to compare something before it. A server of which nothing is known may be far.

        :param counted: of how many rows it is to be seen whether they were there.
        """
        return not self._recent or self.rounded > _COMPARED + counted * _COUNTED

    def keep(self, key: Any, choice: _T) -> _T:
        """Remember what was chosen; however many kinds of flushes there are, not all of it."""
        if len(self.chosen) >= _MOST_CHOSEN:
            self.chosen = {}
        self.chosen[key] = choice
        return choice

    def is_due(self) -> bool:
        """Whether a flush should look at it by itself: the first few, then now and then; and those
        after one that found the server much farther, until it is clear which of the two is right.
        """
        self._flushes += 1
        return self._again or self._flushes <= _AT_FIRST or not self._flushes % _EVERY

    def note(self, seconds: float) -> None:
        """Note a round trip that waited for nothing, and did no work."""
        self._certain = _CERTAIN
        self._note(seconds * 1e6 + WORK)

    def note_bound(self, seconds: float, round_trips: int = 1) -> None:
        """Note that a statement of little work took so long, in so many round trips; it may have
        waited for a lock.
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
