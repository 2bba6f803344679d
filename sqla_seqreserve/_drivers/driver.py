"""The seam for drivers: what one can put in one message, and how it copies.

A method that talks to the server is called with the driver's own cursor or connection, from inside
a statement that SQLAlchemy executes (:mod:`sqla_seqreserve._drivers.execution`). Drivers with
coroutines wait for them in SQLAlchemy's greenlet, so every method here is an ordinary one.
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
"""A connection's transaction: not begun, begun, or each statement one of its own."""

TypeTable: TypeAlias = Literal["psycopg", "text", "asyncpg"]

_BLOCK: Final = 8192


@dataclass(slots=True, eq=False)
class CopyRows:
    """The rows of one COPY: values per column, as the driver takes them, with the type oid of each
    column.

    :param oids: ``bytea`` where the values are the column's binary format.
    :param facts: what is known of the table; equal for as long as its columns have the types that
        they have. ``None``: nothing that was read of it earlier may be used.
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
        """The rows in blocks of some thousands, each reported to ``progress`` when it was taken."""
        rows = zip(*self.values, strict=True)
        for start in range(0, len(self), _BLOCK):
            yield islice(rows, _BLOCK)
            if self.progress is not None:
                self.progress(min(_BLOCK, len(self) - start))


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What must hold for INSERTs to be carried out: a lock (``LOCK TABLE``), and a query under it
    that divides by zero where it does not hold, with the driver's placeholders and parameters.
    """

    lock: str
    statement: str
    parameters: Mapping[str, Any]
    encoded: dict[str, Any] = field(default_factory=dict)
    """What a driver has made of it to be sent, by the encoding: a table's is sent again."""


@dataclass(slots=True, eq=False)
class InsertMessage:
    """One INSERT, UPDATE or DELETE of a message: its text with the driver's placeholders, the
    parameters of each of its rows, and whether each row comes back with values (RETURNING).

    :param counts: the name, as SQL, of a table of which each row of an UPDATE or DELETE is to match
        one row; empty: it may match any number.
    """

    statement: str
    parameters: Sequence[Any]
    returns: bool
    counts: str = ""


@dataclass(slots=True, eq=False)
class Returned:
    """What a statement of a message brought back: rows, the type oid of each of their columns, and
    how many rows of its table it concerned.
    """

    rows: list[Row]
    oids: Sequence[int] = ()
    count: int = 0


