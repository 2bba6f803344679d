"""Moving one sequence beyond its tables; ``repair`` says why it is done this way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import Connection, column, func, select, table, text
from sqlalchemy.exc import DBAPIError

from sqla_seqreserve.errors import ConfigurationError, LockTimeoutError

from ._connection import sqlstate
from ._facts import ColumnFacts, SequenceFacts

__all__ = ["SequenceMover"]

# Drawing this many takes tens of milliseconds, for which the table's writers wait.
_MOST_DRAWN = 50_000
# Each round that fails means that as many ids again were imported within milliseconds.
_ROUNDS = 20

_LOCK_NOT_AVAILABLE = "55P03"
_DEADLOCK_DETECTED = "40P01"
_INSUFFICIENT_PRIVILEGE = "42501"

_ISOLATION = text("SELECT current_setting('transaction_isolation')")
_LOCK_TIMEOUT = text("SELECT set_config('lock_timeout', :value, true)")
_DRAW = text(
    "SELECT count(nextval(CAST(CAST(:oid AS oid) AS regclass)))"
    " FROM generate_series(1, CAST(:count AS bigint))"
)
_SETVAL = text("SELECT setval(CAST(CAST(:oid AS oid) AS regclass), :value)")

# Names from the catalogue are real already: translating them would translate twice.
_UNTRANSLATED = {"schema_translate_map": None}


class SequenceMover:
    """Moves a sequence beyond the ids of all the columns that it fills, one table at a time."""

    def __init__(
        self, connection: Connection, sequence: SequenceFacts, *, headroom: int, lock_timeout: float
    ) -> None:
        self.connection = connection
        self.sequence = sequence
        self.headroom = headroom
        self.lock_timeout = lock_timeout
        self._quote = connection.dialect.identifier_preparer.quote_identifier

    def move(self) -> tuple[int | None, str | None]:
        """Return where the sequence stands then, or ``None`` and why it could not be moved."""
        self._require_transaction()
        try:
            for place in sorted(self.sequence.columns, key=lambda c: (c.schema, c.table, c.column)):
                self._move_beyond(place)
        except DBAPIError as error:
            if sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
                raise
            return None, (
                f"the role may not repair {self.sequence.label}: {error.orig}; use the owner of the "
                "sequence, with the right to write to its table"
            )
        return self._standing().last_value, None

    def _move_beyond(self, place: ColumnFacts) -> None:
        for _ in range(_ROUNDS):
            with self._lock_released_after(place.label):
                self._lock_table(place)
                if self._draw_beyond(place):
                    return
            # Too far to draw: jump without the table's lock, then look at the table again.
            edge = self._edge(place)
            with self._lock_released_after(self.sequence.label):
                self._lock_sequence()
                self._jump_beyond(edge)
        raise LockTimeoutError(
            f"{self.sequence.label}: ids were imported into {place.label} faster than the sequence "
            f"could follow, in {_ROUNDS} attempts; repair again when the import is over"
        )

    def _draw_beyond(self, place: ColumnFacts) -> bool:
        edge = self._edge(place)
        behind = self._standing().gap_to(edge)
        while behind:
            count = behind + self.headroom
            if count > _MOST_DRAWN:
                return False
            self.connection.execute(_DRAW, {"oid": self.sequence.oid, "count": count})
            # With CACHE, the first values drawn may have been fetched long ago.
            behind = self._standing().gap_to(edge)
        return True

    def _jump_beyond(self, edge: int | None) -> None:
        standing = self._standing()
        behind = standing.gap_to(edge)
        value = standing.value_after(behind + self.headroom) if behind else None
        if value is not None:
            self.connection.execute(_SETVAL, {"oid": self.sequence.oid, "value": value})

    def _edge(self, place: ColumnFacts) -> int | None:
        ids = table(place.table, column(place.column), schema=place.schema).c[place.column]
        statement = select(func.max(ids) if self.sequence.increment > 0 else func.min(ids))
        edge = self.connection.scalar(statement, execution_options=_UNTRANSLATED)
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

    def _lock_table(self, place: ColumnFacts) -> None:
        self.connection.exec_driver_sql(
            f"LOCK TABLE {self._qualified(place.schema, place.table)} IN SHARE ROW EXCLUSIVE MODE"
        )

    def _lock_sequence(self) -> None:
        name = self._qualified(self.sequence.schema, self.sequence.name)
        self.connection.exec_driver_sql(
            f"ALTER SEQUENCE {name} OWNER TO {self._quote(self.sequence.owner)}"
        )

    def _qualified(self, schema: str, name: str) -> str:
        return f"{self._quote(schema)}.{self._quote(name)}"

    @contextmanager
    def _lock_released_after(self, locked: str) -> Iterator[None]:
        # The setting ends with the savepoint, as the locks do.
        savepoint = self.connection.begin_nested()
        try:
            self.connection.execute(
                _LOCK_TIMEOUT, {"value": f"{max(1, round(self.lock_timeout * 1000))}ms"}
            )
            yield
        except DBAPIError as error:
            if sqlstate(error) not in (_LOCK_NOT_AVAILABLE, _DEADLOCK_DETECTED):
                raise
            raise LockTimeoutError(
                f"{locked}: expected a lock within {self.lock_timeout:g} s to repair "
                f"{self.sequence.label}, and others kept it; nothing was changed. Repair again "
                "later, or with a longer lock_timeout"
            ) from error
        finally:
            savepoint.rollback()

    def _require_transaction(self) -> None:
        driver_connection = self.connection.connection.dbapi_connection
        if getattr(driver_connection, "autocommit", False):
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
