"""The interface of drivers: what a driver can put in one message, and how it copies.

A method that talks to the server is called with SQLAlchemy's cursor or the pool's connection, from
inside a statement that SQLAlchemy executes (:mod:`sqla_seqreserve._drivers.execution`). Drivers
with coroutines wait for them in SQLAlchemy's greenlet, so every method here is synchronous.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal, Protocol, TypeAlias

from .._reasons import Reason
from .._routes import Work

Row: TypeAlias = tuple[Any, ...]
TransactionStatus: TypeAlias = Literal["idle", "open", "autocommit"]
"""The state of a connection's transaction: not begun, begun, or one for each statement."""

TypeTable: TypeAlias = Literal["psycopg", "psycopg2", "asyncpg"]
"""The driver whose table says how the values of each type are sent (``_rows``)."""

_BLOCK: Final = 8192


@dataclass(slots=True, eq=False)
class CopyRows:
    """The rows of one COPY: the values of each column, as the driver takes them, with the type oid
    of each column.

    :param oids: the oid of ``bytea`` for a column whose values are already in binary format.
    :param facts: the known facts of the table, which stay equal as long as its columns keep their
        types. ``None``: nothing that was read earlier about the table may be used.
    """

    columns: Sequence[str]
    values: Sequence[Sequence[Any]]
    oids: Sequence[int]
    binary: bool
    progress: Callable[[int], object] | None = None
    facts: object = None

    def __len__(self) -> int:
        return len(self.values[0])

    def blocks(self) -> Iterator[Iterator[Row]]:
        """The rows in blocks of some thousands; ``progress`` is called after each block."""
        rows = zip(*self.values, strict=True)
        for start in range(0, len(self), _BLOCK):
            yield islice(rows, _BLOCK)
            if self.progress is not None:
                self.progress(min(_BLOCK, len(self) - start))


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A condition for executing INSERTs: a lock (``LOCK TABLE``), and a query under it that divides
    by zero if the condition does not hold, with the driver's placeholders and parameters.
    """

    lock: str
    statement: str
    parameters: Mapping[str, Any]
    encoded: dict[str, Any] = field(default_factory=dict)
    """The comparison as the driver sends it, by the connection's encoding. It is kept because the
    comparison of a table is sent again and again.
    """


@dataclass(slots=True, eq=False)
class InsertMessage:
    """One INSERT, UPDATE or DELETE of a message: its text with the driver's placeholders, the
    parameters of each of its rows, and whether each row returns values (RETURNING).

    :param counts: for an UPDATE or DELETE whose rows must match one row of the table each: the name
        of the table as SQL; empty: they may match any number.
    """

    statement: str
    parameters: Sequence[Any]
    returns: bool
    counts: str = ""


@dataclass(slots=True, eq=False)
class Returned:
    """The results of a statement of a message: returned rows, the type oid of each of their
    columns, and how many rows of its table the statement wrote or matched.
    """

    rows: list[Row]
    oids: Sequence[int] = ()
    count: int = 0


class MessageError(Exception):
    """A message failed. It holds which statement the server refused, for which row, and the results
    of the statements before it. Not every driver knows the place: if ``is_certain`` is false, it
    may have been a later statement.
    """

    def __init__(
        self,
        position: int,
        row: int,
        returned: Sequence[Returned] = (),
        *,
        is_certain: bool = True,
    ) -> None:
        super().__init__(position, row)
        self.position = position
        self.row = row
        self.returned = returned
        self.is_certain = is_certain


class CommitRefusedError(Exception):
    """The server executed every statement of a message, and refused the COMMIT after them. The
    connection's next ``commit()`` raises the server's error.
    """

    def __init__(self, returned: Sequence[Returned]) -> None:
        super().__init__()
        self.returned = returned


class LostCommitError(Exception):
    """The connection was lost after a COMMIT was sent: nobody knows whether it arrived."""


@dataclass(slots=True, eq=False)
class CommitAlong:
    """A COMMIT that is to travel with the one statement that a cursor executes, and its outcome.

    :param first: a condition; if it does not hold, the statement is executed by itself, and nothing
        is committed.
    :param is_lost: the connection was lost after the COMMIT was sent.
    """

    first: Comparison | None = None
    is_outdated: bool = False
    is_committed: bool = False
    is_lost: bool = False


class Driver(Protocol):
    """One driver: what it can put in one message, and how it copies."""

    types: TypeTable
    """Which table of :mod:`sqla_seqreserve._rows` lists the values that its COPY writes exactly."""

    copy_round_trips: int
    """The round trips of one COPY."""

    begins_along: bool
    """Whether the BEGIN of a transaction travels with the first statement that is sent here."""

    commits_along: bool
    """Whether the COMMIT of a transaction may travel with the last statements of a message, so that
    the connection's own ``commit()`` has nothing to send.
    """

    takes_scripts: bool
    """Whether several statements without parameters travel in one message (:meth:`script`)."""

    scripts_return: bool
    """Whether the rows of the last statement of a script can be fetched from its cursor."""

    sends_several: bool
    """Whether several INSERTs travel in one message (:meth:`send`)."""

    returns_each: bool
    """Whether every row of a message may return values (RETURNING), and not only the last."""

    gathers_from: float
    """The round trip, in microseconds, from which one message costs less than the statements that
    SQLAlchemy sends one after the other.
    """

    @property
    def times_begin(self) -> bool:
        """Whether the BEGIN's round trip can be timed by itself (:meth:`time_begin`)."""

    lock_round_trips: int
    """Round trips of a lock, in addition to those of the :meth:`query` that it is taken for."""

    executes_each: bool
    """Whether an ``executemany()`` takes one round trip for each row."""

    work: Work
    """The cost of the driver's and the server's work beside round trips."""

    def on(self, connection: Any) -> Driver:
        """The driver below the pool's ``connection``: this one, or a reduced one if the connection
        or its cursors are of a class that is not the driver's own. Does no I/O.
        """

    def transaction_status(self, connection: Any) -> TransactionStatus:
        """Whether the next statement on the pool's ``connection`` begins a transaction."""

    def setting(self, connection: Any, name: str) -> str | None:
        """The value of a setting that the server reports whenever it changes; ``None`` if the
        server does not report it, or the driver does not give it. Does no I/O.
        """

    def refuses_copy(self, connection: Any) -> Reason | None:
        """Why no COPY can be sent now on the pool's ``connection``; ``None`` if one can. Does no
        I/O.
        """

    def refuses_types(self, connection: Any, oids: Iterable[int]) -> Reason | None:
        """Why COPY cannot write columns of these types on the pool's ``connection``; ``None`` if it
        can. Does no I/O.
        """

    def encodes(self, connection: Any, oids: Iterable[int]) -> bool:
        """Whether the driver has, on the pool's ``connection``, its own encoder for parameters of
        one of these types, so that it accepts no text for them. Does no I/O.
        """

    def travel_along(self, cursor: Any, commit: CommitAlong | None = None) -> None:
        """Let the BEGIN of the transaction travel with the statement that SQLAlchemy's ``cursor``
        executes next, if no transaction has begun and if :attr:`begins_along`.

        :param commit: the COMMIT is to travel too, if :attr:`commits_along`.
        """

    def time_begin(self, cursor: Any, took: Callable[[float], object]) -> None:
        """Call ``took`` with the seconds of the round trip of the BEGIN before the next statement
        of SQLAlchemy's ``cursor``. BEGIN waits for no lock, so this is the time of the network.
        Nothing is sent that would not be sent anyway; if that does not show the time, ``took`` is
        not called.
        """

    def query(
        self,
        cursor: Any,
        lock: str | None,
        statement: str,
        parameters: Any,
        types: Sequence[str] = (),
    ) -> list[Row]:
        """Take a lock (``LOCK TABLE``) and run a query, in one message with the BEGIN of the
        transaction if the driver can; return the query's rows.

        :param types: the types of the columns after the first two, which are integers: names as in
            ``pg_type``, for a driver that does not get the types from the server.
        :raises LockRefusedError: the server refused the lock; the transaction is as it was before.
        """

    def script(self, cursor: Any, statements: Sequence[str]) -> None:
        """Execute statements without parameters in one message, on SQLAlchemy's ``cursor``, which
        then has the row count of the last statement.
        """

    def copy(self, cursor: Any, statement: str, rows: CopyRows) -> int:
        """Send rows by ``COPY .. FROM STDIN``; return how many the server stored."""

    def send(
        self,
        connection: Any,
        inserts: Sequence[InsertMessage],
        first: Comparison | None = None,
        *,
        commits: bool = False,
    ) -> list[Returned]:
        """Send statements in one message, with the BEGIN of the transaction; return the results of
        each statement. A statement that cannot be sent ends the message: those before it are
        executed.

        :param connection: the pool's connection.
        :param first: a condition that precedes the statements in the same message.
        :param commits: the COMMIT follows them, if :attr:`commits_along`.
        :raises CommitRefusedError: the server refused the COMMIT, and nothing else.
        :raises LostCommitError: the connection was lost after the COMMIT was sent.
        :raises MessageError: a statement failed; raised from the driver's own error, with its
            place.
        :raises OutdatedError: the condition does not hold.
        """
