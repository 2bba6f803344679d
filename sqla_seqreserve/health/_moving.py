"""Moves one sequence beyond its tables; ``repair`` explains the method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic

from sqlalchemy import Connection, column, select, table, text
from sqlalchemy.exc import DBAPIError

from sqla_seqreserve._ids.prefetch import sequence_moved
from sqla_seqreserve._ids.read_only import read_only_told
from sqla_seqreserve.errors import ConfigurationError, LockTimeoutError

from .._sqlstate import LOCK_NOT_AVAILABLE, sqlstate
from ._connection import in_autocommit, locks_released, one_connection_per_node
from ._edges import furthest_id
from ._facts import ColumnFacts, SequenceFacts
from ._outliers import find_outliers, reason_of
from .report import OutlyingIds

# Each round that fails means that ids were imported between two statements.
_ROUNDS = 20

# Seconds to wait for a lock before letting others pass, at first and at most: below the second
# after which PostgreSQL looks for deadlocks, so that no writer is ever made the victim of one.
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 0.8

_DEADLOCK_DETECTED = "40P01"
_INTERNAL_ERROR = "XX000"
_INSUFFICIENT_PRIVILEGE = "42501"

_ISOLATION = text("SELECT current_setting('transaction_isolation')")
_LOCK_TIMEOUT = text("SELECT set_config('lock_timeout', :value, true)")
_SETVAL = text("SELECT setval(CAST(CAST(:oid AS oid) AS regclass), :value)")

# Advisory locks of two keys, the first naming the catalogue that the second is an oid of.
_TAKE_TURN = text(
    "SELECT pg_try_advisory_xact_lock(CAST(CAST('pg_catalog.pg_class' AS regclass) AS integer),"
    " CAST(CAST(:oid AS bigint) - 2147483648 AS integer))"
)

# On the server, as an async session's event loop must not sleep; at random, as repairs may meet.
_PAUSE = text("SELECT CAST(pg_sleep(0.01 + 0.04 * random()) AS text)")

# Names from the catalogue are real already: translating them would translate twice.
_UNTRANSLATED = {"schema_translate_map": None}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The sequence's value after the repair, or why it was not repaired."""

    value: int | None = None
    reason: str | None = None
    outlying: OutlyingIds | None = None


_MAY_ALTER = text("SELECT pg_has_role(CAST(:owner AS name), 'USAGE')")
# Any of these privileges lets a role lock a table; PostgreSQL 17 added the last.
_MAY_LOCK = text(
    """
    SELECT has_table_privilege(
      CAST(:table AS text),
      'UPDATE, DELETE, TRUNCATE'
        || CASE WHEN CAST(current_setting('server_version_num') AS int) >= 170000
           THEN ', MAINTAIN' ELSE '' END)
    """
)


def refused_to_role(connection: Connection, sequence: SequenceFacts) -> str | None:
    """Why the role may not move the sequence, judged without a lock; ``None``: it may."""
    if not connection.scalar(_MAY_ALTER, {"owner": sequence.owner}):
        return _refused(sequence, "it is not the owner")
    quote = connection.dialect.identifier_preparer.quote_identifier
    for place in _places(sequence):
        name = f"{quote(place.schema)}.{quote(place.table)}"
        if place.kind != "f" and not connection.scalar(_MAY_LOCK, {"table": name}):
            return _refused(sequence, f"it may not lock {place.label}")
    return None


def _refused(sequence: SequenceFacts, why: object) -> str:
    return f"the role may not repair {sequence.label}: {why}; {sequence.mender}"


def _places(sequence: SequenceFacts) -> list[ColumnFacts]:
    """The columns that a repair moves a sequence beyond, in the order in which it locks tables."""
    return sorted(
        (c for c in sequence.columns if c.comparable), key=lambda c: (c.schema, c.table, c.column)
    )


