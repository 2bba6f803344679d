"""How far the server is: the time of a round trip, from statements that were sent anyway."""

from __future__ import annotations

from typing import Any, Final, TypeVar

__all__ = ["Distance"]

_UNKNOWN: Final = 300.0
_FORGETTING: Final = 0.02
_AT_FIRST: Final = 4
_EVERY: Final = 16
_TOLERANCE: Final = 0.1
_MOST_CHOSEN: Final = 256

_T = TypeVar("_T")


class Distance:
    """The round trip to one engine's server, in microseconds, the work of a small statement
    included.

    The shortest of the recent times is what the network takes; longer ones waited for something. It
    is forgotten a little with every time that is noted, so that a network that has become slower
    is noticed. Threads may note at once: a lost note does no harm.
    """

    __slots__ = ("_flushes", "_round_trip", "chosen", "rounded")

    def __init__(self) -> None:
        self._round_trip: float | None = None
        self._flushes = 0
        self.chosen: dict[Any, Any] = {}
        """What was chosen at this distance (:meth:`keep`); forgotten when it changes."""
        self.rounded: float = _UNKNOWN
        """Microseconds, about: what routes are chosen by, so that they are chosen once, and not
        each time the network is a little slower or faster.
        """

    @property
    def round_trip(self) -> float:
        """Microseconds."""
        return self._round_trip if self._round_trip is not None else _UNKNOWN

    def keep(self, key: Any, choice: _T) -> _T:
        """Remember what was chosen; however many kinds of flushes there are, not all of it."""
        if len(self.chosen) >= _MOST_CHOSEN:
            self.chosen = {}
        self.chosen[key] = choice
        return choice

    def is_due(self) -> bool:
        """Whether a flush should look at it by itself: the first few, then now and then."""
        self._flushes += 1
        return self._flushes <= _AT_FIRST or not self._flushes % _EVERY

    def note(self, seconds: float, round_trips: int = 1) -> None:
        """Note that a statement of little work took so long, in so many round trips."""
        found = seconds * 1e6 / round_trips
        known = self._round_trip
        if known is None or found < known:
            known = found
        else:
            known += _FORGETTING * (found - known)
        self._round_trip = known
        if abs(known - self.rounded) > _TOLERANCE * self.rounded:
            self.rounded = known
            self.chosen = {}
