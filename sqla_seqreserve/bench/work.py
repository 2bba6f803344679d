"""The parts of a benchmark: a :class:`Work` that is done in several :class:`Way`\\ s, and the
requirements on this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Final, Literal, TypeAlias

from .drivers import DRIVERS, PSYCOPG
from .place import Place
from .sessions import Sessions

__all__ = ["OURS", "PLAIN", "Measure", "Required", "Run", "Way", "Work", "beside"]

OURS: Final = "sqla-seqreserve"
PLAIN: Final = "SQLAlchemy"


Run: TypeAlias = Callable[[Place, int], Mapping[str, float]]
"""Does the work once with that many objects; returns seconds (or bytes) by measure."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do the work.

    :param needs: a library that must be installed; without it the way is left out.
    :param objects: how many objects it writes at once, if that differs from the other ways.
    :param drivers: the drivers whose results include it.
    """

    name: str
    run: Run
    needs: str | None = None
    objects: int | None = None
    drivers: tuple[str, ...] = DRIVERS

    @property
    def installed(self) -> bool:
        """Whether the library that it needs is there."""
        return self.needs is None or find_spec(self.needs) is not None


def beside(run: Callable[[Sessions, Place, int], Mapping[str, float]]) -> tuple[Way, Way]:
    """This package and plain SQLAlchemy: the same work in the sessions of each."""

    def ours(place: Place, objects: int) -> Mapping[str, float]:
        return run(place.ours, place, objects)

    def plain(place: Place, objects: int) -> Mapping[str, float]:
        return run(place.plain, place, objects)

    return Way(OURS, ours), Way(PLAIN, plain)


@dataclass(frozen=True, slots=True)
class Required:
    """A requirement on this package: to be at least :attr:`times` as fast as another way, or to
    take at most that many times its time; on psycopg, and on the :attr:`others` (all of them, or
    by name) if anything is required there.
    """

    against: str
    times: float
    kind: Literal["at least", "at most"] = "at least"
    others: float | Mapping[str, float] | None = None

    def on(self, driver: str) -> Required | None:
        """The requirement on this driver."""
        if driver == PSYCOPG:
            return self
        others = self.others
        times = others.get(driver) if isinstance(others, Mapping) else others
        return None if times is None else replace(self, times=times)

    def reached(self, ours: float, other: float) -> float:
        """The figure to compare with :attr:`times`."""
        return other / ours if self.kind == "at least" else ours / other

    def is_met(self, reached: float) -> bool:
        """Whether this figure meets the requirement."""
        return reached >= self.times if self.kind == "at least" else reached <= self.times


@dataclass(frozen=True, slots=True)
class Measure:
    """A quantity that is measured while the work is done."""

    name: str
    title: str
    required: tuple[Required, ...] = ()
    unit: Literal["µs an object", "MB"] = "µs an object"
    ours: str = OURS


@dataclass(frozen=True, slots=True)
class Work:
    """Work of one kind, its ways and its measures.

    :param tables: emptied before each run.
    :param contents: SQL that returns one row for each written object, without keys; every way must
        leave the same rows.
    :param repeat: how many times a run does the work (the work of one object is too short to be
        timed once).
    :param rows: how many rows one object stands for.
    :param round_trip_ms: how far away the server is.
    :param by_socket: whether the server is reached by a Unix socket, if it is one of our own.
    """

    name: str
    title: str
    objects: int
    tables: tuple[str, ...]
    contents: str
    ways: tuple[Way, ...]
    measures: tuple[Measure, ...]
    rounds: int = 7
    repeat: int = 1
    rows: int = 1
    only_large: bool = False
    round_trip_ms: float = 0
    by_socket: bool = False

    def with_ways(self, wanted: Callable[[Way], bool]) -> Work:
        """The same work in fewer ways."""
        return replace(self, ways=tuple(way for way in self.ways if wanted(way)))

    def at_most(self, *, objects: int | None, rounds: int | None) -> Work:
        """The same work, smaller."""
        limit = objects or self.objects
        return replace(
            self,
            objects=min(self.objects, limit),
            rounds=rounds or self.rounds,
            ways=tuple(
                replace(way, objects=min(way.objects, limit)) if way.objects else way
                for way in self.ways
            ),
        )
