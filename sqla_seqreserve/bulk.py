"""Insert many rows given as data, without making objects of them: the fastest way to insert.

::

    ids = bulk_insert(session, Order, [{"customer": "ACME", "total": Decimal("9.90")}, ...])
    orders = bulk_insert(session, Order, rows, returning="objects")     # persistent, no SELECT
    count = bulk_insert(session, Order, read_lines(file), returning=None)     # of any length

A row maps *attribute* keys to values, like keyword arguments of the class. Columns left out get
their defaults, as in an ORM INSERT; ``None`` for a column with a default counts as left out. Rows
are checked before an id is reserved, and everything happens in the session's transaction. Like
every bulk operation of the ORM, it handles columns and not relationships, fires no mapper events
and flushes nothing first.

Rows may also be given by column, ``{"customer": [...], "total": [...]}``, or as anything with the
Arrow C stream interface (tables of pyarrow, polars, pandas) whose column names are attribute keys.

A stream of rows (a generator, an Arrow table; a list if ``chunk_rows`` is given) is written chunk
by chunk, within a savepoint; each chunk is checked and numbered separately. If anything is wrong
with a later row, nothing of the stream stays, nor anything that was flushed since the savepoint.
Memory holds one chunk and, unless ``returning=None``, the result.

::

    done = bulk_upsert(session, Price, rows, conflict=["fund", "day"], returning="ids")
    done.inserted, done.updated, done.unchanged, done.ids

:func:`bulk_upsert` inserts the rows that do not exist and updates the others; a unique index
decides which exist. There, ``None`` is NULL, and every row must give the same attributes.

::

    done = bulk_update(session, Price, rows, key=["fund", "day"])
    done.updated, done.missing
    count = bulk_delete(session, Price, [17, 21, 34])
    done = bulk_sync(session, Price, rows, key=["fund", "day"], scope=Price.fund == 4)
    done.inserted, done.updated, done.unchanged, done.deleted

:func:`bulk_update` changes existing rows, :func:`bulk_delete` deletes rows by their keys, and
:func:`bulk_sync` makes the rows of a scope equal to the given ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, overload

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session, scoped_session

from . import _audit as audit
from ._bulk.input import Rows, chunks, within
from ._bulk.inserting import Inserting
from ._bulk.loading import loaded
from ._bulk.upserting import upsert
from ._bulk_changes import (
    SyncResult,
    UpdateResult,
    bulk_delete,
    bulk_sync,
    bulk_update,
    checked_returning,
    log,
    operation,
)
from ._sqlalchemy.collector import collector_paused
from ._sqlalchemy.session import expire_unmodified, instances_of
from .reservation import ReservedIds

__all__ = [
    "Rows",
    "SyncResult",
    "UpdateResult",
    "UpsertResult",
    "bulk_delete",
    "bulk_insert",
    "bulk_sync",
    "bulk_update",
    "bulk_upsert",
]

_T = TypeVar("_T")


@overload
def bulk_insert(
    session: Session | scoped_session[Any],
    model: type[_T],
    rows: Rows,
    *,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
    returning: Literal["ids"] = "ids",
) -> ReservedIds: ...
@overload
def bulk_insert(
    session: Session | scoped_session[Any],
    model: type[_T],
    rows: Rows,
    *,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
    returning: Literal["objects"],
) -> list[_T]: ...
@overload
def bulk_insert(
    session: Session | scoped_session[Any],
    model: type[_T],
    rows: Rows,
    *,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
    returning: None,
) -> int: ...
def bulk_insert(
    session: Session | scoped_session[Any],
    model: type[_T],
    rows: Rows,
    *,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
    returning: Literal["ids", "objects"] | None = "ids",
) -> ReservedIds | list[_T] | int:
    """Insert rows of one class by COPY; their keys are reserved in one round trip.

    :param rows: mappings of attribute key -> value, columns of values, or an Arrow table. A key
        that a row gives is kept.
    :param progress: called with the number of rows sent since the last call, also in the middle of
        a COPY, where it cannot use the session.
    :param chunk_rows: the largest number of rows that are held and written at once. ``None``: all
        rows of a list or of columns, 20,000 of anything else.
    :param returning: ``"ids"``: the keys, aligned with the rows, a tuple for a composite key;
        ``"objects"``: persistent instances, aligned with the rows, loaded with the written values
        and without a SELECT (values that the database filled in are loaded on access); ``None``:
        the number of rows that the database stored.
    :raises InvalidRowsError: rows that cannot be written, each listed; nothing was written.
    :raises SequenceExhaustedError: the sequence has no value left.
    :raises sqlalchemy.exc.DBAPIError: the database refused a row.
    :raises sqlalchemy.orm.exc.FlushError: a trigger discarded a row, or changed its key unnoticed.
    """
    checked_returning(returning)
    count, keys, held = 0, list[Any](), list[dict[str, Any]]()
    with (
        operation(session, model, "bulk_insert()", needs_temporary_table=False) as call,
        ExitStack() as undone,
    ):
        target, mapper = call.session, call.mapper
        stream = within(target, rows, chunks(rows, chunk_rows, mapper))
        inserting = Inserting(
            target, call.connection, mapper, progress, wants_keys=returning is not None
        )
        start = 0
        for chunk, is_last in _and_whether_last(stream):
            guard = undone if start == 0 and not is_last else None
            with collector_paused(len(chunk)):
                written = inserting.write(chunk, start, guard)
                start += len(chunk)
                count += written.stored
                if returning == "ids":
                    keys += written.keys()
                elif returning == "objects":
                    held += written.held()
                # It refers to the finished chunk, which must be freed before the next one is read.
                del written
    for entry in inserting.entries():
        audit.rows_written(log, entry, fallback=entry.writer == "insert")
    if returning is None:
        return count
    if returning == "ids":
        return ReservedIds(keys)
    with collector_paused(len(held)):
        return instances_of(target, mapper, held)


@dataclass(frozen=True, slots=True)
class UpsertResult(Generic[_T]):
    """What :func:`bulk_upsert` did.

    :param inserted: number of rows that did not exist.
    :param updated: number of rows that existed and were overwritten, including those whose values
        were the same already.
    :param unchanged: number of rows that were left alone: ``update=()``, or ``where`` did not hold.
    :param ids: the keys, aligned with the rows, under ``returning="ids"``.
    :param objects: the rows as the database has them, aligned with the given ones, under
        ``returning="objects"``.
    """

    inserted: int
    updated: int
    unchanged: int
    ids: ReservedIds = field(default_factory=ReservedIds)
    objects: list[_T] = field(default_factory=list)


def bulk_upsert(
    session: Session | scoped_session[Any],
    model: type[_T],
    rows: Rows,
    *,
    conflict: str | Iterable[str],
    update: str | Iterable[str] | None = None,
    where: ColumnElement[bool] | None = None,
    returning: Literal["ids", "objects"] | None = None,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
) -> UpsertResult[_T]:
    """Insert the rows that do not exist, update the others: by COPY into a temporary table, then
    one ``INSERT .. ON CONFLICT``; up to 200 rows of plain types are sent within that statement.

    Ids are taken from the sequence only for new rows. Rows are locked in the order of the unique
    index, so two upserts of the same rows wait for each other and do not deadlock. Objects of the
    session whose row was updated are expired, except for their changes that are not flushed.

    :param rows: as in :func:`bulk_insert`; memory holds one chunk, also for a stream. ``None`` is
        NULL, and all rows must give the same attributes. Columns that they leave out get their
        default in a new row, and their ``onupdate`` in an updated one.
    :param conflict: attribute keys of the columns of a unique constraint or index that holds every
        row; or the name of any unique index, also of a partial one or one on expressions.
    :param update: attribute keys to overwrite. ``None``: all that the rows give, except those of
        ``conflict`` and of the primary key; ``()``: none.
    :param where: a condition for the rows to update, as in ``on_conflict_do_update()``: the class's
        attributes stand for the existing row, ``postgresql.insert(Model).excluded`` for the given
        one.
    :param returning: ``"ids"`` or ``"objects"`` to get these in addition to the counts.
    :param progress: called with the number of rows sent since the last call, also in the middle of
        a COPY, where it cannot use the session.
    :param chunk_rows: the largest number of rows that are checked and sent at once.
    :raises InvalidRowsError: rows that cannot be written, or that match the same row of the table,
        each listed; nothing was written.
    :raises ConfigurationError: ``conflict`` names no unique index, or rows do not give a column
        that it uses; the class is stored in several tables; the session is two-phase.
    :raises sqlalchemy.exc.DBAPIError: the database refused a row.
    """
    checked_returning(returning)
    with operation(session, model, "bulk_upsert()") as call:
        target, mapper = call.session, call.mapper
        outcome = upsert(
            target,
            call.connection,
            mapper,
            rows,
            conflict=conflict,
            update=update,
            where=where,
            wants_keys=returning is not None,
            wants_changed=call.holds,
            progress=progress,
            chunk_rows=chunk_rows,
        )
        expire_unmodified(target, mapper, outcome.changed)
        single = len(mapper.primary_key) == 1
        ids = ReservedIds(key[0] if single else key for key in outcome.keys)
        objects: list[_T] = []
        if returning == "objects":
            objects = loaded(target, mapper, outcome.keys)
    written = outcome.inserted + outcome.updated
    call.wrote("insert", outcome.inserted, outcome.writer, outcome.reason)
    call.wrote("update", outcome.updated, outcome.writer, outcome.reason)
    return UpsertResult(
        outcome.inserted,
        outcome.updated,
        outcome.total - written,
        ids if returning == "ids" else ReservedIds(),
        objects,
    )


def _and_whether_last(items: Iterable[_T]) -> Iterable[tuple[_T, bool]]:
    """Yield each item, and whether it is the last; to know that, it reads one item ahead."""
    held = list[_T]()
    for item in items:
        if held:
            yield held.pop(), False
        held.append(item)
    if held:
        yield held.pop(), True
