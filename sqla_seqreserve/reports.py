"""What a flush did, class by class: handed to the callbacks of :meth:`Registration.on_flush`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["FlushEntry", "FlushReport", "Writer"]

Writer: TypeAlias = Literal["copy", "insert", "orm"]
"""Who writes rows, in reports, in ``explain()``, in the log and in metrics.

``copy``: COPY, with reserved keys. ``insert``: INSERT, because it is cheaper than COPY for so few
rows; the database numbers them, or their keys are reserved and the INSERTs travel in one message,
whichever costs less. ``orm``: SQLAlchemy's unit of work, because COPY could not or must not write
them; the reason says why.
"""


@dataclass(frozen=True, slots=True)
class FlushEntry:
    """How the new objects of one class were written.

    :param model: the mapped class.
    :param rows: number of objects inserted.
    :param reserved: number of ids reserved for them before the first INSERT. Objects whose key was
        set already need none, and few rows get their keys within the INSERT where that is cheaper.
    :param writer: see :data:`Writer`.
    :param reason: why not by COPY, the same words each time; ``None`` for COPY. "few rows" is said
        of rows that INSERT was cheaper for: ``explain()`` says how many are more
        (:attr:`~sqla_seqreserve.registration.Explanation.copy_from`).
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
