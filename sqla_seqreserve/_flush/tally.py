"""Counts what a flush wrote and by which writer, and reports it to whoever asked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Table

from .. import _audit as audit
from .._host import State
from ..reports import FlushEntry, FlushReport, Kind, Writer
from .weighing import FlushSettings

__all__ = ["FEW", "Tally", "is_told", "tell_failed"]

log = logging.getLogger("sqla_seqreserve.flush")

FEW: Final = "few rows"
"""The reason of rows that an INSERT was cheaper for. How many are few is ``explain()``'s to say: a
reason is the same each time, so that reports can be added up.
"""

FEWER_THAN_ASKED: Final = "few rows: fewer than copy_min_rows"
"""The same where that was asked for."""


@dataclass(slots=True, eq=False)
class _Sum:
    rows: int = 0
    reserved: int = 0
    seconds: float = 0.0


def is_told(settings: FlushSettings) -> bool:
    """Whether anybody is told what a flush writes."""
    return settings.is_watched or audit.is_heard(log)


def tell_failed(error: BaseException) -> None:
    """Tell the log that a flush failed."""
    audit.failed(log, error)


class Tally:
    """What one flush wrote so far."""

    def __init__(self, settings: FlushSettings) -> None:
        self._settings = settings
        self._sums: dict[tuple[type[Any] | Table, Kind, Writer, str | None], _Sum] = {}
        self.messages = 0
        """Round trips, as far as they are counted: only where somebody is told."""

    @property
    def is_told(self) -> bool:
        """Whether anybody is told what was written."""
        return is_told(self._settings)

    def add(
        self,
        states: Sequence[State],
        reserved: int,
        writer: Writer,
        reason: str | None,
        seconds: float,
    ) -> None:
        """Count objects of one class as inserted by ``writer``.

        :param reserved: how many of them had a key that was reserved.
        """
        self.count("insert", states[0].class_, len(states), reserved, writer, reason, seconds)

    def count(
        self,
        kind: Kind,
        model: type[Any] | Table,
        rows: int,
        reserved: int,
        writer: Writer,
        reason: str | None,
        seconds: float,
    ) -> None:
        """Count objects of one class, or rows of one link table."""
        found = self._sums.setdefault((model, kind, writer, reason), _Sum())
        found.rows += rows
        found.reserved += reserved
        found.seconds += seconds

    def report(self) -> None:
        """Hand the report to the registration, if anything was written."""
        if not self._sums or not self.is_told:
            return
        entries = tuple(
            FlushEntry(
                model,
                kind,
                found.rows,
                found.reserved,
                writer,
                self.told(reason) if kind == "insert" else reason,
                found.seconds,
            )
            for (model, kind, writer, reason), found in self._sums.items()
        )
        report = FlushReport(entries, self.messages)
        self._settings.flushed(report)
        audit.flushed(log, report)

    def told(self, reason: str | None) -> str | None:
        """A reason as it is reported."""
        if reason == FEW and self._settings.copy_min_rows is not None:
            return FEWER_THAN_ASKED
        return reason
