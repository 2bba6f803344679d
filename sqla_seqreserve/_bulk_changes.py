"""Update, delete and synchronize rows that are given as data: ``bulk_update``, ``bulk_delete`` and
``bulk_sync`` of :mod:`sqla_seqreserve.bulk`, whose documentation says what they have in common.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import ColumnElement, Connection
from sqlalchemy.orm import Mapper, Session, scoped_session

from . import _audit as audit
from ._bulk.deleting import delete_rows
from ._bulk.input import Rows
from ._bulk.loading import loaded
from ._bulk.syncing import Syncing, checked_scope
from ._bulk.updating import Updated, update_rows
from ._bulk.upserting import upsert
from ._ids.keys import mapper_of
from ._ids.read_only import read_only_told
from ._reasons import Reason
from ._sqlalchemy.session import expire_unmodified, persistent_of, remove_deleted
from .errors import ConfigurationError
from .reports import FlushEntry, Kind, Writer
from .reservation import ReservedIds, connection_of

log = logging.getLogger("sqla_seqreserve.bulk")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class UpdateResult(Generic[_T]):
    """What :func:`bulk_update` did.

    :param updated: number of rows that existed and were overwritten, including those whose values
        were the same already.
    :param unchanged: number of rows that existed and were left alone: ``where`` did not hold, or a
        trigger suppressed the change.
    :param missing: the positions of the rows whose key the table does not have, in order.
    :param ids: the primary keys, aligned with the rows, under ``returning="ids"``; ``None`` for a
        missing row.
    :param objects: the rows as the database has them, aligned with the given ones, under
        ``returning="objects"``; ``None`` for a missing row.
    """

    updated: int
    unchanged: int
    missing: tuple[int, ...]
    ids: ReservedIds = field(default_factory=ReservedIds)
    objects: list[_T | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What :func:`bulk_sync` did, or would do under ``dry_run``: numbers of rows.

    :param inserted: given rows that did not exist.
    :param updated: given rows that existed with other values.
    :param unchanged: given rows that existed with the same values, or that ``update=()`` leaves
        alone.
    :param deleted: rows of the scope that were not given.
    """

    inserted: int
    updated: int
    unchanged: int
    deleted: int


@dataclass(slots=True, eq=False)
class Operation:
    """One call of a bulk function.

    :param started: when the work began that is logged next, by ``time.perf_counter()``.
    """

    session: Session
    connection: Connection
    mapper: Mapper[Any]
    started: float

    def holds(self) -> bool:
        """Whether the session has objects of the class now. Code that produces the rows may load
        some, so this is to be asked when all rows are there.
        """
        return persistent_of(self.session, self.mapper)

    def wrote(self, kind: Kind, rows: int, writer: Writer, reason: Reason | None) -> None:
        """Log rows that were written.

        :param reason: why they were written row by row.
        """
        if rows:
            now = time.perf_counter()
            seconds, self.started = now - self.started, now
            text = None if reason is None else reason.text
            entry = FlushEntry(self.mapper.class_, kind, rows, 0, writer, text, seconds)
            audit.rows_written(log, entry, fallback=reason is not None)


@contextmanager
def operation(
    session: Session | scoped_session[Any],
    model: type[Any],
    what: str,
    *,
    needs_temporary_table: bool = True,
    needs: str = "to write",
) -> Iterator[Operation]:
    """The first steps of every bulk function. An exception raised in the block is logged.

    :param what: the function that is called, as errors name it.
    :param needs_temporary_table: whether the function may need a temporary table.
    :param needs: what it needs that a read-only database does not allow.
    :raises ConfigurationError: it may need one, and the session is two-phase.
    :raises ReadOnlyError: the server is a standby, or the transaction READ ONLY.
    """
    mapper = mapper_of(model)
    target: Session = session() if isinstance(session, scoped_session) else session
    if needs_temporary_table and getattr(target, "twophase", False):
        raise ConfigurationError(
            f"{what} needs a temporary table, which a transaction that is to be prepared may not "
            "have. Use a session without twophase=True"
        )
    connection = connection_of(session, mapper)
    call = Operation(target, connection, mapper, time.perf_counter())
    reports_read_only = read_only_told(connection, what, [mapper.class_.__name__], needs)
    with audit.failures_logged(log), reports_read_only:
        yield call