class MessageError(Exception):
    """A message failed: which of its statements the server refused, for which row, and what came
    back of those before it. Not every driver is told: ``is_certain`` says whether it may have been
    a later one instead.
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
    """The server carried out every statement of a message, and refused the COMMIT behind them. The
    connection's next ``commit()`` raises what it said.
    """

    def __init__(self, returned: Sequence[Returned]) -> None:
        super().__init__()
        self.returned = returned


class LostCommitError(Exception):
    """The connection was lost when a COMMIT was on its way: nobody knows whether it arrived."""


@dataclass(slots=True, eq=False)
class CommitAlong:
    """A COMMIT that is to travel with the one statement that a cursor executes, and what became of
    it.

    :param first: must hold, else the statement is executed by itself, and nothing is committed.
    :param is_lost: the connection was lost when it was on its way.
    """

    first: Comparison | None = None
    is_outdated: bool = False
    is_committed: bool = False
    is_lost: bool = False


class Driver(Protocol):
    """One driver: what it can put in one message, and how it copies."""

    types: TypeTable
    """Which table of :mod:`sqla_seqreserve._rows` says what values its COPY writes exactly."""

    copy_round_trips: int
    """How many round trips one COPY takes."""

    begins_along: bool
    """Whether the BEGIN of a transaction travels with the first statement that is sent here."""

    commits_along: bool
    """Whether the COMMIT of a transaction may travel with the last statements of a message, so that
    the connection's own ``commit()`` finds nothing to do.
    """

    takes_scripts: bool
    """Whether several statements without parameters travel in one message (:meth:`script`)."""

    scripts_return: bool
    """Whether the rows of the last statement of a script can be fetched from its cursor."""

    sends_several: bool
    """Whether several INSERTs travel in one message (:meth:`send`)."""

    returns_each: bool
    """Whether each row of a message may bring values back (RETURNING), not the last alone."""

    gathers_from: float
    """From how many microseconds of a round trip it is cheaper to send what SQLAlchemy sends one
    after the other in one message.
    """

    @property
    def times_begin(self) -> bool:
        """Whether the BEGIN's round trip can be timed by itself (:meth:`time_begin`)."""

    lock_round_trips: int
    """Round trips of a lock beside those of the :meth:`query` that it is taken for."""

    executes_each: bool
    """Whether an ``executemany()`` takes a round trip a row."""

    work: Work
    """What it takes beside round trips."""

    def on(self, connection: Any) -> Driver:
        """The driver as it is below the pool's ``connection``: this one, or what is left of it
        where the connection or its cursors are of a class that is not the driver's own. No I/O
        happens.
        """

    def transaction_status(self, connection: Any) -> TransactionStatus:
        """Whether the next statement on the pool's ``connection`` begins a transaction."""

    def setting(self, connection: Any, name: str) -> str | None:
        """The value of a setting that the server reports whenever it changes; ``None`` where it
        does not, or where the driver keeps it to itself. No I/O happens.
        """

    def refuses_copy(self, connection: Any) -> Reason | None:
        """Why no COPY can be sent just now on the pool's ``connection``, ``None`` if one can. No
        I/O happens.
        """

    def refuses_types(self, connection: Any, oids: Iterable[int]) -> Reason | None:
        """Why SQLAlchemy's ``connection`` cannot be given a COPY into columns of these types,
        ``None`` if it can. No I/O happens.
        """

    def encodes(self, connection: Any, oids: Iterable[int]) -> bool:
        """Whether the driver has, on SQLAlchemy's ``connection``, an encoder of its own for
        parameters of one of these types, so that it takes no text for them. No I/O happens.
        """

    def travel_along(self, cursor: Any, commit: CommitAlong | None = None) -> None:
        """Have the BEGIN of the transaction travel with what SQLAlchemy's ``cursor`` executes next,
        if there is none yet and if :attr:`begins_along`.

        :param commit: the COMMIT is to travel, too, if :attr:`commits_along`.
        """

    def time_begin(self, cursor: Any, took: Callable[[float], object]) -> None:
        """Call ``took`` with the seconds of the round trip of the BEGIN that comes before what
        SQLAlchemy's ``cursor`` sends next. BEGIN waits for no lock, so that this is what the
        network takes. Nothing is sent for it that would not be sent anyway; where that does not
        show the time, ``took`` is not called.
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
        transaction where the driver can; return the query's rows.

        :param types: of the columns behind the first two, which are whole numbers: names as in
            ``pg_type``, for a driver that is not told by the server.
        :raises LockRefusedError: the lock was not to be had; the transaction is as it was before.
        """

    def script(self, cursor: Any, statements: Sequence[str]) -> None:
        """Execute statements that take no parameters in one message, on SQLAlchemy's ``cursor``,
        which then has the row count of the last.
        """

    def copy(self, cursor: Any, statement: str, rows: CopyRows) -> int:
        """Send rows by ``COPY .. FROM STDIN``; return how many the server took."""

    def send(
        self,
        connection: Any,
        inserts: Sequence[InsertMessage],
        first: Comparison | None = None,
        *,
        commits: bool = False,
    ) -> list[Returned]:
        """Send statements in one message, the BEGIN of the transaction included; return per
        statement what came back. One that cannot be sent ends the message: those before it are
        executed.

        :param connection: the pool's.
        :param first: goes before them in the same message.
        :param commits: the COMMIT goes behind them, where :attr:`commits_along`.
        :raises CommitRefusedError: that was refused, and nothing else.
        :raises LostCommitError: the connection was lost meanwhile.
        :raises MessageError: from the driver's own error, with its place.
        :raises OutdatedError: what goes first does not hold.
        """
