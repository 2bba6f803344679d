"""Messages that psycopg's cursors do not send: a lock before a query, several statements at once.

They are made below ``psycopg.Connection``, with its ``pgconn`` and the generators that it uses
itself: on a local server, entering and leaving ``connection.pipeline()`` costs more than it saves.
psycopg's code was read in versions 3.2.0 and 3.3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from psycopg import OperationalError, generators
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus

from .driver import (
    CommitRefusedError,
    Comparison,
    InsertMessage,
    LostCommitError,
    MessageError,
    Returned,
    Row,
)
from .locking import (
    LOCK_REFUSED,
    OUTDATED,
    LockRefusedError,
    MiscountedError,
    OutdatedError,
    guarded,
)
from .psycopg_along import fail_commit
from .psycopg_prepared import Call, Statements, exchange, numbered, query_prepared, refusal_in
from .row_counts import BEGIN_COUNTING, COUNTED, MISCOUNTED, without_rules

IDLE: Final = TransactionStatus.IDLE


def is_idle(driver: Any) -> bool:
    """Whether psycopg would begin a transaction before the next statement."""
    return not driver.autocommit and driver.pgconn.transaction_status == IDLE


def begin_of(driver: Any) -> str:
    """The statement with which psycopg begins a transaction of this connection."""
    words = ["BEGIN"]
    if driver.isolation_level is not None:
        words.append(f"ISOLATION LEVEL {driver.isolation_level.name.replace('_', ' ')}")
    if driver.read_only is not None:
        words.append("READ ONLY" if driver.read_only else "READ WRITE")
    if driver.deferrable is not None:
        words.append("DEFERRABLE" if driver.deferrable else "NOT DEFERRABLE")
    return " ".join(words)


def is_alone(driver: Any) -> bool:
    """Whether each message is a transaction of its own."""
    return bool(driver.autocommit) and driver.pgconn.transaction_status == IDLE


def before_query(driver: Any, lock: str | None, opens: bool) -> tuple[list[str], int | None]:
    """The statements before the query, and how many statements of the message have run, or failed,
    when the lock is taken. In an open transaction a savepoint around the lock alone keeps a refused
    lock from failing the transaction; in autocommit the message is a transaction.
    """
    if is_alone(driver):
        assert lock is not None
        return [lock], 1
    if lock is None:
        return [begin_of(driver)], None
    # Several LOCK statements may be in one text.
    place = 2 + lock.count(";")
    return ([begin_of(driver), lock] if opens else [*guarded(lock)]), place


def asking_query(
    driver: Any,
    client: Any,
    before: Sequence[str],
    statement: str,
    parameters: Any,
    locked: int | None,
) -> Generator[Any, Any, list[Row]]:
    """A generator that sends a query after other statements in one message, and loads its rows.

    :param client: the class of cursors that bind on the client's side, for a query that is not
        prepared.
    :param locked: the second value of :func:`before_query`.
    """
    if _prepares(driver, before):
        return query_prepared(driver, before, statement, parameters, locked)
    query = client(driver).mogrify(statement, parameters)
    return simple_query(driver, ";".join([*before, query]), locked)


def _prepares(driver: Any, before: Sequence[str]) -> bool:
    """Whether a repeated query may be prepared: the connection prepares statements, the message is
    part of a transaction, and each text before the query is one statement.
    """
    return (
        driver.prepare_threshold is not None
        and not is_alone(driver)
        and not any(";" in one for one in before)
    )


def simple_query(
    driver: Any, text: str, locked: int | None = None
) -> Generator[Any, Any, list[Row]]:
    """Send one simple query and load the rows of its last statement."""
    pgconn, encoding = driver.pgconn, driver.info.encoding
    pgconn.send_query(text.encode(encoding))
    results = yield from generators.execute(pgconn)
    result = results[-1]
    if result.status == ExecStatus.TUPLES_OK:
        loading = Transformer(driver)
        loading.set_pgresult(result)
        return loading.load_rows(0, result.ntuples, tuple)
    if result.status == ExecStatus.COMMAND_OK:
        return []
    error = error_from_result(result, encoding)
    # There is one result for each statement that succeeded, and one for the statement that failed.
    if locked is not None and len(results) <= locked and error.sqlstate in LOCK_REFUSED:
        raise LockRefusedError from error
    raise error


_BEGIN: Final = (-1, 0)  # the place of the BEGIN or SAVEPOINT of a message
_FIRST: Final = (-2, 0)  # the place of the comparison before the statements
_RULES: Final = (-3, 0)  # the place of the query for rules after them
_COMMIT: Final = (-4, 0)  # the place of the COMMIT


def send_message(
    driver: Any, inserts: Sequence[InsertMessage], first: Comparison | None, *, commits: bool
) -> Generator[Any, Any, list[Returned]]:
    """Send every statement, before them a BEGIN if no transaction has begun, after them the COMMIT
    if it is to travel along, and one sync; then read the results.

    If the COMMIT travels along, the server checks how many rows UPDATEs and DELETEs match.

    :raises CommitRefusedError: the server refused only the COMMIT, and the connection's next
        ``commit()`` raises its error.
    :raises LostCommitError: the connection was lost after the COMMIT was sent.
    """
    message = _Message(driver, inserts, first, commits=commits)
    # All values were dumped before anything is sent. A value that cannot be dumped is refused here,
    # and the statements before it are sent, as they would be one by one.
    unsendable = message.unsendable
    if unsendable is not None and unsendable.place == (0, 0):
        raise MessageError(0, 0) from unsendable.error
    if unsendable is not None and message.counted:
        return (yield from send_message(driver, inserts, first, commits=False))
    answers: list[list[Any]] = []
    try:
        failure = yield from exchange(driver, message.calls, answers)
        if failure is not None:
            message.raise_not_queued(failure, answers)
        refusal = refusal_in(answers)
        if refusal is None:
            yield from message.statements.keep()
    except OperationalError as error:
        if message.commits and refusal_in(answers) is None:
            raise LostCommitError from error
        raise
    back = message.returned(answers)
    if refusal is not None:
        message.raise_refusal(*refusal, back)
    if unsendable is not None:
        raise MessageError(*unsendable.place, back) from unsendable.error
    return back


class _Unsendable(NamedTuple):
    """A row whose values psycopg cannot dump."""

    place: tuple[int, int]
    error: Exception


class _Message:
    """INSERTs, UPDATEs and DELETEs in their bytes, with the statements before and after them.

    ``calls``: the call that queues each statement (:func:`exchange`). ``places``: for each
    statement the position of its :class:`.InsertMessage` and of its row, or one of the places
    above. ``counted``: the tables whose UPDATEs and DELETEs the server checks for the number of
    rows that they match. ``commits``: the COMMIT is the last statement.
    """

    def __init__(
        self,
        driver: Any,
        inserts: Sequence[InsertMessage],
        first: Comparison | None,
        *,
        commits: bool,
    ) -> None:
        self._driver = driver
        self._inserts = inserts
        self.statements = Statements(driver)
        self.calls: list[Call] = []
        self.places: list[tuple[int, int]] = []
        self.counted = {insert.counts for insert in inserts} - {""} if commits else set[str]()
        opens = is_idle(driver)
        if opens:
            self._add_text(begin_of(driver), _BEGIN)
        elif self.counted:
            self._add_text(BEGIN_COUNTING, _BEGIN)
        if first is not None:
            self._add(self.statements.comparing(first, opens=opens), _FIRST)
        self.unsendable = self._add_rows()
        if self.counted:
            self._add_text(without_rules(self.counted), _RULES)
        self.commits = commits and self.unsendable is None
        if self.commits:
            self._add_text("COMMIT", _COMMIT)

    def _add(self, calls: Sequence[Call], place: tuple[int, int]) -> None:
        self.calls += calls
        self.places += [place] * len(calls)

    def _add_text(self, text: str, place: tuple[int, int]) -> None:
        encoded = text.encode(self._driver.info.encoding)
        self._add([(self._driver.pgconn.send_query_params, encoded, None)], place)

    def _add_rows(self) -> _Unsendable | None:
        """Add a statement for each row, up to the first that cannot be dumped."""
        often = Counter[str]()
        for insert in self._inserts:
            often[insert.statement] += len(insert.parameters)
        dumping = Transformer(self._driver)
        for position, insert in enumerate(self._inserts):
            statement = insert.statement
            if self.counted and insert.counts:
                before, behind = COUNTED
                statement = before + statement + behind
            text, names = numbered(statement, self._driver.info.encoding)
            formats = [PyFormat.AUTO] * len(names)
            many = often[insert.statement] > 1
            for row, parameters in enumerate(insert.parameters):
                try:
                    values = dumping.dump_sequence([parameters[name] for name in names], formats)
                except Exception as error:
                    return _Unsendable((position, row), error)
                types = dumping.types or ()
                calls = self.statements.commands(text, values, types, dumping.formats, many=many)
                self.calls += calls
                self.places += [(position, row)] * len(calls)
        return None

    def returned(self, answers: Sequence[Sequence[Any]]) -> list[Returned]:
        """The result of each :class:`.InsertMessage`."""
        back = [Returned([]) for _ in self._inserts]
        loading = Transformer(self._driver)
        for (position, _), answer in zip(self.places, answers, strict=False):
            if position < 0:
                continue
            found = back[position]
            for result in answer:
                if result.status == ExecStatus.COMMAND_OK:
                    found.count += result.command_tuples or 0
                elif result.status != ExecStatus.TUPLES_OK:
                    continue
                elif self.counted and self._inserts[position].counts:
                    found.count += 1
                else:
                    loading.set_pgresult(result)
                    if not found.oids:
                        found.oids = [result.ftype(column) for column in range(result.nfields)]
                    found.rows.extend(loading.load_rows(0, result.ntuples, tuple))
                    found.count += result.ntuples
        return back

    def raise_refusal(self, number: int, result: Any, back: list[Returned]) -> NoReturn:
        """Raise the error that stands for a refusal.

        :param number: the position of the statement that the server refused.
        :param back: the results of the statements before it.
        """
        place = self.places[number]
        error = error_from_result(result, self._driver.info.encoding)
        if self.commits and error.sqlstate is None:
            # The error is libpq's and not the server's: no answer came.
            raise LostCommitError from error
        if place is _COMMIT:
            fail_commit(self._driver, error)
            raise CommitRefusedError(back)
        if place is _FIRST and error.sqlstate in OUTDATED:
            raise OutdatedError from error
        if self.counted and error.sqlstate in MISCOUNTED:
            raise MiscountedError from error
        raise MessageError(*self._row_at(number), back) from error

    def raise_not_queued(self, error: Exception, answers: Sequence[Sequence[Any]]) -> NoReturn:
        """Raise the error of a statement that could not be queued, or of an earlier one that the
        server refused.

        :param answers: the results of the statements before it.
        """
        refusal = refusal_in(answers)
        if refusal is None:
            raise MessageError(*self._row_at(len(answers))) from error
        number, result = refusal
        refused = error_from_result(result, self._driver.info.encoding)
        raise MessageError(*self._row_at(number)) from refused

    def _row_at(self, number: int) -> tuple[int, int]:
        """The row that a statement writes, or the row next to a statement that writes none."""
        place = self.places[number]
        if place is _RULES:
            return self.places[number - 1]
        return place if place[0] >= 0 else (0, 0)
