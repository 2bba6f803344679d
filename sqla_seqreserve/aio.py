"""The module functions for ``asyncio``: the same names, awaited, on an ``AsyncSession`` or
``AsyncConnection``.

::

    from sqla_seqreserve import aio

    ids = await aio.reserve_ids(async_session, Order, 500)

    print(await aio.explain(registration, async_engine))

Each runs its twin through ``run_sync()``; arguments, results and errors are those of the twin.
``register()`` takes asynchronous targets itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, overload

from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.util import await_only

from . import bulk, health, reservation
from ._flush.explain import Explanation
from ._mistakes import require_async
from .bulk import Rows, SyncResult, UpdateResult, UpsertResult
from .errors import ConfigurationError
from .health import HealthReport, RepairReport
from .registration import Registration
from .reservation import HasId, ReservedIds

__all__ = [
    "AsyncRows",
    "assign_ids",
    "bulk_delete",
    "bulk_insert",
    "bulk_sync",
    "bulk_update",
    "bulk_upsert",
    "check_sequences",
    "explain",
    "repair_sequences",
    "reserve_ids",
]


_T = TypeVar("_T")
_OfId = TypeVar("_OfId")

AsyncRows: TypeAlias = Rows | AsyncIterable[Mapping[str, Any]]
"""The same as :data:`sqla_seqreserve.bulk.Rows`, or an asynchronous iterable of mappings."""


@overload
async def reserve_ids(
    session_or_connection: AsyncSession | AsyncConnection, model: type[HasId[_OfId]], count: int
) -> ReservedIds[_OfId]: ...
@overload
async def reserve_ids(
    session_or_connection: AsyncSession | AsyncConnection, model: type[Any], count: int
) -> ReservedIds: ...
@overload
async def reserve_ids(
    session_or_connection: AsyncSession | AsyncConnection, model: Mapping[type[Any], int]
) -> dict[type[Any], ReservedIds]: ...
async def reserve_ids(
    session_or_connection: AsyncSession | AsyncConnection,
    model: Any,
    count: int | None = None,
) -> ReservedIds | dict[type[Any], ReservedIds]:
    """See :func:`sqla_seqreserve.reserve_ids`."""
    require_async("reserve_ids", session_or_connection)
    arguments: tuple[Any, ...] = (model,) if count is None else (model, count)
    found: ReservedIds | dict[type[Any], ReservedIds]
    found = await session_or_connection.run_sync(reservation.reserve_ids, *arguments)
    return found


async def assign_ids(session: AsyncSession, objects: Iterable[object]) -> None:
    """See :func:`sqla_seqreserve.assign_ids`."""
    require_async("assign_ids", session)
    await session.run_sync(reservation.assign_ids, objects)


@overload
async def bulk_insert(
    session: AsyncSession,
    model: type[_T],
    rows: AsyncRows,
    *,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
    returning: Literal["ids"] = "ids",
) -> ReservedIds: ...
@overload
async def bulk_insert(
    session: AsyncSession,
    model: type[_T],
    rows: AsyncRows,
    *,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
    returning: Literal["objects"],
) -> list[_T]: ...
@overload
async def bulk_insert(
    session: AsyncSession,
    model: type[_T],
    rows: AsyncRows,
    *,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
    returning: None,
) -> int: ...
async def bulk_insert(
    session: AsyncSession,
    model: type[_T],
    rows: AsyncRows,
    *,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
    returning: Any = "ids",
) -> ReservedIds | list[_T] | int:
    """See :func:`sqla_seqreserve.bulk_insert`; ``rows`` may also be an asynchronous iterable, which
    counts as a stream.
    """
    require_async("bulk_insert", session)
    found: ReservedIds | list[_T] | int = await session.run_sync(
        bulk.bulk_insert,
        model,
        _synchronous(rows),
        progress=progress,
        chunk_rows=chunk_rows,
        returning=returning,
    )
    return found


async def explain(
    registration: Registration,
    bind: AsyncEngine | AsyncConnection,
    classes: Iterable[type[Any]] | None = None,
) -> Sequence[Explanation]:
    """See :meth:`sqla_seqreserve.Registration.explain`.

    :raises ConfigurationError: ``bind`` is neither an ``AsyncEngine`` nor an ``AsyncConnection``.
    """
    if isinstance(bind, AsyncConnection):
        return await bind.run_sync(registration.explain, classes)
    if not isinstance(bind, AsyncEngine):
        raise ConfigurationError(
            f"aio.explain() takes an AsyncEngine or an AsyncConnection, found {bind!r}. Without "
            "asyncio: registration.explain(engine_or_connection)"
        )
    async with bind.connect() as connection:
        return await connection.run_sync(registration.explain, classes)


async def bulk_upsert(
    session: AsyncSession,
    model: type[_T],
    rows: AsyncRows,
    *,
    conflict: str | Iterable[str],
    update: str | Iterable[str] | None = None,
    where: ColumnElement[bool] | None = None,
    returning: Literal["ids", "objects"] | None = None,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
) -> UpsertResult[_T]:
    """See :func:`sqla_seqreserve.bulk_upsert`; ``rows`` may also be an asynchronous iterable."""
    require_async("bulk_upsert", session)
    return await session.run_sync(
        bulk.bulk_upsert,
        model,
        _synchronous(rows),
        conflict=conflict,
        update=update,
        where=where,
        returning=returning,
        progress=progress,
        chunk_rows=chunk_rows,
    )


async def bulk_update(
    session: AsyncSession,
    model: type[_T],
    rows: AsyncRows,
    *,
    key: str | Iterable[str] | None = None,
    columns: str | Iterable[str] | None = None,
    where: ColumnElement[bool] | None = None,
    returning: Literal["ids", "objects"] | None = None,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
) -> UpdateResult[_T]:
    """See :func:`sqla_seqreserve.bulk_update`; ``rows`` may also be an asynchronous iterable."""
    require_async("bulk_update", session)
    return await session.run_sync(
        bulk.bulk_update,
        model,
        _synchronous(rows),
        key=key,
        columns=columns,
        where=where,
        returning=returning,
        progress=progress,
        chunk_rows=chunk_rows,
    )


async def bulk_delete(
    session: AsyncSession,
    model: type[Any],
    keys: Iterable[Any] | AsyncIterable[Any],
    *,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
) -> int:
    """See :func:`sqla_seqreserve.bulk_delete`; ``keys`` may also be an asynchronous iterable."""
    require_async("bulk_delete", session)
    return await session.run_sync(
        bulk.bulk_delete, model, _synchronous(keys), progress=progress, chunk_rows=chunk_rows
    )


async def bulk_sync(
    session: AsyncSession,
    model: type[Any],
    rows: AsyncRows,
    *,
    key: str | Iterable[str],
    scope: ColumnElement[bool],
    update: str | Iterable[str] | None = None,
    dry_run: bool = False,
    progress: Callable[[int], object] | None = None,
    chunk_rows: int | None = None,
) -> SyncResult:
    """See :func:`sqla_seqreserve.bulk_sync`; ``rows`` may also be an asynchronous iterable."""
    require_async("bulk_sync", session)
    return await session.run_sync(
        bulk.bulk_sync,
        model,
        _synchronous(rows),
        key=key,
        scope=scope,
        update=update,
        dry_run=dry_run,
        progress=progress,
        chunk_rows=chunk_rows,
    )


async def check_sequences(
    session_or_connection: AsyncSession | AsyncConnection,
    source: Any,
    *,
    schemas: Sequence[str] | None = None,
    subscriber: bool = False,
) -> HealthReport:
    """See :func:`sqla_seqreserve.check_sequences`."""
    require_async("check_sequences", session_or_connection)
    return await session_or_connection.run_sync(
        health.check_sequences, source, schemas=schemas, subscriber=subscriber
    )


async def repair_sequences(
    session_or_connection: AsyncSession | AsyncConnection,
    source: Any,
    *,
    dry_run: bool = False,
    headroom: int = 0,
    lock_timeout: float = 5.0,
    schemas: Sequence[str] | None = None,
    allow_exhaustion: bool = False,
) -> RepairReport:
    """See :func:`sqla_seqreserve.repair_sequences`."""
    require_async("repair_sequences", session_or_connection)
    return await session_or_connection.run_sync(
        health.repair_sequences,
        source,
        dry_run=dry_run,
        headroom=headroom,
        lock_timeout=lock_timeout,
        schemas=schemas,
        allow_exhaustion=allow_exhaustion,
    )


def _synchronous(rows: Any) -> Any:
    """Return the rows as a synchronous iterable, for the code that SQLAlchemy runs in a
    greenlet.
    """
    return _awaited(rows) if isinstance(rows, AsyncIterable) else rows


def _awaited(rows: AsyncIterable[Any]) -> Iterator[Any]:
    iterator = aiter(rows)
    while True:
        try:
            yield await_only(anext(iterator))
        except StopAsyncIteration:
            return
