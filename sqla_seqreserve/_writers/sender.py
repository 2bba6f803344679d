"""Sends the statements that wait in one message, with their COMMIT where it may travel along, and
tells whoever listens of each as if it were sent by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

from .._database import database_of
from .._drivers import (
    CommitRefusedError,
    Driver,
    InsertMessage,
    LostCommitError,
    MessageError,
    MiscountedError,
    OutdatedError,
    Returned,
    transaction_status,
)
from .._drivers.execution import count_message, tell_travelled
from .._ids import catalogue
from .._ids.fetch import comparison_of, take_ids
from .._ids.keys import KeySequence
from .._ids.server import server_of
from .._reasons import Reason
from .._sqlalchemy.engine import raise_lost_commit
from .._sqlalchemy.unit_of_work import State
from .commit_in_message import UNKNOWN, Numbered, compared_for_commit
from .queued import QueuedStatement

Refused: TypeAlias = Callable[[DBAPIError, Table, Sequence[State], int], None]
"""Is told that the server refused one of these objects, and the mark of its statement."""

_FEW: Final = 5
"""A message of so many rows takes little work beside its round trip."""

_MOST_COUNTED: Final = 32
"""So many messages of a transaction may take a savepoint: of a transaction with more than 64
subtransactions PostgreSQL has every other session look them up.
"""

_counted: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""How many messages of a transaction have taken one."""


class MessageSender:
    """Sends the statements of one connection in messages.

    ``kept``: keys that were kept, and are compared in the next message. ``committed``: the COMMIT
    travelled with the last one.

    :param refused: is told of a refusal.
    """

    def __init__(self, connection: Connection, driver: Driver | None, refused: Refused) -> None:
        self._connection = connection
        self._driver = driver
        self._on_refused = refused
        self.kept: Sequence[KeySequence] = ()
        self.committed = False

    def may_count(self) -> bool:
        """Whether rows of UPDATEs and DELETEs may be counted in a message of several."""
        return _counted.get(self._connection.get_transaction(), 0) < _MOST_COUNTED

    def compare(self) -> None:
        """Compare kept keys by themselves, for something else is about to be sent.

        :raises OutdatedError: they are no longer good.
        """
        kept, self.kept = self.kept, ()
        if not take_ids(self._connection, (), kept=kept).holds:
            raise OutdatedError

    def send(
        self, queued: Sequence[QueuedStatement], *, commits: bool
    ) -> Iterator[QueuedStatement]:
        """Send the queued; yield each that was written, with what it brought back.

        Listeners hear of one statement after the other, as if each were sent by itself: of the
        first before the message is sent, of the others once it is known that they were executed.
        """
        assert self._driver is not None
        each = self._driver.returns_each
        messages: list[InsertMessage] = []
        places: list[int] = []
        queued[0].statement.begin()
        compared = compared_for_commit(self._connection, queued) if commits else ()
        commits = commits and not isinstance(compared, Reason)
        for number, entry in enumerate(queued):
            returns, counts = bool(entry.statement.returning), ""
            if entry.is_counted and not returns and (commits or not each):
                counts = catalogue.table_name(self._connection, entry.table)
            for statement, parameters in entry.statement.messages():
                messages.append(InsertMessage(statement, parameters, returns, counts))
                places.append(number)
        trips = 1
        if not each:
            # What returns ends a message.
            trips = sum(message.returns for message in messages) + (not messages[-1].returns)
        rows = sum(len(message.parameters) for message in messages)
        if rows > 1 and any(message.counts for message in messages):
            transaction = self._connection.get_transaction()
            _counted[transaction] = _counted.get(transaction, 0) + 1
        started = time.perf_counter()
        refusal: MessageError | None = None
        returned: Sequence[Returned] = ()
        try:
            returned = self._send_messages(messages, trips, compared, commits=commits)
        except OutdatedError:
            # It was sent, and not carried out.
            queued[0].statement.end()
            raise
        except MessageError as error:
            refusal, returned = error, error.returned
        except LostCommitError as error:
            self._raise_lost(error.__cause__ or error)
        except BaseException as error:
            queued[0].statement.raise_error(error)
        self.note_distance(rows, trips, time.perf_counter() - started)
        failed = len(queued) if refusal is None else places[refusal.position]
        share = (time.perf_counter() - started) / len(queued)
        for number, back in zip(places, returned, strict=False):
            queued[number].returned.append(back)
        for number, entry in enumerate(queued[:failed]):
            if number:
                entry.statement.begin()
            entry.statement.end()
            tell_travelled(entry.statement.context, share)
            # Nothing was sent if a driver could not write a value: there is nothing to keep.
            if entry.end <= failed and (entry.returned or not entry.statement.returning):
                yield entry
        if refusal is not None:
            if failed:
                queued[failed].statement.begin()
            self._refused(queued[failed], messages[refusal.position], refusal)

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
        kept, self.kept = self.kept, ()
        numbered: Sequence[Numbered] = () if isinstance(compared, Reason) else compared
        first = None
        if kept or numbered:
            is_present = transaction_status(self._connection) == "idle"
            first = comparison_of(self._connection, kept, numbered, is_present=is_present)
        count_message(self._connection, round_trips)
        pool = self._connection.connection
        try:
            returned = self._driver.send(pool, messages, first, commits=commits)
        except CommitRefusedError as error:
            # commit() says so.
            return error.returned
        except MiscountedError:
            count_message(self._connection, round_trips)
            returned = self._driver.send(pool, messages, first if kept else None)
            if all(
                back.count == len(message.parameters)
                for message, back in zip(messages, returned, strict=True)
                if message.counts
            ):
                database = database_of(self._connection.dialect)
                database.uncounted.update({message.counts for message in messages} - {""})
            return returned
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

    def note_distance(self, rows: int, round_trips: int, seconds: float) -> None:
        """Take few rows for a round trip; not on Citus, where they go on to other nodes."""
        if rows <= _FEW and server_of(self._connection).kind != "citus":
            database_of(self._connection.dialect).distance.note_bound(seconds, round_trips)

    def _refused(self, entry: QueuedStatement, message: InsertMessage, error: MessageError) -> None:
        states = list(entry.states)
        if not error.is_certain:
            states = []
        elif len(message.parameters) == len(states):
            states = [states[error.row]]
        cause = error.__cause__
        assert cause is not None
        try:
            entry.statement.raise_error(cause)
        except DBAPIError as wrapped:
            self._on_refused(wrapped, entry.table, states, entry.mark)
            raise
