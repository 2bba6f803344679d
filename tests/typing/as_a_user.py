"""Code as a user writes it, for mypy --strict; none of it is run.

``assert_type`` names the type that a call returns. Each line with a ``type: ignore`` must be an
error.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, assert_type

from sqlalchemy import Connection, Engine
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from sqla_seqreserve import (
    Explanation,
    FlushEntry,
    FlushReport,
    Registration,
    ReservedIds,
    SyncResult,
    UpdateResult,
    UpsertResult,
    aio,
    assign_ids,
    bulk_delete,
    bulk_insert,
    bulk_sync,
    bulk_update,
    bulk_upsert,
    register,
    reserve_ids,
)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)


class Document(Base):
    __tablename__ = "document"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default="gen_random_uuid()")


class Invoice(Base):
    __tablename__ = "invoice"
    number: Mapped[int] = mapped_column(primary_key=True)


def reservation(session: Session, scoped: scoped_session[Session], connection: Connection) -> None:
    ids = reserve_ids(session, Order, 50)
    assert_type(ids, ReservedIds[int])
    assert_type(ids[0], int)
    assert_type(ids[1:], ReservedIds[int])
    for number in ids:
        assert_type(number, int)
    as_sequence: Sequence[int] = ids
    assert_type(len(as_sequence), int)
    assert_type(reserve_ids(session, Document, 1)[0], uuid.UUID)
    # Only the mapping knows the type of a key with another name.
    numbers: ReservedIds[int] = reserve_ids(session, Invoice, 50)
    assert_type(numbers[0], int)
    assert_type(reserve_ids(session, Invoice, 50), ReservedIds)
    several = reserve_ids(connection, {Order: 50, Item: 20})
    assert_type(several[Order], ReservedIds)
    assert_type(reserve_ids(scoped, Order, 1), ReservedIds[int])
    assign_ids(session, [Order(), Item()])
    assign_ids(scoped, (Order() for _ in range(3)))

    reserve_ids(session, Order)  # type: ignore[call-overload]  # no count
    reserve_ids(session, {Order: 1}, 1)  # type: ignore[call-overload]  # two counts
    reserve_ids(session, Order(), 1)  # type: ignore[call-overload]  # an object
    reserve_ids(session, Order, "1")  # type: ignore[call-overload]  # not a number
    ids[0] = 1  # type: ignore[index]  # immutable


class Column:
    """An array as in numpy."""

    def tolist(self) -> list[int]:
        return [1]


class Columns:
    """A table as in pyarrow."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return None


def inserting(session: Session, rows: Iterator[dict[str, Any]]) -> None:
    assert_type(bulk_insert(session, Order, [{"id": 1}]), ReservedIds)
    assert_type(bulk_insert(session, Order, rows, returning="objects"), list[Order])
    assert_type(bulk_insert(session, Order, rows, returning=None, chunk_rows=1000), int)
    bulk_insert(session, Order, {"id": [1, 2]}, returning=None, progress=print)

    bulk_insert(session, Order, Columns(), returning=None)
    bulk_insert(session, Order, {"id": Column()}, returning=None)
    bulk_insert(session, Order, 5)  # type: ignore[call-overload]  # no rows
    bulk_insert(session, Order, [1, 2])  # type: ignore[list-item]  # rows that are none
    bulk_insert(session, Order, rows, returning="rows")  # type: ignore[call-overload]  # no such thing
    bulk_insert(session, Order(), rows)  # type: ignore[call-overload]  # an object


def upserting(session: Session, rows: Iterator[dict[str, Any]]) -> None:
    done = bulk_upsert(session, Order, rows, conflict=["id"])
    assert_type(done, UpsertResult[Order])
    assert_type(done.inserted + done.updated + done.unchanged, int)
    assert_type(done.ids, ReservedIds)
    bulk_upsert(session, Order, rows, conflict="orders_pkey", update=(), returning="ids")
    excluded = insert(Order).excluded
    assert_type(
        bulk_upsert(
            session, Order, rows, conflict="id", where=Order.id < excluded.id, returning="objects"
        ).objects,
        list[Order],
    )

    bulk_upsert(session, Order, rows)  # type: ignore[call-arg]  # which rows are the same?
    bulk_upsert(session, Order, rows, ["id"])  # type: ignore[call-arg]  # options are keywords
    bulk_upsert(session, Order, rows, conflict=1)  # type: ignore[arg-type]  # no name
    done.inserted = 1  # type: ignore[misc]  # frozen


def changing(session: Session, rows: Iterator[dict[str, Any]]) -> None:
    done = bulk_update(session, Order, rows, key="id", where=Order.id > 1, returning="objects")
    assert_type(done, UpdateResult[Order])
    assert_type(done.updated + done.unchanged, int)
    assert_type(done.missing, tuple[int, ...])
    assert_type(done.objects, list[Order | None])
    assert_type(bulk_delete(session, Order, [1, 2], progress=print), int)
    assert_type(bulk_delete(session, Order, reserve_ids(session, Order, 2)), int)
    assert_type(bulk_sync(session, Order, rows, key="id", scope=Order.id > 1), SyncResult)

    bulk_update(session, Order, rows, ["id"])  # type: ignore[call-arg]  # options are keywords
    bulk_delete(session, Order, 1)  # type: ignore[arg-type]  # one key
    bulk_sync(session, Order, rows, key="id")  # type: ignore[call-arg]  # of which rows?


async def asynchronously(session: AsyncSession) -> None:
    await session.run_sync(lambda sync: assign_ids(sync, [Order()]))
    ids = await session.run_sync(lambda sync: reserve_ids(sync, Order, 50))
    assert_type(ids, ReservedIds[int])
    assert_type(await aio.reserve_ids(session, Order, 50), ReservedIds[int])
    reserve_ids(session, Order, 1)  # type: ignore[call-overload]  # goes through run_sync()

    async def rows() -> AsyncIterator[dict[str, Any]]:
        yield {"id": 1}

    assert_type(await aio.bulk_insert(session, Order, rows(), returning=None), int)
    assert_type(await aio.bulk_upsert(session, Order, rows(), conflict="id"), UpsertResult[Order])
    assert_type(await aio.bulk_update(session, Order, rows()), UpdateResult[Order])
    assert_type(await aio.bulk_delete(session, Order, [1]), int)
    scope = Order.id > 1
    assert_type(await aio.bulk_sync(session, Order, rows(), key="id", scope=scope), SyncResult)


def registration(engine: Engine) -> None:
    maker = sessionmaker(engine)
    registered = register(maker, classes=[Base], mode="bulk", copy_min_rows=1)
    assert_type(registered, Registration)
    register(Session)
    register(AsyncSession)
    register(scoped_session(maker))
    register(async_sessionmaker())
    registered.mode = "reserve"
    registered.mode = "fast"  # type: ignore[assignment]  # no such mode
    register(maker, mode="fast")  # type: ignore[arg-type]  # no such mode
    register(maker, None, "bulk")  # type: ignore[call-arg]  # options are keywords

    def on_flush(report: FlushReport) -> None:
        for entry in report.entries:
            assert_type(entry, FlushEntry)
            assert_type(entry.rows, int)
            assert_type(entry.reason, str | None)
        report.entries = ()  # type: ignore[misc]  # frozen

    remove = registered.on_flush(on_flush)
    assert_type(remove, Callable[[], None])
    registered.on_flush(print)
    explained = registered.explain(engine, [Order])
    assert_type(explained[0], Explanation)
    assert_type(explained[0].sequence, str | None)
    registered.unregister()
