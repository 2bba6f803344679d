"""The last checks of each sequence, kept in memory for the page's charts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

from ..health import HealthReport, SequenceHealth

__all__ = ["HealthHistory", "Point", "key_of"]

Point: TypeAlias = tuple[str, int | None, int]
"""When, the sequence's own value, and the gap."""

SequenceKey: TypeAlias = tuple[str | None, str | None, str | None]

_LENGTH = 120
_SPACING = timedelta(seconds=5)


@dataclass(slots=True)
class HealthHistory:
    """The history of one router; each process has its own, and a new process starts anew."""

    _reports: deque[HealthReport] = field(default_factory=lambda: deque(maxlen=_LENGTH))

    def add(self, report: HealthReport) -> None:
        """Remember a check, unless one that saw the same was made a moment ago.

        Many viewers would otherwise push the past out of a history of fixed length.
        """
        last = self._reports[-1] if self._reports else None
        if (
            last is None
            or report.sequences != last.sequences
            or report.checked_at - last.checked_at >= _SPACING
        ):
            self._reports.append(report)

    def points(self) -> dict[SequenceKey, list[Point]]:
        """Return what the checks saw of each sequence, the oldest first."""
        points: dict[SequenceKey, list[Point]] = {}
        for report in self._reports:
            at = report.checked_at.isoformat()
            for entry in report.sequences:
                points.setdefault(key_of(entry), []).append((at, entry.last_value, entry.gap))
        return points


def key_of(entry: SequenceHealth) -> SequenceKey:
    """Return what tells the entry from the others of a check."""
    return entry.table, entry.column, entry.sequence
