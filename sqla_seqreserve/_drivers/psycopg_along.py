"""Puts BEGIN and COMMIT into the message of a cursor's next statement or script.

psycopg sends BEGIN and waits for its answer before it sends the first statement, and it sends
COMMIT by itself. :func:`travel_along` changes a cursor's class, for one statement, to one that puts
them into one message. For SQLAlchemy nothing changes, neither around ``execute()`` nor in what it
reads from the cursor. psycopg's ``commit()`` then finds the connection idle, and sends nothing.

The private members of ``BaseCursor`` and of its connection were read in psycopg 3.2.0 and 3.3.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from typing import Any, Final

from psycopg import OperationalError
from psycopg._cursor_base import BaseCursor
from psycopg._preparing import Prepare
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import Format, TransactionStatus

from .driver import CommitAlong
from .locking import OUTDATED, UNDO
from .psycopg_prepared import Call, Statements, exchange, refusal_in

_COMMIT: Final = "sqla_seqreserve_commit"
"""The key, in the ``__dict__`` of psycopg's connection, of the COMMIT that is to travel along."""


def travel_along(cursor: Any, commit: CommitAlong | None = None) -> None:
    """Let the cursor's next ``execute()`` begin the transaction in its message, if there is none.

    :param commit: it also commits the transaction.
    """
    if _sends_as_psycopg(cursor):
        cls: Any = type(cursor)
        cursor.__class__ = _with(_Along, cls)
        # Set even if it is None: a cancelled statement may have left another one behind.
        cursor.connection.__dict__[_COMMIT] = commit


def begin_with_script(cursor: Any) -> bool:
    """Let the cursor send no BEGIN before its next ``execute()``, whose text begins with BEGIN.
    Return False if the cursor does not send as psycopg's own does.
    """
    if not _sends_as_psycopg(cursor):
        return False
    cls: Any = type(cursor)
    cursor.__class__ = _with(_Script, cls)
    return True


def _sends_as_psycopg(cursor: Any) -> bool:
    """Whether a cursor sends as psycopg's own. Cursors that bind on the client's side do not."""
    cls: Any = type(cursor)
    return (
        issubclass(cls, BaseCursor)
        and cls._execute_send is BaseCursor._execute_send
        and cls._execute_gen is BaseCursor._execute_gen
    )


class _Along:
    """Executes one statement, after restoring the cursor's own class."""

    __slots__ = ()

    def _execute_gen(
        self: Any,
        query: Any,
        params: Any = None,
        *,
        prepare: bool | None = None,
        binary: bool | None = None,
    ) -> Generator[Any, Any, None]:
        self.__class__ = type(self).__mro__[2]
        connection = self._conn
        pgconn = self._pgconn
        commit: CommitAlong | None = connection.__dict__.pop(_COMMIT, None)
        opens = pgconn.transaction_status == TransactionStatus.IDLE
        if (
            connection.autocommit
            or connection._pipeline
            or self.closed
            or not (opens or commit is not None)
            or (not params and _may_be_script(query))
        ):
            yield from self._execute_gen(query, params, prepare=prepare, binary=binary)
            return
        connection._check_connection_ok()
        self._reset()
        self._last_query = None
        self._tx = Transformer(self)
        self._query = sent = self._convert_query(query, params)
        prepared = connection._prepared
        step, name = prepared.get(sent, prepare)
        statements = Statements(connection)
        ahead = _ahead(connection, statements, commit, opens=opens)
        own: list[Call] = []
        if step is Prepare.SHOULD:
            own.append((_send_prepare, pgconn, name, sent))
        own.append(
            (_send, pgconn, step, name, sent, self.format if binary is None else Format(binary))
        )
        calls = [*ahead, *own]
        if commit is not None:
            calls.append((pgconn.send_query_params, b"COMMIT", None))
        answers: list[list[Any]] = []
        try:
            failure = yield from exchange(connection, calls, answers, times_first=opens)
        except OperationalError:
            if commit is not None:
                commit.is_lost = refusal_in(answers) is None
            raise
        if failure is not None:
            raise failure
        if commit is not None:
            _note_outcome(connection, commit, answers, len(ahead), len(calls) - 1)
            if commit.is_outdated:
                yield from _undo(connection, opens=opens)
                yield from self._execute_gen(query, params, prepare=prepare, binary=binary)
                return
        if commit is None or not commit.is_committed:
            for answer in answers:
                self._check_results(answer)
        results = answers[len(ahead) + len(own) - 1]
        key = prepared.maybe_add_to_cache(sent, step, name)
        if key is not None:
            prepared.validate(key, step, name, results)
        self._set_results(results)
        self._last_query = query
        try:
            yield from statements.keep()
        except OperationalError:
            if commit is not None:
                commit.is_lost = True
            raise


