"""Writes rows with statements that travel in one message, whatever the number of tables.

SQLAlchemy sends a statement and waits for its answer before it makes the next one. If every key is
known, nobody has to wait: the INSERTs, UPDATEs, DELETEs and link rows of a flush are collected in a
:class:`StatementQueue` and sent together, in SQLAlchemy's order. SQLAlchemy's own steps decide how
a row is written, its compiler and context make each statement, and its ``_postfetch`` gets the
returned values (:mod:`sqla_seqreserve._writers.queued`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, Table
from sqlalchemy.orm import Mapper

from .._database import known_of
from .._drivers import Driver
from .._ids.keys import KeySequence
from .._routes import Distance
from .._sqlalchemy.changes import (
    LinkKind,
    emit_delete_statements,
    emit_update_statements,
    update_kind,
    updated_columns,
)
from .._sqlalchemy.engine import sends_as_it_is
from .._sqlalchemy.made_values import MadeValues
from .._sqlalchemy.mapping import (
    fills_another_table,
    hands_on_keys,
    key_columns,
    prefers_eager_defaults,
    server_default_columns,
)
from .._sqlalchemy.persistence import (
    collect_insert_commands,
    emit_insert_statements,
)
from .._sqlalchemy.unit_of_work import State
from .._sqlalchemy.waiting import before_next_statement, nothing_before_next_statement
from .queued import Command, QueuedStatement, deletes, inserts, is_plain, links, updates
from .sender import MessageSender, Refused

_FEW_NUMBERED: Final = 20
"""This many rows return their keys one by one in about the time of one INSERT of all."""

_FEW_KINDS: Final = 12
"""With at most this many changed objects, it does not pay to sort them by kind."""

_MOST_RETURNED: Final = 100
"""At most this many changed objects whose UPDATEs return values are sent together."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one call of :meth:`StatementQueue.add` queued.

    :param end: the length of the queue after it.
    :param rows: how many of its rows are queued.
    :param spent: seconds that its other rows took, which were sent at once.
    :param written: called with the seconds of all rows after the last of them is written.
    """

    end: int
    rows: int
    spent: float
    written: Callable[[float], object]


class StatementQueue:
    """The statements of one flush on one connection that wait to be sent.

    :param refused: called when the server refuses a row.
    :param mark: called when a statement is made; returns how far the flush has come.
    :param fewest: the smallest number of rows that one statement writes together, if the settings
        say so.
    """

    def __init__(
        self,
        connection: Connection,
        driver: Driver | None,
        uow: Any,
        refused: Refused,
        mark: Callable[[], int],
        fewest: int | None = None,
    ) -> None:
        self._connection = connection
        self._driver = driver
        self._uow = uow
        self._sender = MessageSender(connection, driver, refused)
        self._mark = mark
        self._fewest = fewest
        self._queue: list[QueuedStatement] = []
        self._batches: list[_Batch] = []
        self._unnumbered: set[Mapper[Any]] = set()
        self.gathers = False
        """Whether INSERTs that return keys may wait too, until somebody needs the keys."""

    def compare_first(self, kept: Sequence[KeySequence]) -> None:
        """Compare the known facts of kept keys in the message of the first INSERT, before it."""
        self._sender.kept = kept

    @property
    def compares(self) -> bool:
        """Whether kept keys are compared in the next message."""
        return bool(self._sender.kept)

    @property
    def committed(self) -> bool:
        """Whether the COMMIT travelled with the last message."""
        return self._sender.committed

    def add(
        self,
        base_mapper: Mapper[Any],
        mapper: Mapper[Any],
        table: Table,
        records: Iterable[Any],
        written: Callable[[float], object],
    ) -> None:
        """Insert rows of one class into one table: at once if a key must come back first, otherwise
        with the next message.

        :param written: called after the rows are written, with the seconds that they took.
        """
        self._add(
            base_mapper,
            mapper,
            table,
            list(collect_insert_commands(table, records)),
            written,
        )

    def add_made(
        self,
        base_mapper: Mapper[Any],
        mapper: Mapper[Any],
        table: Table,
        records: Sequence[Any],
        parameters: Sequence[dict[str, Any]],
        made: MadeValues,
        written: Callable[[float], object],
    ) -> None:
        """Insert rows of a kind at once, column key -> value. Their defaults are filled in and
        their values processed already: no default is called and no type processes a value again.
        """
        needed = {column.key for column in key_columns(mapper, table)}
        defaults = set[Any]()
        if prefers_eager_defaults(mapper, self._connection.dialect, table):
            defaults = {column.key for column in server_default_columns(mapper, table)}
        commands: list[Command] = []
        for (state, row, found, connection), given in zip(records, parameters, strict=True):
            keys, fills = given.keys() >= needed, given.keys() >= defaults
            commands.append((state, row, given, found, connection, {}, keys, fills))
        self._add(base_mapper, mapper, table, commands, written, made)
        self.drain()

    def _add(
        self,
        base_mapper: Mapper[Any],
        mapper: Mapper[Any],
        table: Table,
        commands: list[Command],
        written: Callable[[float], object],
        made: MadeValues | None = None,
    ) -> None:
        needs_keys, waiting, spent = False, 0, 0.0
        for _, group in groupby(commands, _kind):
            alike = list(group)
            if self._can_wait(mapper, table, alike):
                if self._queue:
                    # A default of the next statement may read the rows before it.
                    before_next_statement(self._connection, self.drain)
                queued = inserts(
                    self._connection,
                    self._uow,
                    base_mapper,
                    mapper,
                    table,
                    alike,
                    made,
                    self._mark(),
                )
                self._queue += queued
                waiting += len(alike)
                for entry in queued:
                    entry.end = len(self._queue)
                    entry.fills = entry.fills and self.gathers
                needs_keys = needs_keys or not alike[0][6]
            else:
                self.drain()
                started = time.perf_counter()
                emit_insert_statements(base_mapper, self._uow, mapper, table, alike, made)
                seconds = time.perf_counter() - started
                self._sender.note_distance(len(alike), 1, seconds)
                spent += seconds
        self._batches.append(_Batch(len(self._queue), waiting, spent, written))
        waits = not needs_keys or (self.gathers and len(mapper.tables) == 1)
        if (
            not waits
            or not self._queue
            or hands_on_keys(mapper, table)
            or fills_another_table(mapper, table)
        ):
            self.drain()
        else:
            if needs_keys:
                self._unnumbered.add(base_mapper)
            before_next_statement(self._connection, self.drain)

    # UPDATE, DELETE and link rows

    def update(
        self,
        base_mapper: Mapper[Any],
        mapper: Mapper[Any],
        table: Table,
        commands: Iterable[Command],
        *,
        together: bool,
    ) -> None:
        """Change rows: with the next message if they are few and no key must come back, otherwise
        at once.

        :param together: one statement may write many rows.
        """
        if together:
            commands = self._in_kinds(mapper, table, list(commands))
        for kind, group in groupby(commands, update_kind):
            alike = list(group)
            _, _, _, has_defaults, has_keys = kind
            # SQLAlchemy sends UPDATEs that return values one after the other.
            one_by_one = len(alike) <= _MOST_RETURNED and bool(
                updated_columns(mapper, table, has_defaults=has_defaults)
            )
            if not (has_keys and self._may_gather(1 if one_by_one else len(alike))):
                self.drain()
                emit_update_statements(
                    base_mapper, self._uow, mapper, table, alike, together=together
                )
                continue
            connection, mark = self._connection, self._mark()
            for entry in updates(connection, self._uow, base_mapper, mapper, table, alike, mark):
                self._put(entry)
        if hands_on_keys(mapper, table):
            self.drain()

    def _in_kinds(
        self, mapper: Mapper[Any], table: Table, commands: Sequence[Command]
    ) -> Sequence[Command]:
        if len(commands) <= _FEW_KINDS:
            return commands
        # Imported here: most flushes change fewer rows.
        from .kinds import in_kinds

        return in_kinds(
            self._connection,
            self._driver,
            mapper,
            table,
            commands,
            gathers=self._may_gather(1),
            send_waiting=self.drain,
        )

    def delete(
        self,
        base_mapper: Mapper[Any],
        mapper: Mapper[Any],
        table: Table,
        commands: Sequence[tuple[dict[str, Any], Connection]],
        states: Sequence[State],
    ) -> None:
        """Delete rows of these objects with the next message, or at once if they are many."""
        if not self._may_gather(len(commands)):
            self.drain()
            emit_delete_statements(base_mapper, self._uow, mapper, table, commands)
            return
        rows = [row for row, _ in commands]
        mark = self._mark()
        for entry in deletes(self._connection, base_mapper, mapper, table, rows, states, mark):
            self._put(entry)

    def link(self, secondary: Table, kind: LinkKind, rows: Sequence[dict[str, Any]]) -> bool:
        """Write link rows with the next message. Return False if they are too many, so that
        SQLAlchemy must write them.
        """
        if not self._may_gather(len(rows)):
            return False
        self._put(links(self._connection, secondary, kind, rows, self._mark()))
        return True

    def _may_gather(self, rows: int) -> bool:
        """Whether a statement with this many rows may wait for the next message. It may not if
        there are so many rows that one statement over all of them costs less.
        """
        driver = self._driver
        if (
            driver is None
            or known_of(self._connection.dialect, Distance).rounded < driver.gathers_from
            or driver.transaction_status(self._connection.connection) == "autocommit"
            or not sends_as_it_is(self._connection)
            or not self._sender.may_count()
        ):
            return False
        if rows == 1:
            return True
        # Imported here so that starting an application does not pay for it.
        from .many_costs import pays

        return not pays(driver, rows, self._connection, self._fewest, gathered=True)

    def _put(self, entry: QueuedStatement) -> None:
        self._queue.append(entry)
        entry.end = len(self._queue)
        # A default of the next statement may read the rows before it.
        before_next_statement(self._connection, self.drain)

    def settle(self, mapper: Mapper[Any] | None = None) -> None:
        """Send the waiting statements if objects get their keys from them.

        :param mapper: only objects of its hierarchy count; ``None``: all objects, and any value.
        """
        if mapper is None:
            owes = any(entry.fills for entry in self._queue)
        else:
            owes = mapper.base_mapper in self._unnumbered
        if owes:
            self.drain()

    # Sending

    def _can_wait(self, mapper: Mapper[Any], table: Table, commands: Sequence[Command]) -> bool:
        """Whether this queue sends rows of a kind, and not SQLAlchemy itself."""
        driver = self._driver
        return (
            driver is not None
            and driver.sends_several
            and table.implicit_returning
            and sends_as_it_is(self._connection)
            and (
                (driver.returns_each and (not self.gathers or len(commands) <= _FEW_NUMBERED))
                or len(commands) == 1
                or is_plain(self._connection, mapper, table, commands[0])
            )
        )

    def waits(self) -> bool:
        """Whether any statement waits to be sent."""
        return bool(self._queue)

    def drain(self, *, commits: bool = False) -> None:
        """Send the waiting statements in one message.

        :param commits: the COMMIT follows them in the message, if SQLAlchemy cannot refuse any of
            the results.
        :raises sqlalchemy.exc.DBAPIError: the server refused a row.
        :raises sqlalchemy.orm.exc.FlushError: a row that had to come back did not.
        :raises OutdatedError: the keys were kept, and are no longer valid; nothing was written.
        """
        if self.compares and not self._queue:
            self._sender.compare()
        queued, self._queue = self._queue, []
        self._unnumbered.clear()
        nothing_before_next_statement(self._connection)
        batches, self._batches = self._batches, []
        started = time.perf_counter()
        sent = 0
        try:
            for entry in self._sender.send(queued, commits=commits) if queued else ():
                entry.keep(entry)
                sent += 1
        finally:
            # Count the batches that were written before a refusal, as far as SQLAlchemy would have
            # come.
            seconds = time.perf_counter() - started
            rows = sum(batch.rows for batch in batches) or 1
            for batch in batches:
                if batch.end <= sent:
                    batch.written(batch.spent + seconds * batch.rows / rows)


def _kind(command: Command) -> tuple[Any, ...]:
    """What SQLAlchemy groups rows by: the given columns, and the values that must come back."""
    _, _, given, _, _, expressions, has_keys, has_defaults = command
    return set(given), bool(expressions), has_keys, has_defaults
