"""Writes rows with INSERTs that travel in one message, whatever the number of tables.

SQLAlchemy sends an INSERT and waits for it before it makes the next. Where every key is known
nothing has to be waited for: the INSERTs of a flush are collected in an :class:`Outbox` and sent
together, in SQLAlchemy's order. What becomes of a row is decided by SQLAlchemy's own steps, a
statement is made by its own compiler and context, and what comes back goes to its ``_postfetch``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, Insert, Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.exc import FlushError

from .. import _host as host
from .._drivers import Driver, InsertMessage, MessageError, OutdatedError, Returned
from .._ids.distances import distance_to
from .._ids.engine import engine_of
from .._ids.fetch import comparison_of, take_ids
from .._ids.keys import KeySequence

__all__ = ["Outbox"]

Command = tuple[Any, ...]
"""What ``_collect_insert_commands`` yields of a row."""

Refused = Callable[[DBAPIError, Table, Sequence[host.State], int], None]
"""Is told that the server refused one of these objects, and the mark of its statement."""

_FEW: Final = 5
"""A message of so many rows takes little work beside its round trip."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one :meth:`Outbox.add` brought, as far as it waits: up to which letter."""

    end: int
    rows: int
    written: Callable[[float], object]


@dataclass(slots=True, eq=False)
class _Letter:
    """One INSERT: its context, the commands of its rows, and what it brought back."""

    insert: host.InsertContext
    commands: Sequence[Command]
    mapper: Mapper[Any]
    table: Table
    of_several: bool
    mark: int
    end: int = 0
    """Up to which letter the rows go that SQLAlchemy would have sent as one statement."""
    returned: list[Returned] = field(default_factory=list)


