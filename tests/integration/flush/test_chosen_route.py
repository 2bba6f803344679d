"""The route of a flush, seen from outside: keys in listeners, and round trips on the wire."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from fixtures.shop import Customer, Order, Tag
from sqlalchemy import Engine, ForeignKey, create_engine, event
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import FlushReport, register
from sqla_seqreserve.testing import round_trips


def test_a_listener_before_the_insert_sees_the_key(shop: Engine) -> None:
    """A ``before_insert`` listener sees the object's key, with the default settings."""
    seen: list[int | None] = []

    def look(_mapper: Any, _connection: Any, tag: Tag) -> None:
        seen.append(tag.id)

    event.listen(Tag, "before_insert", look)
    try:
        with Session(shop) as session:
            reports: list[FlushReport] = []
            register(session).on_flush(reports.append)
            tags = [Tag(word="a"), Tag(word="b")]
            session.add_all(tags)
            session.commit()
            assert seen == [tag.id for tag in tags]
    finally:
        event.remove(Tag, "before_insert", look)
    assert [entry.reserved for entry in reports[0].entries] == [2]


@pytest.mark.parametrize(
    ("settings", "reserved"), [({}, 0), ({"reserve": "always"}, 1), ({"mode": "reserve"}, 1)]
)
def test_keys_are_reserved_where_that_is_asked_for(
    shop: Engine, settings: dict[str, Any], reserved: int
) -> None:
    """One object of one class reserves its key only with reserve="always" or mode="reserve"."""
    with Session(shop) as session:
        reports: list[FlushReport] = []
        register(session, **settings).on_flush(reports.append)
        session.add(Tag(word="a"))
        session.commit()
    assert [entry.reserved for entry in reports[0].entries] == [reserved]


def one_class() -> list[Any]:
    return [Tag(word="a")]


def three_classes() -> list[Any]:
    return [Tag(word="a"), Customer(email="a", orders=[Order(number=1)])]


def waits(url: Any, driver: str, objects: Any, *, ours: bool) -> int:
    """The round trips of a warm engine's add_all and commit in a new transaction."""
    with round_trips(url, round_trip_time=0.002) as wire:
        engine = create_engine(wire.url.set(drivername=f"postgresql+{driver}"))
        for time in (1, 2, 3, 4):
            with Session(engine) as session:
                session.query(Order).delete()
                session.query(Customer).delete()
                session.commit()
            # Those before are not counted, which takes 20 ms a message.
            counting = contextlib.nullcontext() if time < 4 else wire.counting()
            with counting as count, Session(engine) as session:
                if ours:
                    register(session)
                session.add_all(objects())
                session.commit()
        engine.dispose()
    assert count is not None
    print(count)  # a failure lists the messages
    return count.round_trips


class Colours(DeclarativeBase):
    pass


class Red(Colours):
    __tablename__ = "red"
    id: Mapped[int] = mapped_column(primary_key=True)


class Green(Colours):
    __tablename__ = "green"
    id: Mapped[int] = mapped_column(primary_key=True)


class Blue(Colours):
    __tablename__ = "blue"
    id: Mapped[int] = mapped_column(primary_key=True)
    red_id: Mapped[int] = mapped_column(ForeignKey("red.id"))
    red: Mapped[Red] = relationship()


def three_colours() -> list[Any]:
    return [Green(), Blue(red=Red())]


@pytest.mark.usefixtures("commits_pay")
@pytest.mark.parametrize(("objects", "expected"), [(one_class, 1), (three_colours, 2)])
def test_psycopg_waits_for_one_or_two(shop: Engine, objects: Any, expected: int) -> None:
    """On psycopg BEGIN, INSERT and COMMIT are one message for one class; several classes take one
    message of BEGIN and keys, and a second of every INSERT and the COMMIT.
    """
    Colours.metadata.create_all(shop)
    assert waits(shop.url, "psycopg", objects, ours=True) == expected


@pytest.mark.parametrize("objects", [one_class, three_classes])
def test_psycopg2_waits_no_more_often_than_plain(shop: Engine, objects: Any) -> None:
    """On psycopg2 registering a session costs no round trip."""
    ours = waits(shop.url, "psycopg2", objects, ours=True)
    assert ours <= waits(shop.url, "psycopg2", objects, ours=False)


@pytest.mark.parametrize("objects", [one_class, three_classes])
async def test_asyncpg_waits_no_more_often_than_plain(shop: Engine, objects: Any) -> None:
    """On asyncpg registering a session costs no round trip."""
    found = []
    for ours in (True, False):
        with round_trips(shop.url, round_trip_time=0.002) as wire:
            engine = create_async_engine(wire.url.set(drivername="postgresql+asyncpg"))
            for time in (1, 2, 3):
                with contextlib.nullcontext() if time < 3 else wire.counting() as count:
                    async with AsyncSession(engine) as session:
                        if ours:
                            register(session)
                        session.add_all(objects())
                        await session.flush()
                        await session.rollback()
            await engine.dispose()
        assert count is not None
        found.append(count.round_trips)
    assert found[0] <= found[1]
