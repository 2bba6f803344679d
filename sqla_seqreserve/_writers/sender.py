"""Sends the waiting statements in one message, with their COMMIT if it may travel along, and calls
the listeners for each statement as if it were sent by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

from .._database import known_of
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
from .._drivers.execution import count_message, note_travelled
from .._ids import catalogue
from .._ids.fetch import Wanted, comparison_of, take_ids
from .._ids.keys import KeySequence
from .._ids.server import server_of
from .._ids.table_names import table_name
from .._reasons import Reason
from .._routes import MOST_TIMED, Distance
from .._sqlalchemy.engine import raise_lost_commit
from .._sqlalchemy.unit_of_work import State
from .commit_in_message import UNKNOWN, Numbered, Uncounted, compared_for_commit
from .queued import QueuedStatement

Refused: TypeAlias = Callable[[DBAPIError, Table, Sequence[State], int], None]
"""Called when the server refuses one of these objects, with the mark of its statement."""

_MOST_COUNTED: Final = 32
"""At most this many messages of a transaction take a savepoint: if a transaction has more than 64
subtransactions, every other session of PostgreSQL must look them up.
"""

_counted: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""How many messages of a transaction have taken a savepoint."""


class MessageSender:
    """Sends the statements of one connection in messages.

    ``kept``: kept keys that are compared in the next message. ``committed``: the COMMIT travelled
    with the last message.

    :param refused: called when the server refuses a row.
    """

    def __init__(self, connection: Connection, driver: Driver | None, refused: Refused) -> None:
        self._connection = connection
        self._driver = driver
        self._on_refused = refused
        self.kept: Sequence[KeySequence] = ()
        self.committed = False

    def may_count(self) -> bool:
        """Whether a message of several statements may count the rows of UPDATEs and DELETEs: it
        takes a savepoint for that.
        """
        return _counted.get(self._connection.get_transaction(), 0) < _MOST_COUNTED

    def compare(self) -> None:
        """Compare kept keys in a message of their own, before something else is sent.

        :raises OutdatedError: they are no longer valid.
        """
        kept, self.kept = self.kept, ()
        if not take_ids(self._connection, Wanted((), kept=kept)).holds:
            raise OutdatedError

    def send(
        self, queued: Sequence[QueuedStatement], *, commits: bool
    ) -> Iterator[QueuedStatement]:
        """Send the queued statements. Yield each that was written, with its results.

        Listeners are called for one statement after the other, as if each were sent by itself: for
        the first before the message is sent, for the others when they are known to be executed.
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
                counts = table_name(self._connection, entry.table)
            for statement, parameters in entry.statement.messages():
                messages.append(InsertMessage(statement, parameters, returns, counts))
                places.append(number)
        trips = 1
        if not each:
            # A statement that returns rows ends a message.
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
            # The statement was sent, but the server did not execute it.
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
            note_travelled(entry.statement.context, share)
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
        """Send a message. If the facts that are compared for its COMMIT no longer hold, send it
        again without the COMMIT.
        """
        assert self._driver is not None
        kept, self.kept = self.kept, ()
        numbered: Sequence[Numbered] = () if isinstance(compared, Reason) else compared
        first = None
        if kept or numbered:
            before_snapshot = transaction_status(self._connection) == "idle"
            first = comparison_of(self._connection, kept, numbered, before_snapshot=before_snapshot)
        count_message(self._connection, round_trips)
        pool = self._connection.connection
        try:
            returned = self._driver.send(pool, messages, first, commits=commits)
        except CommitRefusedError as error:
            # commit() raises the error.
            return error.returned
        except MiscountedError:
            count_message(self._connection, round_trips)
            returned = self._driver.send(pool, messages, first if kept else None)
            if all(
                back.count == len(message.parameters)
                for message, back in zip(messages, returned, strict=True)
                if message.counts
            ):
                uncounted = known_of(self._connection.dialect, Uncounted)
                uncounted.update({message.counts for message in messages} - {""})
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
        """Raise the error of a connection that was lost while it may have committed."""
        try:
            raise_lost_commit(self._connection, error)
        except DBAPIError as wrapped:
            wrapped.add_note(UNKNOWN)
            raise

    def note_distance(self, rows: int, round_trips: int, seconds: float) -> None:
        """Use the time of a message of few rows to measure the round trip. Not on Citus, which
        sends rows on to other nodes.
        """
        if rows <= MOST_TIMED and server_of(self._connection).kind != "citus":
            known_of(self._connection.dialect, Distance).note_bound(seconds, round_trips)

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
