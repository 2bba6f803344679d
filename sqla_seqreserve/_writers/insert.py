"""Writes rows with statements that travel in one message, whatever the number of tables.

SQLAlchemy sends a statement and waits for it before it makes the next. Where every key is known
nothing has to be waited for: the INSERTs, UPDATEs, DELETEs and link rows of a flush are collected
in an :class:`Outbox` and sent together, in SQLAlchemy's order. What becomes of a row is decided by
SQLAlchemy's own steps, a statement is made by its own compiler and context, and what comes back
goes to its ``_postfetch`` (:mod:`sqla_seqreserve._writers.letters`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, NoReturn

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper

from .._database import database_of
from .._drivers import (
    CommitRefusedError,
    Driver,
    InsertMessage,
    LostCommitError,
    MessageError,
    OutdatedError,
    Returned,
)
from .._drivers.statements import count_message, tell_travelled
from .._ids import catalogue
from .._ids.fetch import comparison_of, take_ids
from .._ids.keys import KeySequence
from .._ids.server import server_of
from .._reasons import Reason
from .._sqlalchemy.changes import LinkKind, emit_delete_statements, update_brings_back, update_kind
from .._sqlalchemy.engine import MadeValues, raise_lost_commit, sends_as_it_is
from .._sqlalchemy.mapping import (
    hands_on_keys,
    key_columns,
    prefers_eager_defaults,
    server_default_columns,
)
from .._sqlalchemy.persistence import (
    collect_insert_commands,
    emit_insert_statements,
    emit_update_statements,
)
from .._sqlalchemy.unit_of_work import State
from .._sqlalchemy.waiting import before_next_statement, nothing_before_next_statement
from .committing import UNKNOWN, Numbered, compared_for_commit
from .letters import Command, Letter, deletes, inserts, is_plain, links, updates

Refused = Callable[[DBAPIError, Table, Sequence[State], int], None]
"""Is told that the server refused one of these objects, and the mark of its statement."""

_FEW_NUMBERED: Final = 20
"""So many rows bring their keys back one by one in about the time of one INSERT of all."""

_FEW: Final = 5
"""A message of so many rows takes little work beside its round trip."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one :meth:`Outbox.add` brought, as far as it waits: up to which letter."""

    end: int
    rows: int
    written: Callable[[float], object]


