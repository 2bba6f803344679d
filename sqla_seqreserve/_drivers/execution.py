"""Runs driver functions beyond ``execute()`` as a statement of SQLAlchemy's connection.

SQLAlchemy executes the statement, and a listener of the ``do_execute`` event replaces the driver's
``execute()``. So engine events fire, echo logs, errors are wrapped and ``handle_error`` runs as for
any statement. The listener finds its job in the execution options, and does nothing for other
statements.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from sqlalchemy import Connection, Dialect, TextClause, event
from sqlalchemy.engine.interfaces import DBAPICursor, ExecutionContext
from sqlalchemy.orm import Mapper, Session

from .._database import known_of
from .._reasons import IN_PAGES, Reason
from .._sqlalchemy.contexts import bind_quickly
from .._sqlalchemy.listeners import OURS, statements_stay
from .._sqlalchemy.pages import Whole, hand_over_pages
from .._sqlalchemy.rows_of_insert import Alike, make_rows_alike
from .._sqlalchemy.rows_of_update import collect_updates_quickly
from .._sqlalchemy.statement_classes import Rows
from . import CommitAlong, TransactionStatus, driver_on

_OPTION: Final = "sqla_seqreserve_job"

Job: TypeAlias = Callable[[Any, str, Any], None]
"""A function called in place of ``execute()``, with SQLAlchemy's cursor, the statement and its
parameters.
"""

Took: TypeAlias = Callable[[float], object] | None
"""Called with the seconds of a round trip; ``None`` if nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Many:
    """The outcome of a statement for many rows.

    :param round_trips: the round trips that it took; 0: it was not executed.
    :param reason: why the rows did not travel together; ``None``: they did, or nobody tried.
    """

    round_trips: int
    reason: Reason | None = None


class WriteMany(Protocol):
    """Called to execute a statement for many rows."""

    def __call__(
        self, cursor: Any, statement: str, parameters: Any, context: ExecutionContext
    ) -> Many: ...

    def takes_whole(self, context: Any) -> bool:
        """Whether it may execute an INSERT at once that SQLAlchemy would send in pages."""

    @property
    def alike(self) -> Alike:
        """Returns the rows of an INSERT, changed so that they are one statement."""


class Listener(Protocol):
    """Called for each statement that is executed on certain connections."""

    def listens_to(self, context: ExecutionContext) -> bool: ...

    def executed(self, context: ExecutionContext, seconds: float) -> None: ...

    def executed_many(self, context: ExecutionContext, many: Many, seconds: float) -> None: ...

    def travelled(self, context: ExecutionContext, seconds: float) -> None: ...

    def sent(self, round_trips: int) -> None: ...


Commits: TypeAlias = Callable[[ExecutionContext, Any, TransactionStatus], CommitAlong | None] | None
"""Returns the COMMIT that is to travel with a statement, if there is one. It is called with the
context, the parameters that are about to be sent, and the status of the transaction.
"""

# Keys in a connection's own __dict__, which is read before each of its statements. A
# WeakKeyDictionary is slower, with methods in Python, and the first value leads to the connection.
_BEGINNING: Final = "sqla_seqreserve_beginning"
_WRITING: Final = "sqla_seqreserve_writing"

_lock = threading.Lock()

_listening: ContextVar[object] = ContextVar("sqla_seqreserve_listening", default=None)
_listeners: dict[object, Listener] = {}
"""One entry for each running block of :func:`listened_to_by`; if empty, there is no listener."""


def run_on_driver(
    connection: Connection, statement: str | TextClause, parameters: Mapping[str, Any], job: Job
) -> None:
    """Execute ``statement`` with ``job`` in place of the driver's ``execute()``.

    :param statement: SQL as the driver takes it, or a ``text()``.
    :raises sqlalchemy.exc.DBAPIError: the driver's error, wrapped as SQLAlchemy wraps it.
    """
    listen(connection.dialect)
    # The connection may ask for a server-side cursor, which cannot do everything.
    options = {_OPTION: job, "stream_results": False, "yield_per": None}
    if isinstance(statement, str):
        connection.exec_driver_sql(statement, dict(parameters), execution_options=options)
    else:
        connection.execute(statement, parameters, execution_options=options)


def write_many_by(connection: Connection, write: WriteMany | None) -> None:
    """Let ``write`` execute the statements for many rows on the connection, if it can."""
    if write is None:
        connection.__dict__.pop(_WRITING, None)
        connection.__dict__.pop(_BEGINNING, None)
        return
    listen(connection.dialect)
    connection.__dict__[_WRITING] = write


