"""Runs one ``bulk_insert``: checks, numbers and writes chunk after chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Mapper, Session

from .._flush.report import ReportBuilder
from .._flush.settings import Settings
from .._sqlalchemy.engine import autocommits
from .._sqlalchemy.savepoint import savepoint
from ..errors import InvalidRowsError
from ..reports import FlushEntry
from .chunk import ChunkInsert
from .chunk_result import Written
from .class_tables import ClassTables
from .input import Chunk


class Inserting:
    """Writes rows of one class into its class_tables.

    :param session: the session of the connection; it begins the savepoint, if one is needed.
    :param wants_keys: whether the caller wants the key of each row.
    """

    def __init__(
        self,
        session: Session,
        connection: Connection,
        mapper: Mapper[Any],
        progress: Callable[[int], object] | None,
        *,
        wants_keys: bool,
    ) -> None:
        self._class_tables = ClassTables(session, connection, mapper, progress)
        self._report = ReportBuilder(Settings())
        self._wants_keys = wants_keys

    def write(self, rows: Chunk, start: int, guard: ExitStack | None = None) -> Written:
        """Check, number and write one chunk.

        :param start: the position of its first row in the whole input.
        :param guard: receives a savepoint, begun after the ids are taken; its rollback removes what
            was written if the whole operation fails.
        :raises InvalidRowsError: rows that cannot be written; nothing of the chunk was written.
        """
        class_tables = self._class_tables
        try:
            rows, used, values = self._checked(rows, start)
        except InvalidRowsError:
            # What was known of the tables, which decides what is wrong, may no longer be true.
            class_tables.look_anew()
            rows, used, values = self._checked(rows, start)
        chunk = ChunkInsert(
            class_tables, rows, start, used, values, self._report, wants_keys=self._wants_keys
        )
        chunk.number()
        if guard is not None and not autocommits(class_tables.connection):
            guard.enter_context(savepoint(class_tables.session, class_tables.connection))
        return chunk.write()

    def _checked(self, rows: Chunk, start: int) -> tuple[Chunk, set[str], dict[str, list[Any]]]:
        """Return the rows with their gaps filled, and what the check of them returns."""
        filled = self._class_tables.filled(rows)
        return filled, *self._class_tables.check(filled, start, self._class_tables.required())

    def entries(self) -> Iterator[FlushEntry]:
        """Yield entries for the rows that COPY wrote and for those written otherwise."""
        return self._report.entries()
