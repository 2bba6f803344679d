"""Reports of what a flush did, class by class: passed to the callbacks of
:meth:`Registration.on_flush`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import Table

__all__ = ["FlushEntry", "FlushReport", "Kind", "Writer"]

Kind: TypeAlias = Literal["insert", "update", "delete", "link", "unlink"]
"""The kind of change, in reports, in the log and in metrics.

``insert``, ``update``, ``delete``: new, changed and deleted objects. ``link``, ``unlink``: rows
that were added to and removed from a many-to-many relationship's table (``secondary``).
"""

Writer: TypeAlias = Literal["copy", "insert", "orm"]
"""How rows are written, in reports, in ``explain()``, in the log and in metrics.

``copy``: by COPY, with reserved keys; or by one statement for all rows, which COPY or arrays
carried to the server. ``insert``: by a statement for few rows, because that is cheaper; either the
database numbers new objects, or their keys are reserved and the INSERTs travel in one message,
whichever costs less. ``orm``: by SQLAlchemy's unit of work, because the rows could not or must not
travel together; the reason says why.
"""


@dataclass(frozen=True, slots=True)
class FlushEntry:
    """How the new, changed or deleted objects of one class, or the rows of one link table, were
    written.

    :param model: the mapped class; for link rows, and changed ones, their ``Table``.
    :param kind: what was done: see :data:`Kind`.
    :param rows: number of objects, each counted once, whatever the number of its tables; for a link
        table, number of rows.
    :param reserved: number of ids reserved for new objects before the first INSERT. Objects whose
        key was set already need none, and few rows get their keys within the INSERT where that is
        cheaper. 0 for the other kinds.
    :param writer: see :data:`Writer`. If the tables of an object were written differently, the
        writer that is farthest from ``copy``.
    :param reason: why the writer is not ``copy``, in the same words each time; ``None`` for
        ``copy``. "few rows" means that separate statements, or an INSERT, were cheaper:
        ``explain()`` says from how many rows that changes
        (:attr:`~sqla_seqreserve.registration.Explanation.copy_from`, ``many_from``).
    :param seconds: time spent writing, without the reservation; for changed and deleted objects and
        link rows, the time of their statements.
    """

    model: type[Any] | Table
    kind: Kind
    rows: int
    reserved: int
    writer: Writer
    reason: str | None
    seconds: float

    @property
    def name(self) -> str:
        """The name of the class, or of the link table."""
        return self.model.name if isinstance(self.model, Table) else self.model.__name__


@dataclass(frozen=True, slots=True)
class FlushReport:
    """One flush that wrote: its entries, one for each combination of class, kind, writer and
    reason. ``str()`` formats them as a table.

    :param messages: the round trips of the flush: one for each statement and for each message of
        several statements; one per row where the driver sends rows one by one (psycopg2); those of
        COPY; and one if BEGIN travels by itself. It does not count what a driver sends on its own
        in addition, such as asyncpg's preparation of a statement that is new to it.
    :param committed: whether the transaction's COMMIT travelled with the last message of the flush,
        so that the rows are committed already.
    """

    entries: tuple[FlushEntry, ...]
    messages: int = 0
    committed: bool = False

    @property
    def rows(self) -> int:
        """Number of objects and link rows written."""
        return sum(entry.rows for entry in self.entries)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        rows = [("class", "kind", "rows", "reserved", "writer", "seconds", "reason")]
        rows += [
            (
                entry.name,
                entry.kind,
                f"{entry.rows:,}",
                f"{entry.reserved:,}",
                entry.writer,
                f"{entry.seconds:.4f}",
                entry.reason or "",
            )
            for entry in self.entries
        ]
        seconds = sum(entry.seconds for entry in self.entries)
        reserved = sum(entry.reserved for entry in self.entries)
        messages = f"{self.messages:,} round trip" + ("" if self.messages == 1 else "s")
        if self.committed:
            messages += ", COMMIT included"
        rows.append(
            ("total", "", f"{self.rows:,}", f"{reserved:,}", "", f"{seconds:.4f}", messages)
        )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for name, kind, count, ids, writer, took, reason in rows:
            cells = [
                name.ljust(widths[0]),
                kind.ljust(widths[1]),
                count.rjust(widths[2]),
                ids.rjust(widths[3]),
                writer.ljust(widths[4]),
                took.rjust(widths[5]),
                reason,
            ]
            yield "  ".join(cells).rstrip()