class Outbox:
    """The INSERTs of one flush on one connection that wait to be sent.

    :param refused: is told of a refusal.
    :param mark: how far the flush has come, asked when an INSERT is made.
    """

    def __init__(
        self,
        connection: Connection,
        driver: Driver | None,
        uow: Any,
        refused: Refused,
        mark: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._driver = driver
        self._uow = uow
        self._tell_refused = refused
        self._mark = mark
        self._letters: list[_Letter] = []
        self._batches: list[_Batch] = []
        self._kept: Sequence[KeySequence] = ()

    def compare_first(self, kept: Sequence[KeySequence]) -> None:
        """Have what is known of keys that were kept compared before the first INSERT, in its
        message.
        """
        self._kept = kept

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
            list(host.collect_insert_commands(table, records)),
            written,
        )

    def add_made(
        self,
        base_mapper: Mapper[Any],
        mapper: Mapper[Any],
        table: Table,
        records: Sequence[Any],
        parameters: Sequence[dict[str, Any]],
        made: host.MadeValues,
        written: Callable[[float], object],
    ) -> None:
        """Insert rows of a kind at once, column key -> value, with defaults filled in and their
        values processed already: neither a default nor a type is asked a second time.
        """
        needed = {column.key for column in host.key_columns(mapper, table)}
        defaults = set[Any]()
        if host.prefers_eager_defaults(mapper, self._connection.dialect, table):
            defaults = {column.key for column in host.server_default_columns(mapper, table)}
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
        made: host.MadeValues | None = None,
    ) -> None:
        needs_keys = False
        for _, group in groupby(commands, _kind):
            alike = list(group)
            if self._can_wait(mapper, table, alike):
                if self._letters:
                    # A default of the next may look at the rows before.
                    host.before_next_statement(self._connection, self.drain)
                letters = self._letters_for(base_mapper, mapper, table, alike, made)
                self._letters += letters
                for letter in letters:
                    letter.end = len(self._letters)
                needs_keys = needs_keys or not alike[0][6]
            else:
                self.drain()
                started = time.perf_counter()
                host.emit_insert_statements(base_mapper, self._uow, mapper, table, alike, made)
                seconds = time.perf_counter() - started
                self._note_distance(len(alike), 1, seconds)
                written(seconds)
                written = _nothing
        self._batches.append(_Batch(len(self._letters), len(commands), written))
        if needs_keys or not self._letters or host.hands_on_keys(mapper, table):
            self.drain()
        else:
            host.before_next_statement(self._connection, self.drain)

    def _can_wait(self, mapper: Mapper[Any], table: Table, commands: Sequence[Command]) -> bool:
        """Whether rows of a kind are sent here, and not by SQLAlchemy itself."""
        driver = self._driver
        return (
            driver is not None
            and driver.sends_several
            and table.implicit_returning
            and host.sends_as_it_is(self._connection)
            and (
                driver.returns_each
                or len(commands) == 1
                or self._is_plain(mapper, table, commands[0])
            )
        )

    def _is_plain(self, mapper: Mapper[Any], table: Table, command: Command) -> bool:
        """Whether nothing comes back: SQLAlchemy's "we don't need newly generated values back"."""
        _, _, _, _, _, expressions, has_keys, has_defaults = command
        return (
            has_keys
            and not expressions
            and (
                has_defaults
                or not host.prefers_eager_defaults(mapper, self._connection.dialect, table)
            )
        )

    def _letters_for(
        self,
        base_mapper: Mapper[Any],
        mapper: Mapper[Any],
        table: Table,
        commands: list[Command],
        made: host.MadeValues | None,
    ) -> Sequence[_Letter]:
        if self._is_plain(mapper, table, commands[0]):
            statement = host.insert_statement(base_mapper, table, ())
            rows = [command[2] for command in commands]
            insert = host.insert_context(self._connection, base_mapper, statement, rows, made=made)
            return [_Letter(insert, commands, mapper, table, len(commands) > 1, self._mark())]
        has_defaults = commands[0][7]
        returned: list[Any] = []
        if not has_defaults and host.prefers_eager_defaults(
            mapper, self._connection.dialect, table
        ):
            every = host.returns_every_column(mapper, table)
            returned += table.columns if every else host.server_default_columns(mapper, table)
        if mapper.version_id_col is not None:
            returned.append(mapper.version_id_col)
        several = len(commands) > 1 and not commands[0][5]
        statement = host.insert_statement(base_mapper, table, tuple(returned), several=several)
        together = [commands] if several else [[command] for command in commands]
        return [
            _Letter(
                host.insert_context(
                    self._connection,
                    base_mapper,
                    _with(statement, some[0][5]),
                    [command[2] for command in some],
                    made=made,
                ),
                some,
                mapper,
                table,
                len(commands) > 1,
                self._mark(),
            )
            for some in together
        ]

    def waits(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._letters)

    def drain(self) -> None:
        """Send what waits, in one message.

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
        host.nothing_before_next_statement(self._connection)
        batches, self._batches = self._batches, []
        started = time.perf_counter()
        sent = 0
        try:
            for letter in self._send(letters) if letters else ():
                self._keep(letter)
                sent += 1
        finally:
            # What was sent before a refusal is written, as far as SQLAlchemy would have got.
            seconds = time.perf_counter() - started
            rows = sum(batch.rows for batch in batches) or 1
            for batch in batches:
                if batch.end <= sent:
                    batch.written(seconds * batch.rows / rows)

    def _send(self, letters: Sequence[_Letter]) -> Iterator[_Letter]:
        """Send the letters; yield each that was written, with what it brought back.

        Listeners hear of one statement after the other, as if each were sent by itself: of the
        first before the message is sent, of the others once it is known that they were executed.
        """
        assert self._driver is not None
        messages: list[InsertMessage] = []
        places: list[int] = []
        letters[0].insert.begin()
        for number, letter in enumerate(letters):
            for statement, parameters in letter.insert.messages():
                messages.append(InsertMessage(statement, parameters, bool(letter.insert.returning)))
                places.append(number)
        first = comparison_of(self._connection, self._kept) if self._kept else None
        self._kept = ()
        started = time.perf_counter()
        refusal: MessageError | None = None
        returned: Sequence[Returned] = ()
        try:
            returned = self._driver.send(self._connection.connection, messages, first)
        except OutdatedError:
            # It was sent, and not carried out.
            letters[0].insert.end()
            raise
        except MessageError as error:
            refusal, returned = error, error.returned
        except BaseException as error:
            letters[0].insert.raise_error(error)
        rows = sum(len(message.parameters) for message in messages)
        # A driver that hands on what the last one returned sends those that return one by one.
        apart = 0 if self._driver.returns_each else sum(message.returns for message in messages)
        self._note_distance(rows, max(apart, 1), time.perf_counter() - started)
        failed = len(letters) if refusal is None else places[refusal.position]
        for number, back in zip(places, returned, strict=False):
            letters[number].returned.append(back)
        for number, letter in enumerate(letters[:failed]):
            if number:
                letter.insert.begin()
            letter.insert.end()
            # Nothing was sent if a driver could not write a value: there is nothing to keep.
            if letter.end <= failed and (letter.returned or not letter.insert.returning):
                yield letter
        if refusal is not None:
            if failed:
                letters[failed].insert.begin()
            self._refused(letters[failed], messages[refusal.position], refusal)

    def _note_distance(self, rows: int, round_trips: int, seconds: float) -> None:
        """Take few rows for a round trip; not on Citus, where they go on to other nodes."""
        if rows <= _FEW and engine_of(self._connection).kind != "citus":
            distance_to(self._connection.dialect).note_bound(seconds, round_trips)

    def _refused(self, letter: _Letter, message: InsertMessage, error: MessageError) -> None:
        states = [command[0] for command in letter.commands]
        if not error.is_certain:
            states = []
        elif len(message.parameters) == len(states):
            states = [states[error.row]]
        cause = error.__cause__
        assert cause is not None
        try:
            letter.insert.raise_error(cause)
        except DBAPIError as wrapped:
            self._tell_refused(wrapped, letter.table, states, letter.mark)
            raise

    def _keep(self, letter: _Letter) -> None:
        """Leave the objects of an INSERT as SQLAlchemy leaves them."""
        insert, mapper, table = letter.insert, letter.mapper, letter.table
        if not insert.returning:
            for position, (state, row, *_) in enumerate(letter.commands):
                host.postfetch(self._uow, table, state, row, insert, position, {}, None)
            return
        # The rows of one statement come in no order; behind their values stands their key.
        rows = [row for back in letter.returned for row in _in_order(back.rows)]
        if len(rows) != len(letter.commands):
            found = letter.commands[0][3]
            raise FlushError((_MANY_LOST if letter.of_several else _ONE_LOST).format(found))
        processors = insert.processors(letter.returned[0].oids)
        for position, (command, came_back) in enumerate(zip(letter.commands, rows, strict=True)):
            state, row, _, found, _, expressions, *_ = command
            values = [
                processor(value) if processor is not None else value
                for value, processor in zip(came_back, processors, strict=False)
            ]
            came = dict(zip(insert.returning, values, strict=True))
            given = insert.compiled_parameters(position)
            for column in host.key_columns(mapper, table):
                attribute = found.get_property_by_column(column).key
                if column in expressions or row.get(attribute) is None:
                    row[attribute] = came[column] if column in came else given.get(str(column.key))
            host.postfetch(self._uow, table, state, row, insert, position, expressions, values)


_ONE_LOST: Final = (
    "Single-row INSERT statement for {} did not produce a new primary key result being invoked.  "
    "Ensure there are no triggers or special driver issues preventing INSERT from functioning "
    "properly."
)
_MANY_LOST: Final = (
    "Multi-row INSERT statement for {} did not produce the correct number of INSERTed rows for "
    "RETURNING.  Ensure there are no triggers or special driver issues preventing INSERT from "
    "functioning properly."
)


def _kind(command: Command) -> tuple[Any, ...]:
    """What SQLAlchemy groups rows by: the columns given, and what has to come back."""
    return set(command[2]), bool(command[5]), command[6], command[7]


def _with(statement: Insert, expressions: Any) -> Insert:
    return statement.values(expressions) if expressions else statement


def _in_order(rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
    return rows if len(rows) < 2 else sorted(rows, key=itemgetter(-1))


def _nothing(seconds: float) -> None:
    """The rows have been told of already."""