def checked_returning(returning: object) -> None:
    """Refuse a value of ``returning`` that is not supported.

    :raises ConfigurationError: naming the supported ones.
    """
    if returning not in ("ids", "objects", None):
        raise ConfigurationError(
            f"returning must be 'ids' or 'objects' or None, found {returning!r}"
        )


def bulk_update(
    session: Session | scoped_session[Any],
    model: type[_T],
    rows: Rows,
    *,
    key: str | Iterable[str] | None = None,
    columns: str | Iterable[str] | None = None,
    where: ColumnElement[bool] | None = None,
    returning: Literal["ids", "objects"] | None = None,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
) -> UpdateResult[_T]:
    """Update the table's rows that have the same key as a given row: by COPY into a temporary
    table, then one ``UPDATE .. FROM``; up to 200 rows of plain types are sent within that
    statement.

    Rows are locked in the order of their primary key, as a flush locks them, so two updates of the
    same rows wait for each other and do not deadlock. Columns that the rows do not give get their
    ``onupdate``, and a version is counted up. If the class is stored in several tables, each table
    that changes is updated. Objects of the session whose row was updated are expired, except for
    their changes that are not flushed.

    :param rows: as in :func:`bulk_insert`; memory holds one chunk, also for a stream. ``None`` is
        NULL, and all rows must give the same attributes. If they give a version, it must equal the
        one in the table.
    :param key: attribute keys that find the row; ``None``: those of the primary key. No two rows
        may give the same values for them.
    :param columns: attribute keys to set. ``None``: all that the rows give, except those of
        ``key``, of the primary key and of a version.
    :param where: a condition for the rows to update: the class's attributes stand for the existing
        row, ``postgresql.insert(Model).excluded`` for the given one.
    :param returning: ``"ids"`` or ``"objects"`` to get these in addition to the counts.
    :param progress: called with the number of rows sent since the last call, also in the middle of
        a COPY, where it cannot use the session.
    :param chunk_rows: the largest number of rows that are checked and sent at once.
    :raises InvalidRowsError: rows that cannot be written, or that have the same key, each listed;
        nothing was written.
    :raises ConfigurationError: ``key`` or ``columns`` name an attribute that the rows do not give;
        Citus distributes the table; the session is two-phase.
    :raises sqlalchemy.orm.exc.StaleDataError: rows give another version than the table has.
    :raises sqlalchemy.exc.DBAPIError: the database refused a row.
    """
    checked_returning(returning)
    with operation(session, model, "bulk_update()") as call:
        target, mapper = call.session, call.mapper
        done = update_rows(
            target,
            call.connection,
            mapper,
            rows,
            key=key,
            columns=columns,
            where=where,
            wants_keys=lambda: returning is not None or call.holds(),
            progress=progress,
            chunk_rows=chunk_rows,
        )
        expire_unmodified(target, mapper, done.changed)
        ids, objects = ReservedIds[Any](), list[_T | None]()
        if returning == "ids":
            single = len(mapper.primary_key) == 1
            ids = ReservedIds(_key(done, number, single=single) for number in range(done.total))
        elif returning == "objects":
            found = dict(
                zip(done.keys, loaded(target, mapper, list(done.keys.values())), strict=True)
            )
            objects = [found.get(number) for number in range(done.total)]
    call.wrote("update", done.updated, done.writer, done.reason)
    unchanged = done.found - done.updated
    return UpdateResult(done.updated, unchanged, tuple(done.missing), ids, objects)


