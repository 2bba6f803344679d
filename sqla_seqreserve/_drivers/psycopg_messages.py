"""Messages that psycopg's cursors do not send: a lock before a query, several statements at once.

They are made below ``psycopg.Connection``, with its ``pgconn`` and the generators that it uses
itself: on a local server, entering and leaving ``connection.pipeline()`` costs more than it saves.
psycopg's code was read in versions 3.2.0 and 3.3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any, Final

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
from .psycopg_prepared import Statements, finish_queued, leave_pipeline, numbered, query_prepared
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


_FIRST: Final = (-1, 0)  # the place of the comparison before the statements
_RULES: Final = (-2, 0)  # the place of the query for rules after them
_COMMIT: Final = (-3, 0)  # the place of the COMMIT


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
    pgconn, encoding = driver.pgconn, driver.info.encoding
    places: list[tuple[int, int] | None] = []
    commands: list[tuple[Any, ...]] = []
    opens = is_idle(driver)
    if opens:
        commands.append((pgconn.send_query_params, begin_of(driver).encode(), None))
        places.append(None)
    counted = {insert.counts for insert in inserts} - {""} if commits else set[str]()
    if counted and not opens:
        commands.append((pgconn.send_query_params, BEGIN_COUNTING.encode(), None))
        places.append(None)
    often = Counter[str]()
    for insert in inserts:
        often[insert.statement] += len(insert.parameters)
    statements = Statements(driver)
    dumping = Transformer(driver)
    if first is not None:
        calls = statements.comparing(first, opens=opens)
        commands += calls
        places += [_FIRST] * len(calls)
    # All values are dumped before anything is sent. A value that cannot be dumped is refused here,
    # and the statements before it are sent, as they would be one by one.
    refused: tuple[int, int, Exception] | None = None
    for position, insert in enumerate(inserts):
        statement = insert.statement
        if counted and insert.counts:
            before, behind = COUNTED
            statement = before + statement + behind
        text, names = numbered(statement, encoding)
        formats = [PyFormat.AUTO] * len(names)
        many = often[insert.statement] > 1
        for row, parameters in enumerate(insert.parameters):
            try:
                values = dumping.dump_sequence([parameters[name] for name in names], formats)
            except Exception as error:
                refused = position, row, error
                break
            types = dumping.types or ()
            calls = statements.commands(text, values, types, dumping.formats, many=many)
            commands += calls
            places += [(position, row)] * len(calls)
        if refused is not None:
            break
    if refused is not None and refused[:2] == (0, 0):
        raise MessageError(0, 0) from refused[2]
    if refused is not None and counted:
        # Nothing was sent yet.
        return (yield from send_message(driver, inserts, first, commits=False))
    commits = commits and refused is None
    if counted:
        rules = without_rules(counted).encode(encoding)
        commands.append((pgconn.send_query_params, rules, None))
        places.append(_RULES)
    if commits:
        commands.append((pgconn.send_query_params, b"COMMIT", None))
        places.append(_COMMIT)
    back = [Returned([]) for _ in inserts]
    failure: tuple[tuple[int, int] | None, Any] | None = None
    loading = Transformer(driver)
    pgconn.enter_pipeline_mode()
    try:
        for queued, (send, *arguments) in enumerate(commands):
            try:
                send(*arguments)
            except Exception as error:
                done = yield from finish_queued(pgconn, queued)
                for place, result in zip(places, done, strict=False):
                    if result.status == ExecStatus.FATAL_ERROR:
                        refusal = error_from_result(result, encoding)
                        raise MessageError(*(place or (0, 0))) from refusal
                raise MessageError(*(places[queued] or (0, 0))) from error
        pgconn.pipeline_sync()
        yield from generators.send(pgconn)
        for place in places:
            for result in (yield from generators.fetch_many(pgconn)):
                if result.status == ExecStatus.TUPLES_OK and place and place[0] >= 0:
                    if counted and inserts[place[0]].counts:
                        back[place[0]].count += 1
                        continue
                    loading.set_pgresult(result)
                    found = back[place[0]]
                    if not found.oids:
                        found.oids = [result.ftype(column) for column in range(result.nfields)]
                    found.rows.extend(loading.load_rows(0, result.ntuples, tuple))
                    found.count += result.ntuples
                elif result.status == ExecStatus.COMMAND_OK and place and place[0] >= 0:
                    back[place[0]].count += result.command_tuples or 0
                elif result.status == ExecStatus.FATAL_ERROR and failure is None:
                    failure = place, error_from_result(result, encoding)
        yield from generators.fetch_many(pgconn)
    except OperationalError as error:
        if commits and failure is None:
            raise LostCommitError from error
        raise
    finally:
        leave_pipeline(pgconn)
    if commits and failure is not None and failure[1].sqlstate is None:
        # The error is libpq's and not the server's: no answer came.
        raise LostCommitError from failure[1]
    if failure is not None and failure[0] is _COMMIT:
        fail_commit(driver, failure[1])
        raise CommitRefusedError(back)
    if failure is None:
        try:
            yield from statements.keep()
        except OperationalError as error:
            if commits:
                raise LostCommitError from error
            raise
        if refused is not None:
            raise MessageError(*refused[:2], back) from refused[2]
    else:
        place, refusal = failure
        if place is _FIRST and refusal.sqlstate in OUTDATED:
            raise OutdatedError from refusal
        if counted and refusal.sqlstate in MISCOUNTED:
            raise MiscountedError from refusal
        raise MessageError(*(place if place and place is not _FIRST else (0, 0)), back) from refusal
    return back