class SequenceMover:
    """Moves a sequence beyond the ids of all the columns that it fills, one table at a time."""

    def __init__(
        self,
        connection: Connection,
        sequence: SequenceFacts,
        *,
        headroom: int,
        lock_timeout: float,
        allow_exhaustion: bool,
    ) -> None:
        self.connection = connection
        self.sequence = sequence
        self.headroom = headroom
        self.lock_timeout = lock_timeout
        self.allow_exhaustion = allow_exhaustion
        self._moved_to: int | None = None
        self._quote = connection.dialect.identifier_preparer.quote_identifier

    def move(self) -> Outcome:
        """Move the sequence; return its value then, or why it could not be moved."""
        with read_only_told(self.connection, f"repairing {self.sequence.label}"):
            return self._move()

    def _move(self) -> Outcome:
        self._require_transaction()
        with one_connection_per_node(self.connection, is_citus=self.sequence.is_citus):
            try:
                for place in _places(self.sequence):
                    if (found := self._move_beyond(place)) is not None:
                        return Outcome(reason=reason_of(self.sequence, found), outlying=found)
            except DBAPIError as error:
                if sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
                    raise
                return Outcome(reason=_refused(self.sequence, error.orig))
        return Outcome(self._glance().last_value)

    def _move_beyond(self, place: ColumnFacts) -> OutlyingIds | None:
        """Move beyond one table's ids; return those, imported meanwhile, that it must not pass."""
        for _ in range(_ROUNDS):
            edge = self._edge(place)
            if not self.allow_exhaustion:
                found = find_outliers(self.connection, self.sequence, edge, self.headroom)
                if found is not None:
                    return found
            if self._is_mine_to_move(edge):
                self._under_lock(
                    self.sequence.label, self._lock_sequence, partial(self._jump, edge)
                )
            if place.kind == "f":
                # PostgreSQL locks no foreign table, and could not keep its server's writers out.
                if self._is_beyond(place):
                    return None
            elif self._under_lock(
                place.label, partial(self._lock_table, place), partial(self._is_beyond, place)
            ):
                return None
        raise LockTimeoutError(
            f"{self.sequence.label}: ids were imported into {place.label} faster than the sequence "
            f"could follow, in {_ROUNDS} attempts; repair again when the import is over"
        )

    def _is_mine_to_move(self, edge: int | None) -> bool:
        """Wait for the turn to move the sequence; false if others have moved it meanwhile.

        A ``setval`` keeps a lock on the sequence until its transaction ends. A repair that
        requested the sequence meanwhile would wait in vain, and every ``nextval`` would queue
        behind it.
        """
        deadline = monotonic() + self.lock_timeout
        while self._glance().gap_to(edge):
            if self.connection.scalar(_TAKE_TURN, {"oid": self.sequence.oid}):
                return True
            if monotonic() >= deadline:
                raise LockTimeoutError(
                    f"{self.sequence.label}: another repair moved it, has not committed, and it is "
                    f"behind {self.lock_timeout:g} s later; {self._standing_told()}. Let the other "
                    "transaction end, and repair again"
                )
            self.connection.execute(_PAUSE)
        return False

    def _jump(self, edge: int | None) -> bool:
        standing = self._standing()
        behind = standing.gap_to(edge)
        value = standing.value_after(behind + self.headroom) if behind else None
        if value is not None:
            self.connection.execute(_SETVAL, {"oid": self.sequence.oid, "value": value})
            self._moved_to = value
            sequence_moved()
        return value is not None

    def _standing_told(self) -> str:
        """Say what a repair that ends here has done, because no rollback undoes it."""
        if self._moved_to is None:
            return f"{self.sequence.label} was not moved"
        return (
            f"{self.sequence.label} was moved to {self._moved_to} and stays there; whether ids "
            "beyond it were imported meanwhile was not confirmed"
        )

    def _is_beyond(self, place: ColumnFacts) -> bool:
        return self._standing().gap_to(self._edge(place)) == 0

    def _edge(self, place: ColumnFacts) -> int | None:
        edge = self.connection.scalar(
            furthest_id(self.sequence, place), execution_options=_UNTRANSLATED
        )
        return None if edge is None else int(edge)

    def _standing(self) -> SequenceFacts:
        relation = table(
            self.sequence.name,
            column("last_value"),
            column("is_called"),
            schema=self.sequence.schema,
        )
        row = self.connection.execute(
            select(relation.c.last_value, relation.c.is_called), execution_options=_UNTRANSLATED
        ).one()
        return replace(self.sequence, last_value=row.last_value, is_called=row.is_called)

    def _glance(self) -> SequenceFacts:
        with locks_released(self.connection):
            return self._standing()

    def _lock_table(self, place: ColumnFacts) -> None:
        # On Citus, on every node: rows may be written through any of them.
        self.connection.exec_driver_sql(
            f"LOCK TABLE {self._qualified(place.schema, place.table)} IN SHARE ROW EXCLUSIVE MODE"
        )

    def _lock_sequence(self) -> None:
        if self.sequence.is_citus:
            # Each node has a sequence of its own, and a worker refuses what would reach the others.
            self.connection.exec_driver_sql("SET LOCAL citus.enable_ddl_propagation = off")
        name = self._qualified(self.sequence.schema, self.sequence.name)
        self.connection.exec_driver_sql(
            f"ALTER SEQUENCE {name} OWNER TO {self._quote(self.sequence.owner)}"
        )

    def _qualified(self, schema: str, name: str) -> str:
        return f"{self._quote(schema)}.{self._quote(name)}"

    def _under_lock(self, locked: str, lock: Callable[[], None], work: Callable[[], bool]) -> bool:
        """Lock, work and release; try again until the caller's time-out.

        Other requests queue behind a waiting lock request. Requesting the lock for a moment at a
        time keeps the application running while a long transaction holds it.
        """
        deadline = monotonic() + self.lock_timeout
        wait = _FIRST_WAIT
        while True:
            patience = max(0.001, min(wait, deadline - monotonic()))
            wait = min(2 * wait, _LONGEST_WAIT)
            locking = True
            try:
                with locks_released(self.connection):
                    # The setting ends with the savepoint, as the locks do.
                    self._set_lock_timeout(f"{patience * 1000:.0f}ms")
                    lock()
                    locking = False
                    return work()
            except DBAPIError as error:
                if not self._is_refused_lock(error, locking=locking):
                    raise
                if monotonic() >= deadline:
                    who = (
                        "others kept it"
                        if not self.sequence.is_citus
                        else ("others kept it, or a node of Citus did not answer")
                    )
                    raise LockTimeoutError(
                        f"{locked}: expected a lock within {self.lock_timeout:g} s to repair "
                        f"{self.sequence.label}, and {who}; {self._standing_told()}. Repair again "
                        "later, or with a longer lock_timeout"
                    ) from error
            self.connection.execute(_PAUSE)

    def _set_lock_timeout(self, value: str) -> None:
        if not self.sequence.is_citus:
            self.connection.execute(_LOCK_TIMEOUT, {"value": value})
            return
        # Only SET LOCAL is passed on to the other nodes, and only if that is enabled; a value set
        # by set_config() stays here, and the other nodes would wait for the lock without end.
        self.connection.exec_driver_sql("SET LOCAL citus.propagate_set_commands = 'local'")
        self.connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{value}'")

    def _is_refused_lock(self, error: DBAPIError, *, locking: bool) -> bool:
        # A lock that another node of Citus did not get comes back as a failed connection to it.
        elsewhere = locking and self.sequence.is_citus and sqlstate(error) == _INTERNAL_ERROR
        return elsewhere or sqlstate(error) in (LOCK_NOT_AVAILABLE, _DEADLOCK_DETECTED)

    def _require_transaction(self) -> None:
        if in_autocommit(self.connection):
            raise ConfigurationError(
                "repair_sequences needs a transaction to hold its locks, and this connection is in "
                "AUTOCOMMIT: use one that is not"
            )
        isolation = self.connection.scalar(_ISOLATION)
        if isolation != "read committed":
            raise ConfigurationError(
                f"repair_sequences must see the newest ids, and this transaction is {isolation}, "
                "which shows those of its beginning: use READ COMMITTED"
            )
