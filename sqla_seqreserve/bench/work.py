"""What a benchmark is made of: a :class:`Work` to be done in several :class:`Way`\\ s, and what is
required of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session, sessionmaker

__all__ = ["OURS", "STOCK", "Measure", "Place", "Required", "Run", "Way", "Work"]

OURS: Final = "sqla-seqreserve"
STOCK: Final = "SQLAlchemy"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A database with the tables in it, and sessions of both kinds."""

    url: URL
    engine: Engine
    ours: sessionmaker[Session]
    stock: sessionmaker[Session]
    closing: ExitStack
    _kept: dict[object, Any] = field(default_factory=dict)

    def keep(self, open_: Callable[[Place], _T]) -> _T:
        """What ``open_`` returns, opened once: a connection that is not part of what is timed."""
        if open_ not in self._kept:
            self._kept[open_] = open_(self)
        return cast("_T", self._kept[open_])


Run: TypeAlias = Callable[[Place, int], Mapping[str, float]]
"""Does the work once with that many objects; returns seconds (or bytes) by measure."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do the work.

    :param needs: a library that must be installed; without it the way is left out.
    :param objects: what it does at once, if that differs from the others.
    """

    name: str
    run: Run
    needs: str | None = None
    objects: int | None = None

    @property
    def installed(self) -> bool:
        """Whether the library that it needs is there."""
        return self.needs is None or find_spec(self.needs) is not None


@dataclass(frozen=True, slots=True)
class Required:
    """How ours must compare: at least so many times as fast as another way, or at most so many
    times its time.
    """

    against: str
    times: float
    kind: Literal["at least", "at most"] = "at least"

    def reached(self, ours: float, other: float) -> float:
        """The figure to compare with :attr:`times`."""
        return other / ours if self.kind == "at least" else ours / other

    def is_met(self, reached: float) -> bool:
        """Whether that is good enough."""
        return reached >= self.times if self.kind == "at least" else reached <= self.times


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is measured while the work is done."""

    name: str
    title: str
    required: tuple[Required, ...] = ()
    unit: Literal["µs an object", "MB"] = "µs an object"
    ours: str = OURS


@dataclass(frozen=True, slots=True)
class Work:
    """Work of one kind, its ways and its measures.

    :param tables: emptied before each run.
    :param contents: SQL that returns one row a written object, keys left out; every way must leave
        the same rows.
    :param repeat: how many times a run does the work (the work of one object is too short to be
        timed once).
    :param rows: how many rows one object stands for.
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
