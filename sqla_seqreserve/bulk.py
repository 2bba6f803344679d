"""Insert many rows given as data, without making objects of them: the fastest way in.

::

    ids = bulk_insert(session, Order, [{"customer": "ACME", "total": Decimal("9.90")}, ...])
    orders = bulk_insert(session, Order, rows, returning="objects")     # persistent, no SELECT
    count = bulk_insert(session, Order, read_lines(file), returning=None)     # of any length

A row maps *attribute* keys to values, as keyword arguments of the class would. Columns left out get
their defaults, as in an ORM INSERT; ``None`` for a column with a default counts as left out. Rows
are checked before an id is reserved, and everything happens in the session's transaction. Like
every bulk operation of the ORM it knows columns, not relationships, fires no mapper events and
flushes nothing first.

Rows may also come by column, ``{"customer": [...], "total": [...]}``, or as anything with the Arrow
C stream interface (tables of pyarrow, polars, pandas), whose columns bear the names of attributes.

A stream of rows (a generator, an Arrow table; a list if ``chunk_rows`` is given) is written chunk
by chunk, each checked and numbered on its own, within a savepoint: whatever is wrong with a later
row, nothing of the stream stays, nor of what was flushed since the savepoint. Memory holds one
chunk and, unless ``returning=None``, what is returned.

::

    done = bulk_upsert(session, Price, rows, conflict=["fund", "day"], returning="ids")
    done.inserted, done.updated, done.unchanged, done.ids

:func:`bulk_upsert` inserts the rows that are not there and updates the others, told apart by a
unique index. ``None`` is NULL there, and every row must give the same attributes.

::

    done = bulk_update(session, Price, rows, key=["fund", "day"])
    done.updated, done.missing
    count = bulk_delete(session, Price, [17, 21, 34])
    done = bulk_sync(session, Price, rows, key=["fund", "day"], scope=Price.fund == 4)
    done.inserted, done.updated, done.unchanged, done.deleted

:func:`bulk_update` changes the rows that are there, :func:`bulk_delete` deletes them by their keys,
and :func:`bulk_sync` makes the rows of a scope the given ones.
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
from ._bulk.upsert import upsert
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
    """Insert rows of one class by COPY, their keys reserved in one round trip.

    :param rows: mappings of attribute key -> value, columns of values, or an Arrow table. A key
        that a row gives stays.
    :param progress: called with the number of rows sent since the last call, in the middle of a
        COPY too, where it cannot use the session.
    :param chunk_rows: the most rows that are held and written at once. ``None``: all of a list or
        of columns, 20,000 of anything else.
    :param returning: ``"ids"``: the keys, aligned with the rows, a tuple for a composite key;
        ``"objects"``: persistent instances, aligned with the rows, loaded with what was written and
        not with a SELECT (what the database filled in is loaded when asked for); ``None``: the
        number of rows that the database stored.
    :raises InvalidRowsError: rows that cannot be written, each listed; nothing was written.
    :raises SequenceExhaustedError: the sequence has no value left.
    :raises sqlalchemy.exc.DBAPIError: the database refused a row.
    :raises sqlalchemy.orm.exc.FlushError: a trigger discarded a row, or changed its key unseen.
    """
    checked_returning(returning)
    count, keys, held = 0, list[Any](), list[dict[str, Any]]()
    with operation(session, model, "bulk_insert()", stages=False) as call, ExitStack() as undone:
        target, mapper = call.session, call.mapper
        stream = within(target, rows, chunks(rows, chunk_rows, mapper))
        wants_keys = returning is not None
        inserting = Inserting(target, call.connection, mapper, progress, keys=wants_keys)
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
                # It holds the chunk, and the next is to come.
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

    :param inserted: rows that were not there.
    :param updated: rows that were, and were overwritten; with the same values too.
    :param unchanged: rows that were left alone: ``update=()``, or ``where`` did not hold.
    :param ids: the keys, aligned with the rows, under ``returning="ids"``.
    :param objects: the rows as the database has them, aligned, under ``returning="objects"``.
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
    """Insert the rows that are not there, update the others: by COPY into a temporary table, then
    one ``INSERT .. ON CONFLICT``; up to 200 rows of plain types within that statement.

    Ids are taken from the sequence for new rows alone, and rows are locked in the order of the
    unique index, so two upserts of the same rows wait for each other and do not dead-lock. Objects
    of the session whose row was updated are expired, but for what was changed in them and not
    flushed.

    :param rows: as in :func:`bulk_insert`; of a stream too, memory holds one chunk. ``None`` is
        NULL, and all rows give the same attributes. What they leave out gets its default in a new
        row, and ``onupdate`` in one that is updated.
    :param conflict: attribute keys of the columns of a unique constraint or index that holds every
        row; or the name of any, partial ones and those of expressions too.
    :param update: attribute keys to overwrite. ``None``: all that the rows give, but those of
        ``conflict`` and of the primary key; ``()``: none.
    :param where: which rows to update, as in ``on_conflict_do_update()``: the class's attributes
        are the row that is there, ``postgresql.insert(Model).excluded`` is the one that is given.
    :param returning: whether ``ids`` or ``objects`` are wanted beside the counts.
    :param progress: called with the number of rows sent since the last call, in the middle of a
        COPY too, where it cannot use the session.
    :param chunk_rows: the most rows that are checked and sent at once.
    :raises InvalidRowsError: rows that cannot be written, or that are for the same row of the
        table, each listed; nothing was written.
    :raises ConfigurationError: ``conflict`` names no unique index, or rows do not give what it
        looks at; the class is stored in several tables; the session is two-phase.
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
            keys=returning is not None,
            changed=call.held,
            progress=progress,
            chunk_rows=chunk_rows,
        )
        if call.held:
            expire_unmodified(target, mapper, outcome.changed)
        single = len(mapper.primary_key) == 1
        ids = ReservedIds(key[0] if single else key for key in outcome.keys)
        objects: list[_T] = []
        if returning == "objects":
            objects = loaded(target, mapper, outcome.keys)
    written = outcome.inserted + outcome.updated
    call.wrote("insert", written, outcome.writer, outcome.reason)
    return UpsertResult(
        outcome.inserted,
        outcome.updated,
        outcome.total - written,
        ids if returning == "ids" else ReservedIds(),
        objects,
    )


def _and_whether_last(items: Iterable[_T]) -> Iterable[tuple[_T, bool]]:
    """Each item, and whether it is the last: one is held back."""
    held = list[_T]()
    for item in items:
        if held:
            yield held.pop(), False
        held.append(item)
    if held:
        yield held.pop(), True