class _Beginning(NamedTuple):
    """What :func:`begin_along` and :func:`commit_along` ask of the next statement."""

    took: Took = None
    times_statement: bool = False
    commits: Commits = None


def begin_along(connection: Connection, took: Took, *, times_statement: bool = False) -> None:
    """Let the BEGIN of a transaction travel with the next statement of the connection, if its
    driver can.

    :param took: called with the time of the BEGIN.
    :param times_statement: ``took`` gets the time of the statement instead, with locks that it
        waits for.
    """
    _ask_next(connection, _Beginning(took, times_statement))


def time_no_begin(connection: Connection) -> None:
    """Do not measure the time of the next BEGIN, if :func:`begin_along` asked for that."""
    beginning = connection.__dict__.get(_BEGINNING)
    if beginning is not None:
        connection.__dict__[_BEGINNING] = _Beginning(commits=beginning.commits)


def commit_along(connection: Connection, commits: Commits) -> None:
    """Let the next statement of the connection ask ``commits`` whether the COMMIT travels with it
    too. A ``took`` that :func:`begin_along` has set stays.
    """
    beginning: _Beginning = connection.__dict__.get(_BEGINNING) or _Beginning()
    _ask_next(connection, beginning._replace(commits=commits))


def _ask_next(connection: Connection, beginning: _Beginning) -> None:
    listen(connection.dialect)
    if len(connection.dialect.dispatch.do_execute) == 1:
        # With another listener, that one may execute the statement, and ours would not be called.
        connection.__dict__[_BEGINNING] = beginning


class _Heard:
    """Whether an engine's dialect calls our listeners before it sends a statement."""

    is_heard = False


def listen(dialect: Dialect) -> None:
    """Register our listeners on the dialect, once."""
    if not (heard := known_of(dialect, _Heard)).is_heard:
        with _lock:
            if not heard.is_heard:
                OURS.update((_do_execute, _do_executemany))
                event.listen(dialect, "do_execute", _do_execute)
                event.listen(dialect, "do_executemany", _do_executemany)
                hand_over_pages(dialect, _takes_whole)
                bind_quickly(dialect)
                heard.is_heard = True


@contextmanager
def listened_to_by(listener: Listener) -> Iterator[None]:
    """Call a listener for the statements that this task, or thread, executes in the block."""
    # The context does not hold the listener itself, which leads to the session: asyncio keeps a
    # context as long as a connection that was opened in it.
    member = object()
    token = _listening.set(member)
    _listeners[member] = listener
    try:
        yield
    finally:
        del _listeners[member]
        _listening.reset(token)


def _listening_to(context: ExecutionContext) -> Listener | None:
    listener = _listeners.get(_listening.get())
    return listener if listener is not None and listener.listens_to(context) else None


def count_message(connection: Connection, round_trips: int) -> None:
    """Call the listener for a message that is about to be sent without SQLAlchemy's cursors."""
    if _listeners and (listener := _listeners.get(_listening.get())) is not None:
        listener.sent(round_trips + _begins_apart(connection))


def note_travelled(context: ExecutionContext, seconds: float) -> None:
    """Call the listener for a statement that was executed in a message of several."""
    if _listeners and (listener := _listening_to(context)) is not None:
        listener.travelled(context, seconds)


def _begins_apart(connection: Connection, *, by_cursor: bool = False) -> int:
    """The round trips of a BEGIN that is about to be sent by itself: 1, or 0 if none is.

    :param by_cursor: SQLAlchemy's cursor executes the next statement. The BEGIN travels with that
        only after :func:`begin_along`.
    """
    driver = driver_on(connection)
    if driver is None or driver.transaction_status(connection.connection) != "idle":
        return 0
    is_asked_for = not by_cursor or _BEGINNING in connection.__dict__
    return 0 if driver.begins_along and is_asked_for else 1


def _do_executemany(
    cursor: DBAPICursor, statement: str, parameters: Any, context: ExecutionContext
) -> bool | None:
    write = context.root_connection.__dict__.get(_WRITING)
    if _listeners and (listener := _listening_to(context)) is not None:
        return _execute_many_timed(listener, write, cursor, statement, parameters, context)
    if write is not None and write(cursor, statement, parameters, context).round_trips:
        return True
    return None


def execute_rows_quickly() -> None:
    """Let SQLAlchemy call a connection's :meth:`WriteMany.alike` for the rows of an INSERT, and
    collect uniform rows of an INSERT or UPDATE without a look at each.
    """
    make_rows_alike(_alike, _is_written)
    collect_updates_quickly(_is_written)


def _is_written(connection: Connection) -> bool:
    return connection.__dict__.get(_WRITING) is not None