class Outbox:
    """The statements of one flush on one connection that wait to be sent.

    :param refused: is told of a refusal.
    :param mark: how far the flush has come, asked when a statement is made.
    :param fewest: the smallest number of rows that one statement is to write together, if that was
        asked for.
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
        self._tell_refused = refused
        self._mark = mark
        self._fewest = fewest
        self._letters: list[Letter] = []
        self._batches: list[_Batch] = []
        self._kept: Sequence[KeySequence] = ()
        self._unnumbered: set[Mapper[Any]] = set()
        self.committed = False
        """Whether the COMMIT travelled with the last message."""
        self.gathers = False
        """Whether keys that an INSERT brings back may wait, too, until somebody needs them."""

    def compare_first(self, kept: Sequence[KeySequence]) -> None:
        """Have what is known of keys that were kept compared before the first INSERT, in its
        message.
        """
        self._kept = kept

    @property
    def compares(self) -> bool:
        """Whether kept keys are compared in the next message."""
        return bool(self._kept)

    def add(
        self,
        base_mapper: Mapper[Any],
        mapper: Mapper[Any],
        table: Table,
        records: Iterable[Any],
        written: Callable[[float], object],
    ) -> None:
        """Insert rows of one class into one table: at once where a key has to come back first, else
        with the next message.

        :param written: called once the rows are written, with the seconds that they took.
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
        """Insert rows of a kind at once, column key -> value, with defaults filled in and their
        values processed already: neither a default nor a type is asked a second time.
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
        needs_keys = False
        for _, group in groupby(commands, _kind):
            alike = list(group)
            if self._can_wait(mapper, table, alike):
                if self._letters:
                    # A default of the next may look at the rows before.
                    before_next_statement(self._connection, self.drain)
                letters = inserts(
                    self._connection,
                    self._uow,
                    base_mapper,
                    mapper,
                    table,
                    alike,
                    made,
                    self._mark(),
                )
                self._letters += letters
                for letter in letters:
                    letter.end = len(self._letters)
                    letter.fills = letter.fills and self.gathers
                needs_keys = needs_keys or not alike[0][6]
            else:
                self.drain()
                started = time.perf_counter()
                emit_insert_statements(base_mapper, self._uow, mapper, table, alike, made)
                seconds = time.perf_counter() - started
                self._note_distance(len(alike), 1, seconds)
                written(seconds)
                written = _nothing
        self._batches.append(_Batch(len(self._letters), len(commands), written))
        waits = not needs_keys or (self.gathers and len(mapper.tables) == 1)
        if not waits or not self._letters or hands_on_keys(mapper, table):
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
        """Change rows: with the next message where nothing has to come back but their count, else
        at once.

        :param together: many rows may be written by one statement.
        """
        for kind, group in groupby(commands, update_kind):
            alike = list(group)
            _, _, _, has_defaults, has_keys = kind
            if update_brings_back(
                mapper, has_defaults=has_defaults, has_keys=has_keys
            ) or not self._may_gather(len(alike)):
                self.drain()
                emit_update_statements(
                    base_mapper, self._uow, mapper, table, alike, together=together
                )
                continue
            connection, mark = self._connection, self._mark()
            for letter in updates(connection, self._uow, base_mapper, mapper, table, alike, mark):
                self._put(letter)
        if hands_on_keys(mapper, table):
            self.drain()

    def delete(
        self,
        base_mapper: Mapper[Any],
        mapper: Mapper[Any],
        table: Table,
        commands: Sequence[tuple[dict[str, Any], Connection]],
        states: Sequence[State],
    ) -> None:
        """Delete rows of these objects with the next message, or at once where they are many."""
        if not self._may_gather(len(commands)):
            self.drain()
            emit_delete_statements(base_mapper, self._uow, mapper, table, commands)
            return
        rows = [row for row, _ in commands]
        mark = self._mark()
        for letter in deletes(self._connection, base_mapper, mapper, table, rows, states, mark):
            self._put(letter)

    def link(self, secondary: Table, kind: LinkKind, rows: Sequence[dict[str, Any]]) -> bool:
        """Write link rows with the next message; false where SQLAlchemy must, for they are many."""
        if not self._may_gather(len(rows)):
            return False
        self._put(links(self._connection, secondary, kind, rows, self._mark()))
        return True

    def _may_gather(self, rows: int) -> bool:
        """Whether so many rows are few, and their statement may wait."""
        driver = self._driver
        if (
            driver is None
            or not (driver.sends_several and driver.returns_each)
            or driver.transaction_status(self._connection.connection) == "autocommit"
            or not sends_as_it_is(self._connection)
        ):
            return False
        if rows == 1:
            return True
        # Here: an application asks while it runs, and not each time that it starts.
        from .executemany import pays

        return not pays(driver, rows, self._connection, self._fewest)

    def _put(self, letter: Letter) -> None:
        self._letters.append(letter)
        letter.end = len(self._letters)
        # A default of the next may look at the rows before.
        before_next_statement(self._connection, self.drain)

    def settle(self, mapper: Mapper[Any] | None = None) -> None:
        """Send what waits if objects lack something until then: keys, of a hierarchy; or whatever
        it may be.
        """
        if mapper is None:
            owes = any(letter.fills for letter in self._letters)
        else:
            owes = mapper.base_mapper in self._unnumbered
        if owes:
            self.drain()

    # Sending

    def _can_wait(self, mapper: Mapper[Any], table: Table, commands: Sequence[Command]) -> bool:
        """Whether rows of a kind are sent here, and not by SQLAlchemy itself."""
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
        """Whether anything waits to be sent."""
        return bool(self._letters)

    def drain(self, *, commits: bool = False) -> None:
        """Send what waits, in one message.

        :param commits: the COMMIT goes behind it, if nothing that comes back could be refused.
        :raises sqlalchemy.exc.DBAPIError: the server refused a row.
        :raises sqlalchemy.orm.exc.FlushError: a row that was to come back did not.
        :raises OutdatedError: the keys were kept, and are no longer good; nothing was sent.
        """
        if self._kept and not self._letters:
            # Something else is about to be sent.
            kept, self._kept = self._kept, ()
            if not take_ids(self._connection, (), kept=kept).holds:
                raise OutdatedError
        letters, self._letters = self._letters, []
        self._unnumbered.clear()
        nothing_before_next_statement(self._connection)
        batches, self._batches = self._batches, []
        started = time.perf_counter()
        sent = 0
        try:
            for letter in self._send(letters, commits=commits) if letters else ():
                letter.keep(letter)
                sent += 1
        finally:
            # What was sent before a refusal is written, as far as SQLAlchemy would have got.
            seconds = time.perf_counter() - started
            rows = sum(batch.rows for batch in batches) or 1
            for batch in batches:
                if batch.end <= sent:
                    batch.written(seconds * batch.rows / rows)

    def _send(self, letters: Sequence[Letter], *, commits: bool) -> Iterator[Letter]:
        """Send the letters; yield each that was written, with what it brought back.

        Listeners hear of one statement after the other, as if each were sent by itself: of the
        first before the message is sent, of the others once it is known that they were executed.
        """
        assert self._driver is not None
        messages: list[InsertMessage] = []
        places: list[int] = []
        letters[0].statement.begin()
        for number, letter in enumerate(letters):
            for statement, parameters in letter.statement.messages():
                messages.append(
                    InsertMessage(statement, parameters, bool(letter.statement.returning))
                )
                places.append(number)
        # A driver that hands on what the last one returned sends those that return one by one.
        apart = 0 if self._driver.returns_each else sum(message.returns for message in messages)
        started = time.perf_counter()
        refusal: MessageError | None = None
        returned: Sequence[Returned] = ()
        compared = compared_for_commit(self._connection, letters) if commits else ()
        try:
            returned = self._send_messages(messages, max(apart, 1), compared, commits=commits)
        except OutdatedError:
            # It was sent, and not carried out.
            letters[0].statement.end()
            raise
        except MessageError as error:
            refusal, returned = error, error.returned
        except LostCommitError as error:
            self._raise_lost(error.__cause__ or error)
        except BaseException as error:
            letters[0].statement.raise_error(error)
        rows = sum(len(message.parameters) for message in messages)
        self._note_distance(rows, max(apart, 1), time.perf_counter() - started)
        failed = len(letters) if refusal is None else places[refusal.position]
        share = (time.perf_counter() - started) / len(letters)
        for number, back in zip(places, returned, strict=False):
            letters[number].returned.append(back)
        for number, letter in enumerate(letters[:failed]):
            if number:
                letter.statement.begin()
            letter.statement.end()
            tell_travelled(letter.statement.context, share)
            # Nothing was sent if a driver could not write a value: there is nothing to keep.
            if letter.end <= failed and (letter.returned or not letter.statement.returning):
                yield letter
        if refusal is not None:
            if failed:
                letters[failed].statement.begin()
            self._refused(letters[failed], messages[refusal.position], refusal)

    def _send_messages(
        self,
        messages: Sequence[InsertMessage],
        round_trips: int,
        compared: Sequence[Numbered] | Reason,
        *,
        commits: bool,
    ) -> Sequence[Returned]:
        """Send a message; and, where what is compared for its COMMIT does not hold, once more
        without.
        """
        assert self._driver is not None
        kept, self._kept = self._kept, ()
        numbered: Sequence[Numbered] = ()
        if isinstance(compared, Reason):
            commits = False
        else:
            numbered = compared
        first = comparison_of(self._connection, kept, numbered) if kept or numbered else None
        count_message(self._connection, round_trips)
        pool = self._connection.connection
        try:
            returned = self._driver.send(pool, messages, first, commits=commits)
        except CommitRefusedError as error:
            # commit() says so.
            return error.returned
        except OutdatedError:
            catalogue.forget(self._connection, [facts.name for facts, _ in numbered])
            if kept:
                raise
            count_message(self._connection, round_trips)
            return self._driver.send(pool, messages)
        self.committed = commits
        return returned

    def _raise_lost(self, error: BaseException) -> NoReturn:
        """Raise the loss of a connection that may have committed."""
        try:
            raise_lost_commit(self._connection, error)
        except DBAPIError as wrapped:
            wrapped.add_note(UNKNOWN)
            raise

    def _note_distance(self, rows: int, round_trips: int, seconds: float) -> None:
        """Take few rows for a round trip; not on Citus, where they go on to other nodes."""
        if rows <= _FEW and server_of(self._connection).kind != "citus":
            database_of(self._connection.dialect).distance.note_bound(seconds, round_trips)

    def _refused(self, letter: Letter, message: InsertMessage, error: MessageError) -> None:
        states = list(letter.states)
        if not error.is_certain:
            states = []
        elif len(message.parameters) == len(states):
            states = [states[error.row]]
        cause = error.__cause__
        assert cause is not None
        try:
            letter.statement.raise_error(cause)
        except DBAPIError as wrapped:
            self._tell_refused(wrapped, letter.table, states, letter.mark)
            raise


def _kind(command: Command) -> tuple[Any, ...]:
    """What SQLAlchemy groups rows by: the columns given, and what has to come back."""
    return set(command[2]), bool(command[5]), command[6], command[7]


def _nothing(seconds: float) -> None:
    """The rows have been told of already."""
