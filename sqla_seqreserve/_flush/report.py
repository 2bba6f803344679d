"""Counts the rows that a flush wrote, by writer, and reports them to the callbacks and the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table

from .. import _audit as audit
from .._reasons import FEW, FEWER_THAN_ASKED, Reason
from .._sqlalchemy.unit_of_work import State
from ..reports import FlushEntry, FlushReport, Kind, Writer
from .settings import Settings

log = logging.getLogger("sqla_seqreserve.flush")


@dataclass(slots=True, eq=False)
class _Sum:
    rows: int = 0
    reserved: int = 0
    seconds: float = 0.0


def is_listened_to(settings: Settings) -> bool:
    """Whether a callback or the log receives the report of a flush."""
    return bool(settings.callbacks) or audit.is_heard(log)


def log_failed(error: BaseException) -> None:
    """Log that a flush failed."""
    audit.failed(log, error)


class ReportBuilder:
    """Counts what one flush, or one ``bulk_insert``, has written so far."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sums: dict[tuple[type[Any] | Table, Kind, Writer, Reason | None], _Sum] = {}
        self.messages = 0
        """Round trips. They are counted only if somebody receives the report."""
        self.committed = False
        """Whether the COMMIT travelled with the flush."""

    @property
    def is_listened_to(self) -> bool:
        """Whether a callback or the log receives the report."""
        return is_listened_to(self._settings)

    def add(
        self,
        states: Sequence[State],
        reserved: int,
        writer: Writer,
        reason: Reason | None,
        seconds: float,
    ) -> None:
        """Count objects of one class as inserted by ``writer``.

        :param reserved: how many of them had a reserved key.
        """
        if reason == FEW and self._settings.copy_min_rows is not None:
            reason = FEWER_THAN_ASKED
        self.count("insert", states[0].class_, len(states), reserved, writer, reason, seconds)

    def count(
        self,
        kind: Kind,
        model: type[Any] | Table,
        rows: int,
        reserved: int,
        writer: Writer,
        reason: Reason | None,
        seconds: float,
    ) -> None:
        """Count objects of one class, or rows of one link table."""
        found = self._sums.setdefault((model, kind, writer, reason), _Sum())
        found.rows += rows
        found.reserved += reserved
        found.seconds += seconds

    def entries(self) -> Iterator[FlushEntry]:
        """The entries of the report that count at least one row."""
        for (model, kind, writer, reason), found in self._sums.items():
            if found.rows:
                text = None if reason is None else reason.text
                yield FlushEntry(
                    model, kind, found.rows, found.reserved, writer, text, found.seconds
                )

    def send(self) -> None:
        """Hand the report to the registration, if anything was written."""
        if not self._sums or not self.is_listened_to:
            return
        report = FlushReport(tuple(self.entries()), self.messages, self.committed)
        try:
            self._settings.flushed(report)
        except Exception:
            if not self.committed:
                raise
            # The flush cannot fail any more: its rows are committed, and others see them.
            log.exception("a callback of on_flush() failed after the COMMIT of the flush")
        audit.flushed(log, report)