def bulk_delete(
    session: Session | scoped_session[Any],
    model: type[Any],
    keys: Iterable[Any],
    *,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
) -> int:
    """Delete the rows with these primary keys, and return how many existed: by COPY into a
    temporary table, then one ``DELETE .. USING``; up to 200 keys of plain types are sent within
    that statement.

    Rows are locked in the order of the key. If the class is stored in several tables, rows of
    subclasses are deleted first. Rows that refer to the deleted ones are left to the database (``ON
    DELETE``), as with SQLAlchemy's own ``delete(Model)``; objects of the session whose row was
    deleted leave it.

    :param keys: values of the key; for a key of several columns, tuples in key order. Memory holds
        one chunk, also for a stream. A key that is given twice, or that no row has, is no error.
    :param progress: called with the number of keys sent since the last call, also in the middle of
        a COPY, where it cannot use the session.
    :param chunk_rows: the largest number of keys that are checked and sent at once.
    :raises InvalidRowsError: values that are not keys, each listed; nothing was deleted.
    :raises ConfigurationError: Citus distributes the table; the session is two-phase.
    :raises sqlalchemy.exc.DBAPIError: the database refused, for example because a row of another
        table refers to a deleted one.
    """
    with operation(session, model, "bulk_delete()") as call:
        done = delete_rows(
            call.session,
            call.connection,
            call.mapper,
            keys,
            wants_keys=call.holds,
            progress=progress,
            chunk_rows=chunk_rows,
        )
        remove_deleted(call.session, call.mapper, done.keys)
    call.wrote("delete", done.rows, done.writer, done.reason)
    return done.rows


def bulk_sync(
    session: Session | scoped_session[Any],
    model: type[Any],
    rows: Rows,
    *,
    key: str | Iterable[str],
    scope: ColumnElement[bool],
    update: str | Iterable[str] | None = None,
    dry_run: bool = False,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
) -> SyncResult:
    """Make the rows of a scope equal to the given ones: insert those that are missing, update those
    with a different value in a column, delete those that are not given.

    Ids are taken from the sequence only for new rows. Rows that have the given values already are
    neither written nor locked. Two calls with the same scope wait for each other. Objects of the
    session whose row was updated are expired, and those whose row was deleted leave it. If no rows
    are given, all rows of the scope are deleted.

    :param rows: as in :func:`bulk_insert`; memory holds one chunk, also for a stream. ``None`` is
        NULL, and all rows must give the same attributes.
    :param key: attribute keys of the columns of a unique constraint or index that holds every row,
        or its name: it decides which row of the table a given one matches.
    :param scope: a condition on the class's attributes; ``sqlalchemy.true()`` for the whole table.
    :param update: attribute keys to compare and overwrite. ``None``: all that the rows give, except
        those of ``key`` and of the primary key; ``()``: none.
    :param dry_run: only count what would be done; nothing is written, and no id is taken. In a READ
        ONLY transaction it takes rows of plain types, in one chunk.
    :param progress: called with the number of rows sent since the last call, also in the middle of
        a COPY, where it cannot use the session.
    :param chunk_rows: the largest number of rows that are checked and sent at once.
    :raises InvalidRowsError: rows that cannot be written, that match the same row of the table or
        that are outside the scope, each listed; nothing was written.
    :raises ConfigurationError: ``key`` names no unique index, or rows do not give a column that it
        uses; the class is stored in several tables; Citus distributes the table; the session is
        two-phase.
    :raises ReadOnlyError: the server is a standby, or the transaction READ ONLY; or ``dry_run``
        needs a temporary table there.
    :raises sqlalchemy.exc.DBAPIError: the database refused a row.
    """
    what, needs = "bulk_sync()", "to write"
    if dry_run:
        what, needs = "bulk_sync(dry_run=True)", "a temporary table for these rows"
    with operation(session, model, what, needs=needs) as call:
        sync = Syncing(checked_scope(scope), dry_run, call.holds)
        done = upsert(
            call.session,
            call.connection,
            call.mapper,
            rows,
            conflict=key,
            update=update,
            where=None,
            wants_keys=False,
            wants_changed=call.holds,
            progress=progress,
            chunk_rows=chunk_rows,
            sync=sync,
        )
        expire_unmodified(call.session, call.mapper, done.changed)
        remove_deleted(call.session, call.mapper, sync.removed)
    written = done.inserted + done.updated
    if not dry_run:
        call.wrote("insert", done.inserted, done.writer, done.reason)
        call.wrote("update", done.updated, done.writer, done.reason)
        call.wrote("delete", sync.deleted, done.writer, done.reason)
    return SyncResult(done.inserted, done.updated, done.total - written, sync.deleted)


def _key(done: Updated, number: int, *, single: bool) -> Any:
    key = done.keys.get(number)
    return key[0] if single and key is not None else key
