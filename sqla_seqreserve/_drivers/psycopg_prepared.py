"""Prepares statements in this package's messages as psycopg's own cursor would.

:class:`Statements` prepares the INSERTs of a message when psycopg would prepare them
(``prepare_threshold``), under the same names. An application's flushes are alike, and a statement
that is parsed and planned only once costs the server half.

The private members of ``BaseCursor``, of its connection and of ``PrepareManager`` were read in
psycopg 3.2.0 and 3.3.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from psycopg import OperationalError, generators
from psycopg._preparing import Prepare
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

from .driver import Comparison, Row
from .locking import LOCK_REFUSED, LockRefusedError, guarded

Call: TypeAlias = tuple[Any, ...]
"""A function of libpq that sends a statement, with its arguments."""

_UNKNOWN: Final = 0
"""The oid of a parameter whose type the server determines."""

_TIMED: Final = "sqla_seqreserve_timed"
"""The key, in the ``__dict__`` of psycopg's connection, of the function to call with the time of an
answer.
"""


def time_first(connection: Any, took: Callable[[float], object]) -> None:
    """Time the answer to the first statement of the next message on psycopg's connection: a BEGIN,
    or the SAVEPOINT of a lock, which the server answers before it goes on.
    """
    connection.__dict__[_TIMED] = took


def _timing(connection: Any) -> Callable[[float], object] | None:
    """The function to call with the time of the first answer, if any. Called as soon as the first
    statement of the message is queued.
    """
    took: Callable[[float], object] | None = connection.__dict__.pop(_TIMED, None)
    if took is not None:
        # Otherwise the server keeps the answer until it has all answers.
        connection.pgconn.send_flush_request()
    return took


class _Query(NamedTuple):
    """A statement in the form that ``PrepareManager`` takes."""

    query: bytes
    types: tuple[int, ...]


class Statements:
    """The statements of one message in pipeline mode, prepared when psycopg would prepare them."""

    def __init__(self, connection: Any) -> None:
        self._pgconn = connection.pgconn
        self._connection = connection
        self._steps: dict[_Query, tuple[Prepare, bytes]] = {}
        self._unnamed: _Query | None = None
        self._sent: list[_Query] = []

    def commands(
        self,
        text: bytes,
        values: Sequence[Any],
        types: tuple[int, ...],
        formats: Sequence[Any] | None,
        *,
        many: bool,
    ) -> list[Call]:
        """The calls that execute a statement once: functions with their arguments. Each call has a
        result.

        :param many: the statement is executed more than once in this message.
        """
        pgconn, query = self._pgconn, _Query(text, types)
        self._sent.append(query)
        known = self._steps.get(query)
        step, name = known or self._connection._prepared.get(query)
        if step is Prepare.NO:
            if not many:
                # It replaces the server's unnamed statement.
                self._unnamed = None
                return [(pgconn.send_query_params, text, values, types, formats)]
            execute = (pgconn.send_query_prepared, b"", values, formats)
            if self._unnamed == query:
                return [execute]
            # Unnamed, because it may never come again.
            self._unnamed = query
            return [(pgconn.send_prepare, b"", text, types), execute]
        execute = (pgconn.send_query_prepared, name, values, formats)
        self._steps[query] = step, name
        if known is None and step is Prepare.SHOULD:
            return [(pgconn.send_prepare, name, text, types), execute]
        return [execute]

    def comparing(self, first: Comparison, *, opens: bool) -> list[Call]:
        """The calls that take the lock of a comparison and make the comparison; in an open
        transaction, within a savepoint.

        :param opens: the message begins the transaction.
        """
        encoding = self._pgconn._encoding
        found = first.encoded.get(encoding)
        if found is None:
            found = first.encoded[encoding] = _encoded(first, encoding)
        savepoint, lock, release, text, values, types = found
        compare = self.commands(text, values, types, None, many=False)
        send = self._pgconn.send_query_params
        if opens:
            return [(send, lock, None), *compare]
        return [(send, savepoint, None), (send, lock, None), *compare, (send, release, None)]

    def keep(self) -> Generator[Any, Any, None]:
        """Count the statements as executed, after all were, and deallocate prepared statements
        beyond psycopg's limit.
        """
        prepared = self._connection._prepared
        for query in self._sent:
            step, name = self._steps.pop(query, (Prepare.NO, b""))
            if prepared.maybe_add_to_cache(query, step, name) is not None:
                prepared._rotate()
        yield from prepared.maintain_gen(self._connection)


def _encoded(first: Comparison, encoding: str) -> tuple[Any, ...]:
    """A comparison and its lock as bytes. Its parameters are names and numbers; each is cast in the
    statement or compared with a value that shows its type.
    """
    text, names = numbered(first.statement, encoding)
    values = [str(first.parameters[name]).encode(encoding) for name in names]
    locking = (one.encode(encoding) for one in guarded(first.lock))
    return *locking, text, values, (_UNKNOWN,) * len(values)


def exchange(
    connection: Any,
    calls: Sequence[Call],
    answers: list[list[Any]],
    *,
    times_first: bool = False,
) -> Generator[Any, Any, Exception | None]:
    """Send statements and one sync in a message of pipeline mode, and read their results.

    :param calls: what queues each statement: a method of ``pgconn`` and its arguments.
    :param answers: is extended by the results of each statement; if this fails, by those that came.
    :param times_first: the server answers the first statement before it goes on, so that it tells
        how far the server is (:func:`time_first`).
    :return: what psycopg or libpq raised of a value that it does not take, such as a buffer that
        is not contiguous. The statements before that one were executed, and ``len(answers)`` is its
        position.
    """
    pgconn = connection.pgconn
    took = None
    pgconn.enter_pipeline_mode()
    try:
        for position, (send, *arguments) in enumerate(calls):
            try:
                send(*arguments)
            except Exception as error:
                yield from _sync(pgconn, position, answers, None)
                return error
            if times_first and position == 0:
                took = _timing(connection)
        yield from _sync(pgconn, len(calls), answers, took)
        return None
    except OperationalError:
        # A server that ends the connection says why first, in answer to the first statement.
        if refusal_in(answers) is None:
            raise
        return None
    finally:
        _leave_pipeline(pgconn)


def _sync(
    pgconn: Any,
    statements: int,
    answers: list[list[Any]],
    took: Callable[[float], object] | None,
) -> Generator[Any, Any, None]:
    """End a message of so many statements, and read what the server answers."""
    started = time.perf_counter()
    pgconn.pipeline_sync()
    yield from generators.send(pgconn)
    for position in range(statements):
        answers.append((yield from generators.fetch_many(pgconn)))
        if took is not None and position == 0:
            took(time.perf_counter() - started)
    yield from generators.fetch_many(pgconn)


def _leave_pipeline(pgconn: Any) -> None:
    """Leave pipeline mode. If the message was interrupted and its results are still on their way,
    close the connection: nobody could know which result belongs to which statement.
    """
    try:
        pgconn.exit_pipeline_mode()
    except OperationalError:
        pgconn.finish()


def refusal_in(answers: Sequence[Sequence[Any]]) -> tuple[int, Any] | None:
    """The position of the first statement that the server refused, and its result."""
    for position, answer in enumerate(answers):
        for result in answer:
            if result.status == ExecStatus.FATAL_ERROR:
                return position, result
    return None


@lru_cache(maxsize=1024)
def numbered(statement: str, encoding: str) -> tuple[bytes, tuple[str, ...]]:
    """A statement with psycopg's named placeholders replaced by the protocol's numbered ones, and
    the names of its parameters in the order of these numbers.
    """
    names: list[str] = []
    parts = []
    rest = statement
    while rest:
        before, found, rest = rest.partition("%")
        parts.append(before)
        if found and rest.startswith("%"):
            parts.append("%")
            rest = rest[1:]
        elif found:
            end = rest.index(")s")
            name = rest[1:end]
            if name not in names:
                names.append(name)
            parts.append(f"${names.index(name) + 1}")
            rest = rest[end + 2 :]
    return "".join(parts).encode(encoding), tuple(names)


def query_prepared(
    driver: Any, before: Sequence[str], statement: str, parameters: Any, locked: int | None
) -> Generator[Any, Any, list[Row]]:
    """Send statements and a query in one message, and load the query's rows. The query is prepared
    when psycopg would prepare it: planning a reservation takes the server longer than running it.
    """
    pgconn, encoding = driver.pgconn, driver.info.encoding
    text, names = numbered(statement, encoding)
    converting, statements = Transformer(driver), Statements(driver)
    formats = [PyFormat.AUTO] * len(names)
    values = converting.dump_sequence([parameters[name] for name in names], formats)
    types = converting.types or ()
    calls = statements.commands(text, values, types, converting.formats, many=False)
    calls = [(pgconn.send_query_params, one.encode(encoding), None) for one in before] + calls
    answers: list[list[Any]] = []
    failure = yield from exchange(driver, calls, answers, times_first=bool(before))
    if failure is not None:
        raise failure
    refusal = refusal_in(answers)
    if refusal is not None:
        position, result = refusal
        error = error_from_result(result, encoding)
        if locked is not None and position < locked and error.sqlstate in LOCK_REFUSED:
            raise LockRefusedError from error
        raise error
    yield from statements.keep()
    [*_, result] = answers[-1]
    loading = Transformer(driver)
    loading.set_pgresult(result)
    return loading.load_rows(0, result.ntuples, tuple)
