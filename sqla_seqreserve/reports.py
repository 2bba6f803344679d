"""What a flush did, class by class: handed to the callbacks of :meth:`Registration.on_flush`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["FlushEntry", "FlushReport", "Writer"]

Writer: TypeAlias = Literal["copy", "insert", "orm"]
"""``copy``: COPY. ``insert``: one bulk INSERT with reserved keys. ``orm``: SQLAlchemy's unit of
work, for the reason given.
"""


@dataclass(frozen=True, slots=True)
class FlushEntry:
    """How the new objects of one class were written.

    :param model: the mapped class.
    :param rows: number of objects inserted.
    :param reserved: number of ids reserved for them; objects whose key was set already need none.
    :param writer: see :data:`Writer`.
    :param reason: why not by COPY; ``None`` for COPY.
    :param seconds: time spent writing, reservation not included.
    """

    model: type[Any]
    rows: int
    reserved: int
    writer: Writer
    reason: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class FlushReport:
    """One flush that inserted: its entries, one for each class, writer and reason."""

    entries: tuple[FlushEntry, ...]

    @property
    def rows(self) -> int:
        """Number of objects inserted."""
        return sum(entry.rows for entry in self.entries)