def _ahead(
    connection: Any, statements: Statements, commit: CommitAlong | None, *, opens: bool
) -> list[Call]:
    """Return what the message sends before the statement: BEGIN, and the comparison of facts."""
    calls: list[Call] = []
    if opens:
        begin = connection._get_tx_start_command()
        calls.append((connection.pgconn.send_query_params, begin, None))
    if commit is not None and commit.first is not None:
        calls += statements.comparing(commit.first, opens=opens)
    return calls


def _note_outcome(
    connection: Any, commit: CommitAlong, answers: list[list[Any]], ahead: int, last: int
) -> None:
    """Record whether the COMMIT of a message was executed, and if not, why. A COMMIT that the
    server refused is removed from the answers: the connection's ``commit()`` raises its error.

    :param ahead: the number of answers before those to the statement.
    :param last: the place of the COMMIT's answer.
    """
    refusal = refusal_in(answers)
    if refusal is None:
        commit.is_committed = True
        return
    place, result = refusal
    error = error_from_result(result, connection.info.encoding)
    commit.is_lost = error.sqlstate is None
    commit.is_outdated = place < ahead and error.sqlstate in OUTDATED
    if place == last and not commit.is_lost:
        fail_commit(connection, error)
        answers.pop()


def _send_prepare(pgconn: Any, name: bytes, sent: Any) -> None:
    pgconn.send_prepare(name, sent.query, param_types=sent.types)


def _may_be_script(query: Any) -> bool:
    """Whether a statement without parameters may be several statements, which the extended protocol
    does not accept.
    """
    text = query.encode() if isinstance(query, str) else query
    return not isinstance(text, bytes) or b";" in text.rstrip()[:-1]


def _send(pgconn: Any, step: Prepare, name: bytes, sent: Any, result_format: Any) -> None:
    """Send a statement as psycopg's cursor does."""
    if step is Prepare.NO:
        pgconn.send_query_params(
            sent.query,
            sent.params,
            param_types=sent.types,
            param_formats=sent.formats,
            result_format=result_format,
        )
    else:
        pgconn.send_query_prepared(
            name, sent.params, param_formats=sent.formats, result_format=result_format
        )


def _undo(connection: Any, *, opens: bool) -> Generator[Any, Any, None]:
    """Put the transaction back to its state before the message."""
    for statement in ("ROLLBACK",) if opens else UNDO:
        yield from connection._exec_command(statement.encode())


class _Script:
    """Executes one text that begins with BEGIN, after restoring the cursor's own class."""

    __slots__ = ()

    def _start_query(self: Any, query: Any = None) -> Generator[Any, Any, None]:  # noqa: ARG002  # psycopg's
        self.__class__ = type(self).__mro__[2]
        self._reset()
        self._last_query = None
        self._tx = Transformer(self)
        yield from ()


@cache
def _with(first: Any, cls: Any) -> Any:
    return type(cls.__name__, (first, cls), {"__slots__": ()})


def fail_commit(connection: Any, error: BaseException) -> None:
    """Let the next ``commit()`` of psycopg's connection raise an error. Its COMMIT was already sent
    and refused, so ``commit()`` alone would have nothing to do. A ``rollback()`` before it cancels
    this.
    """
    own = vars(connection)

    def forget() -> None:
        del own["_commit_gen"], own["_rollback_gen"]

    def fail() -> Generator[Any, Any, None]:
        forget()
        raise error
        yield

    def roll_back() -> Generator[Any, Any, None]:
        forget()
        yield from connection._rollback_gen()

    own["_commit_gen"], own["_rollback_gen"] = fail, roll_back