def _alike(
    session: Session, connection: Connection, mapper: Mapper[Any], rows: Rows, *, returns: bool
) -> Rows | None:
    write: WriteMany = connection.__dict__[_WRITING]
    return write.alike(session, connection, mapper, rows, returns=returns)


def _takes_whole(context: Any) -> bool:
    connection = context.root_connection
    write = connection.__dict__.get(_WRITING)
    if write is None or not write.takes_whole(context):
        return False
    beginning = connection.__dict__.get(_BEGINNING)
    if beginning is not None and beginning.commits is not None:
        # The COMMIT is to travel with SQLAlchemy's own statement, which saves two round trips.
        return False
    return statements_stay(connection)


def _do_whole(cursor: DBAPICursor, statement: str, whole: Whole, context: ExecutionContext) -> Many:
    """Execute an INSERT that SQLAlchemy would send in pages at once, or send the pages."""
    write = context.root_connection.__dict__.get(_WRITING)
    many = Many(0) if write is None else write(cursor, statement, whole, context)
    if not many.round_trips:
        return Many(whole.send_in_pages(cursor), many.reason or IN_PAGES)
    whole.collect(cursor)
    return many


def _execute_many_timed(
    listener: Listener,
    write: WriteMany | None,
    cursor: DBAPICursor,
    statement: str,
    parameters: Any,
    context: ExecutionContext,
) -> bool | None:
    """Execute a statement for many rows, and call the listener with the time that it took."""
    listener.sent(_begins_apart(context.root_connection))
    started = time.perf_counter()
    many = Many(0) if write is None else write(cursor, statement, parameters, context)
    done = bool(many.round_trips)
    if not done and len(context.dialect.dispatch.do_executemany) == 1:
        context.dialect.do_executemany(cursor, statement, parameters, context)
        done = True
    listener.executed_many(context, many, time.perf_counter() - started if done else 0.0)
    return done or None


def _execute_timed(
    listener: Listener,
    cursor: DBAPICursor,
    statement: str,
    parameters: Any,
    context: ExecutionContext,
) -> bool | None:
    """Execute one statement, and call the listener with the time that it took."""
    connection = context.root_connection
    job: Job | None = context.execution_options.get(_OPTION)
    listener.sent(_begins_apart(connection, by_cursor=job is None))
    started = time.perf_counter()
    done = None
    if job is not None:
        job(cursor, statement, parameters)
        done = True
    elif _BEGINNING in connection.__dict__:
        done = _execute_beginning(cursor, statement, parameters, context)
    if not done and len(context.dialect.dispatch.do_execute) == 1:
        context.dialect.do_execute(cursor, statement, parameters, context)
        done = True
    # If there are other listeners, one of them may execute it.
    listener.executed(context, time.perf_counter() - started if done else 0.0)
    return done


def _execute_beginning(
    cursor: DBAPICursor, statement: str, parameters: Any, context: ExecutionContext
) -> bool | None:
    """Execute a statement with which BEGIN, or COMMIT, travels if the driver can do that."""
    connection = context.root_connection
    took, times_statement, commits = connection.__dict__.pop(_BEGINNING)
    driver = driver_on(connection)
    if driver is not None:
        commit = None
        if commits is not None:
            status = driver.transaction_status(connection.connection)
            commit = commits(context, parameters, status)
        driver.travel_along(cursor, commit)
        if took is not None and not times_statement:
            driver.time_begin(cursor, took)
    if took is None or not times_statement or len(context.dialect.dispatch.do_execute) > 1:
        # Nobody asks for the time, or another listener may want to see the statement.
        return None
    started = time.perf_counter()
    context.dialect.do_execute(cursor, statement, parameters, context)
    took(time.perf_counter() - started)
    return True


def _do_execute(
    cursor: DBAPICursor, statement: str, parameters: Any, context: ExecutionContext
) -> bool | None:
    listener = _listening_to(context) if _listeners else None
    if type(parameters) is Whole:
        started = time.perf_counter()
        if listener is not None:
            listener.sent(_begins_apart(context.root_connection))
        many = _do_whole(cursor, statement, parameters, context)
        if listener is not None:
            listener.executed_many(context, many, time.perf_counter() - started)
        return True
    if listener is not None:
        return _execute_timed(listener, cursor, statement, parameters, context)
    job: Job | None = context.execution_options.get(_OPTION)
    if job is None:
        if _BEGINNING in context.root_connection.__dict__:
            return _execute_beginning(cursor, statement, parameters, context)
        return None
    job(cursor, statement, parameters)
    return True
