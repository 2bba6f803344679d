"""Writes a batch of rows with COPY, through SQLAlchemy's own execution path.

The COPY is a job of the connection (``_drivers.jobs``), so that tracing tools see the
statement, its number of rows (as its one parameter) and the cursor's row count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Dialect

from .._drivers.jobs import has_jobs, run_on_driver
from .._ids.catalogue import quoted

__all__ = ["CopyJob", "copy_rows", "no_copy_reason"]

_BLOCK: Final = 8192


@dataclass(slots=True, eq=False)
class CopyJob:
    """Column values of one COPY, as the driver takes them, with the type oid of each column;
    then how many rows were taken.
    """

    values: Sequence[Sequence[Any]]
    oids: Sequence[int]
    binary: bool
    progress: Callable[[int], object] | None = None
    taken: int = 0

    def run(self, cursor: Any, statement: str, parameters: Any) -> None:  # noqa: ARG002  # a job's
        """Send the rows through a psycopg cursor."""
        with cursor.copy(statement) as copy:
            if self.binary:
                copy.set_types(self.oids)
            write_row = copy.write_row
            for rows in self._blocks():
                for row in rows:
                    write_row(row)
        self.taken = cursor.rowcount

    async def run_async(self, cursor: Any, statement: str, parameters: Any) -> None:  # noqa: ARG002  # a job's
        """Send the rows through a psycopg async cursor."""
        async with cursor.copy(statement) as copy:
            if self.binary:
                copy.set_types(self.oids)
            write_row = copy.write_row
            for rows in self._blocks():
                for row in rows:
                    await write_row(row)
        self.taken = cursor.rowcount

    def _blocks(self) -> Iterator[Iterable[tuple[Any, ...]]]:
        """The rows, whole; or, where progress is reported, in blocks with a report after each."""
        rows = zip(*self.values, strict=True)
        if self.progress is None:
            yield rows
            return
        for start in range(0, len(self.values[0]), _BLOCK):
            yield islice(rows, _BLOCK)
            self.progress(min(_BLOCK, len(self.values[0]) - start))


def no_copy_reason(dialect: Dialect) -> str | None:
    """Why this driver cannot be given a COPY, ``None`` if it can."""
    if has_jobs(dialect):
        return None
    return f"driver {dialect.driver} has no COPY that keeps values exact"


def copy_rows(
    connection: Connection, table: str, columns: Sequence[str], job: CopyJob, rows: int
) -> int:
    """Write the rows into ``table`` (its name as SQL) and return how many the server took.

    :raises sqlalchemy.exc.DBAPIError: the server refused a row; nothing of the batch is written.
    """
    names = ", ".join(map(quoted, columns))
    options = " (FORMAT BINARY)" if job.binary else ""
    statement = f"COPY {table} ({names}) FROM STDIN{options}"
    run_on_driver(connection, statement, {"rows": rows}, job)
    return job.taken
