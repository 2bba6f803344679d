"""The one message that takes ids from sequences: lock, compare, ``nextval``.

Ids come from ``nextval`` over ``generate_series``. Several sequences go at a time, each as a branch
of a ``UNION ALL`` tagged with its slot. Before that, in the same message, the tables are locked as
the later INSERTs will lock them (``ROW EXCLUSIVE``, parents first). From then until the transaction
ends no other session can alter them; and DDL, which locks the table before its sequence, waits and
cannot deadlock. Then the message compares what the facts (``_ids.catalogue``) were read from. If
anything has changed, no branch takes an id, the branches of altered tables yield NULL, and their
facts are read again. The comparison is an uncorrelated subquery, evaluated once per branch and not
once per id.

A key that comes from another default (``gen_random_uuid()``, a function) is a branch that evaluates
this default, after its text was compared too. Its values are in a column of their type next to the
ids; a message of sequences alone has no such column. A default that gives the same value twice
reads the table (``max(id) + 1``), so it must be evaluated row by row: from then on it is left to
INSERT.

A query sees the transaction's snapshot. If that may be older than the lock (REPEATABLE READ and
SERIALIZABLE, once anything has been read), nothing can be compared, and nothing is taken.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, TextClause
from sqlalchemy.exc import DBAPIError

from .. import _audit as audit
from .. import _reasons as why
from .._database import database_of
from .._drivers import Comparison, Driver, LockRefusedError, Row, driver_on, transaction_status
from .._drivers.execution import run_on_driver
from .._reasons import Reason
from .._sqlalchemy.engine import sees_the_present
from .._sqlalchemy.listeners import execution_elsewhere
from ..errors import SequenceExhaustedError
from . import catalogue
from .catalogue import TableFacts
from .keys import KeySequence, check_range
from .reservation_sql import Branch, Guard, column_types, comparison, reservation
from .server import on_this_node
from .table_names import TableName, stored_name

log = logging.getLogger("sqla_seqreserve.reservation")

_MOST_TEXTS: Final = 256

_SEQUENCE_LIMIT_EXCEEDED = "2200H"
_INT4_MAXIMUM: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class IdRequest:
    """The number of ids wanted from the sequence, or the default, of one key column. ``is_kept``:
    the ids are added to ids that were kept before.
    """

    source: KeySequence
    count: int
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """A unique index that was found, and its definition; both are compared to see whether they are
    still true.
    """

    table: str
    oid: int
    definition: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """The result of one message: for each request its ids in ``nextval`` order, as the driver gives
    them, and whether every fact that was sent along is still true. If not, no id of the altered
    tables was taken, and their facts are discarded.
    """

    ids: list[list[Any]]
    holds: bool


def take_ids(
    connection: Connection,
    requests: Sequence[IdRequest],
    whole: Iterable[TableFacts] = (),
    indexes: Sequence[IndexFacts] = (),
    *,
    kept: Sequence[KeySequence] = (),
    order: Iterable[TableName] = (),
) -> Reservation:
    """Take ids, in one message, for every request whose facts are still true.

    :param whole: tables of which all facts must still be true, because rows will be written
        according to them; for the others, only the facts of the key.
    :param indexes: indexes of those tables, to be compared too.
    :param kept: keys of which no id is taken because kept ids are used; their facts must still be
        true too.
    :param order: the order in which the tables are locked; by default, the order of ``whole``.
    :raises SequenceExhaustedError: a sequence has no value left, or its values do not fit the
        column.
    """
    guarded = {facts.name: facts for facts in whole}
    if not (guarded or kept or any(request.count for request in requests)):
        return Reservation([[] for _ in requests], True)
    statement = _Statement(connection, requests, guarded, indexes, kept, order)
    try:
        rows = statement.run()
    except LockRefusedError:
        catalogue.forget(connection, statement.tables)
        return Reservation([[] for _ in requests], False)
    except DBAPIError as error:
        if audit.sqlstate(error) == _SEQUENCE_LIMIT_EXCEEDED:
            raise SequenceExhaustedError(_exhausted(requests)) from error
        if statement.types:
            # A function that a default calls may be dropped, or forbidden, by now.
            catalogue.forget(connection, statement.tables)
        raise
    found: list[list[Any]] = [[] for _ in requests]
    altered: set[str] = set()
    for slot, group in groupby(rows, key=itemgetter(0)):
        taken = list(group)
        if slot < 0:
            # The row of another branch already shows that the table was altered.
            continue
        if None in map(itemgetter(1), taken):
            altered.add(statement.names[slot])
        elif slot < len(requests):
            found[slot] += map(itemgetter(statement.place(slot)), taken)
    catalogue.forget(connection, altered)
    for request, ids in zip(requests, found, strict=True):
        if ids and request.source.default is not None:
            problem = _problem_of(request.source, ids)
            if problem is not None:
                _distrust(connection, request.source, problem)
                return Reservation([[] for _ in requests], False)
        if ids:
            check_range(request.source, ids)
            _tell(request, ids)
    return Reservation(found, not altered)


def comparison_of(
    connection: Connection,
    kept: Sequence[KeySequence],
    numbered: Sequence[tuple[TableFacts, str | None]] = (),
    *,
    is_present: bool,
) -> Comparison:
    """Return what must precede INSERTs with kept keys in their message. No I/O happens.

    :param numbered: tables whose INSERT returns a key, with the column that is numbered; ``None``:
        other columns are compared, too.
    :param is_present: the lock is taken before the transaction has a snapshot.
    """
    statement = _Statement(connection, (), {}, (), kept, numbered=numbered)
    query = comparison(statement.branches, is_present)
    texts = database_of(connection.dialect).comparisons
    sent = texts.get(query)
    if sent is None:
        if len(texts) >= _MOST_TEXTS:
            texts.clear()
        sent = texts[query] = str(query.compile(dialect=connection.dialect))
    return Comparison(statement.locking(), sent, statement.parameters)


def comparison_of_table(
    connection: Connection, facts: TableFacts, column: str | None, *, is_present: bool
) -> Comparison:
    """Return the same for one table that Citus does not manage; made once and kept with the table's
    facts.
    """
    found = facts.comparisons.get((column, is_present))
    if found is None:
        found = comparison_of(connection, (), [(facts, column)], is_present=is_present)
        facts.comparisons[column, is_present] = found
    return found


def _problem_of(source: KeySequence, values: Sequence[Any]) -> Reason | None:
    """Say why INSERT would have stored other values of a default, as far as the values show it."""
    if None in values:
        return why.default_gave(source.origin, "NULL")
    if len(set(values)) < len(values):
        return why.default_gave(source.origin, "one value twice")
    if any(type(value) is str and value.endswith(" ") for value in values):
        # varchar(n) removes them where the text is too long.
        return why.default_gave(source.origin, "a text with spaces at its end")
    return None


def _distrust(connection: Connection, source: KeySequence, problem: Reason) -> None:
    assert source.facts is not None
    assert source.key.column is not None
    column = stored_name(source.key.column.name)
    catalogue.distrust(connection, source.facts, column, problem)


class _Statement:
    """One reservation as SQL."""

    def __init__(
        self,
        connection: Connection,
        requests: Sequence[IdRequest],
        guarded: dict[str, TableFacts],
        indexes: Sequence[IndexFacts],
        kept: Sequence[KeySequence],
        order: Iterable[TableName] = (),
        numbered: Sequence[tuple[TableFacts, str | None]] = (),
    ) -> None:
        self.connection = connection
        self.parameters: dict[str, Any] = {}
        self.names: list[str] = []
        locked = dict(guarded)
        branches: list[Branch] = []
        for slot, request in enumerate(requests):
            facts, sequence = request.source.facts, request.source.sequence
            column, default = request.source.key.column, request.source.default
            assert facts is not None
            assert column is not None
            locked[facts.name] = facts
            known = facts.columns[stored_name(column.name)]
            # A sequence that the model names is looked up by name; one that was found is identified
            # by its oid.
            declared = request.source.key.declared is not None
            expression = type_name = ""
            if default is not None:
                expression, type_name = default.expression, known.type_name
                self.parameters[f"default_{slot}"] = expression
                self.parameters[f"column_{slot}"] = known.name
            else:
                assert sequence is not None
                self.parameters[f"sequence_{slot}"] = sequence.name if declared else sequence.oid
            self.parameters[f"count_{slot}"] = request.count
            # A branch that takes no id has no row to report the result of its comparison.
            if request.count and (facts.name in guarded or facts.kind == "p"):
                guarded.pop(facts.name, None)
                guard = self._guard_table(facts, slot)
            else:
                guard = self._guard_key(facts, known.name, slot)
            self.names.append(facts.name)
            is_kept = request.is_kept and self._guard_file(request.source, slot)
            branches.append(Branch(guard, declared, expression, type_name, is_kept))
        for slot, facts in enumerate(guarded.values(), len(requests)):
            self.names.append(facts.name)
            branches.append(Branch(self._guard_table(facts, slot)))
        for slot, index in enumerate(indexes, len(branches)):
            self.names.append(index.table)
            self.parameters[f"table_{slot}"] = index.table
            self.parameters[f"index_{slot}"] = index.oid
            self.parameters[f"definition_{slot}"] = index.definition
            branches.append(Branch(Guard.INDEX))
        for slot, source in enumerate(kept, len(branches)):
            facts = source.facts
            assert facts is not None
            locked[facts.name] = facts
            self.names.append(facts.name)
            assert source.key.column is not None
            guard = self._guard_row(facts, stored_name(source.key.column.name), slot)
            branches.append(Branch(guard, is_kept=self._guard_file(source, slot)))
        for slot, (facts, column_name) in enumerate(numbered, len(branches)):
            locked[facts.name] = facts
            self.names.append(facts.name)
            branches.append(Branch(self._guard_row(facts, column_name, slot)))
        self.tables = list(dict.fromkeys([*filter(locked.__contains__, order), *locked]))
        self.distributed = any(facts.distributed for facts in locked.values())
        self.branches = tuple(branches)
        self.types = column_types(self.branches)
        self.requests = len(requests)

    def place(self, slot: int) -> int:
        """Return the index of the column, in a result row, that holds the value of this slot."""
        type_name = self.branches[slot].type_name
        return 2 + self.types.index(type_name) if type_name else 1

    def _guard_row(self, facts: TableFacts, column: str | None, slot: int) -> Guard:
        """Return the guard that a row gets its key from this column and nothing else; a partition
        may have triggers.
        """
        if facts.kind == "p" or column is None:
            return self._guard_table(facts, slot)
        return self._guard_key(facts, column, slot)

    def _guard_key(self, facts: TableFacts, column: str, slot: int) -> Guard:
        self.parameters[f"table_{slot}"] = facts.name
        self.parameters[f"column_{slot}"] = column
        self.parameters[f"print_{slot}"] = facts.columns[column].fingerprint
        return Guard.KEY

    def _guard_file(self, source: KeySequence, slot: int) -> bool:
        """Whether the query can compare that the sequence was not restarted."""
        sequence = source.sequence
        if sequence is None or sequence.file is None:
            return False
        self.parameters[f"kept_{slot}"] = sequence.oid
        self.parameters[f"file_{slot}"] = sequence.file
        return True

    def _guard_table(self, facts: TableFacts, slot: int) -> Guard:
        self.parameters[f"table_{slot}"] = facts.name
        self.parameters[f"print_{slot}"] = facts.fingerprint
        if facts.action_fingerprint is None:
            return Guard.TABLE
        self.parameters[f"actions_{slot}"] = facts.action_fingerprint
        return Guard.TABLE_AND_ACTIONS

    def locking(self) -> str:
        """Return the statement that locks the tables as INSERT does."""
        tables = ", ".join(f"ONLY {name}" for name in self.tables)
        locking = f"LOCK TABLE {tables} IN ROW EXCLUSIVE MODE"
        # Anything other than a plain LOCK takes a snapshot, which must not be older than the lock.
        if self.distributed and sees_the_present(self.connection):
            locking = on_this_node(locking)
        return locking

    def run(self) -> Sequence[Row]:
        driver = driver_on(self.connection)
        # Whether the lock is taken before the transaction has a snapshot.
        status = transaction_status(self.connection)
        text = reservation(self.requests, self.branches, status == "idle")
        # If another component executes statements, nothing can be done in place of execute().
        if driver is None or execution_elsewhere(self.connection.dialect) is not None:
            return [tuple(row) for row in self.connection.execute(text, self.parameters)]
        lock: str | None = self.locking()
        if driver.lock_round_trips and status == "autocommit":
            # The lock would end with the statement that takes it.
            lock = None
        return _query(self.connection, driver, lock, text, self.parameters, self.types)


def _query(
    connection: Connection,
    driver: Driver,
    lock: str | None,
    statement: TextClause,
    parameters: dict[str, Any],
    types: Sequence[str],
) -> list[Row]:
    rows: list[Row] = []
    refused: LockRefusedError | None = None
    distance = database_of(connection.dialect).distance

    def query(cursor: Any, sql: str, bound: Any) -> None:
        nonlocal refused
        if distance.is_due():
            driver.time_begin(cursor, distance.note)
        try:
            rows.extend(driver.query(cursor, lock, sql, bound, types))
        except LockRefusedError as error:
            # Not an error of the application's, so its listeners and its log do not see it.
            refused = error

    run_on_driver(connection, statement, parameters, query)
    if refused is not None:
        raise refused
    return rows


def _exhausted(requests: Sequence[IdRequest]) -> str:
    wanted = []
    small = False
    for request in requests:
        sequence, facts = request.source.sequence, request.source.facts
        bounds = "" if sequence is None else f" ({sequence.minimum} to {sequence.maximum})"
        model = request.source.key.mapper.class_.__name__
        wanted.append(f"{request.count} for {model} from {request.source.origin}{bounds}")
        if sequence is not None and facts is not None and facts.distributed:
            small |= sequence.maximum <= _INT4_MAXIMUM
    if small:
        remedy = (
            "Of a distributed table's sequence that is smaller than bigint only the coordinator of "
            "Citus hands out values, and no worker. Insert through the coordinator, or make the "
            "column and its sequence bigint before the table is distributed"
        )
    else:
        remedy = "Alter the sequence's type or bounds"
    return (
        f"A sequence has run out of values. Wanted: {', '.join(wanted)}. Nothing was written. "
        f"{remedy}"
    )


def _tell(request: IdRequest, ids: Sequence[Any]) -> None:
    name, sequence = request.source.key.mapper.class_.__name__, request.source.origin
    audit.emit(
        log,
        logging.INFO,
        "ids_reserved",
        "reserved %d ids for %s from %s",
        len(ids),
        name,
        sequence,
        model=name,
        sequence=sequence,
        count=len(ids),
    )
