"""One reservation as SQL: the lock, and the query with its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, TextClause

from .._database import known_of
from .._drivers import Driver, LockRefusedError, Row, driver_on, transaction_status
from .._drivers.execution import run_on_driver
from .._routes import Distance
from .._sqlalchemy.engine import sees_the_present
from .._sqlalchemy.listeners import execution_elsewhere
from .catalogue import TableFacts
from .keys import KeySequence
from .reservation_sql import Branch, Guard, column_types, reservation
from .server import on_this_node
from .table_names import TableName, stored_name


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


class ReservationStatement:
    """One reservation as SQL. It has a branch for each request, then one for each other table,
    index and key to be compared; the number of a branch is its slot.

    :param guarded: the tables of which all facts are compared, by name; those that a request's own
        branch compares are removed.
    :param kept: keys of which no id is taken.
    :param order: the order in which the tables are locked, as far as it names them.
    :param numbered: tables whose INSERT returns a key, with the column that is numbered; ``None``:
        other columns are compared, too.
    """

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
        self.requests = len(requests)
        self.parameters: dict[str, Any] = {}
        self.names: list[str] = []
        """The table of each slot."""
        self._branches: list[Branch] = []
        self._locked = dict(guarded)
        for request in requests:
            self._add_request(request, guarded)
        for facts in guarded.values():
            self._add(facts.name, Branch(self._guard_table(facts)))
        for index in indexes:
            self._add_index(index)
        for source in kept:
            self._add_kept(source)
        for facts, column in numbered:
            self._locked[facts.name] = facts
            self._add(facts.name, Branch(self._guard_row(facts, column)))
        named = filter(self._locked.__contains__, order)
        self.tables = list(dict.fromkeys([*named, *self._locked]))
        self.branches = tuple(self._branches)
        self.types = column_types(self.branches)

    @property
    def _slot(self) -> int:
        """The slot of the next branch."""
        return len(self._branches)

    def _add(self, table: str, branch: Branch) -> None:
        self.names.append(table)
        self._branches.append(branch)

    def _add_request(self, request: IdRequest, guarded: dict[str, TableFacts]) -> None:
        """Take ids for a request, if the facts of its key, or of its table, are still true."""
        slot, source = self._slot, request.source
        facts, sequence = source.facts, source.sequence
        column, default = source.key.column, source.default
        assert facts is not None
        assert column is not None
        self._locked[facts.name] = facts
        known = facts.columns[stored_name(column.name)]
        # A sequence that the model names is looked up by name; one that was found is identified by
        # its oid.
        declared = source.key.declared is not None
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
            guard = self._guard_table(facts)
        else:
            guard = self._guard_key(facts, known.name)
        is_kept = request.is_kept and self._guard_file(source)
        self._add(facts.name, Branch(guard, declared, expression, type_name, is_kept))

    def _add_index(self, index: IndexFacts) -> None:
        """Compare an index."""
        slot = self._slot
        self.parameters[f"table_{slot}"] = index.table
        self.parameters[f"index_{slot}"] = index.oid
        self.parameters[f"definition_{slot}"] = index.definition
        self._add(index.table, Branch(Guard.INDEX))

    def _add_kept(self, source: KeySequence) -> None:
        """Compare a key whose ids were taken before, and that its sequence was not restarted."""
        facts, column = source.facts, source.key.column
        assert facts is not None
        assert column is not None
        self._locked[facts.name] = facts
        guard = self._guard_row(facts, stored_name(column.name))
        self._add(facts.name, Branch(guard, is_kept=self._guard_file(source)))

    def place(self, slot: int) -> int:
        """Return the index of the column, in a result row, that holds the value of this slot."""
        type_name = self.branches[slot].type_name
        return 2 + self.types.index(type_name) if type_name else 1

    def _guard_row(self, facts: TableFacts, column: str | None) -> Guard:
        """Return the guard that a row gets its key from this column and nothing else; a partition
        may have triggers.
        """
        if facts.kind == "p" or column is None:
            return self._guard_table(facts)
        return self._guard_key(facts, column)

    def _guard_key(self, facts: TableFacts, column: str) -> Guard:
        slot = self._slot
        self.parameters[f"table_{slot}"] = facts.name
        self.parameters[f"column_{slot}"] = column
        self.parameters[f"print_{slot}"] = facts.columns[column].fingerprint
        return Guard.KEY

    def _guard_file(self, source: KeySequence) -> bool:
        """Whether the query can compare that the sequence was not restarted."""
        slot, sequence = self._slot, source.sequence
        if sequence is None or sequence.file is None:
            return False
        self.parameters[f"kept_{slot}"] = sequence.oid
        self.parameters[f"file_{slot}"] = sequence.file
        return True

    def _guard_table(self, facts: TableFacts) -> Guard:
        slot = self._slot
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
        distributed = any(facts.distributed for facts in self._locked.values())
        if distributed and sees_the_present(self.connection):
            locking = on_this_node(locking)
        return locking

    def run(self) -> Sequence[Row]:
        """Send the lock and the query in one message, and return the rows: slot, id, defaults.

        :raises LockRefusedError: a table cannot be locked, for instance because it was dropped.
        """
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
    distance = known_of(connection.dialect, Distance)

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
