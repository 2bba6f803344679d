"""What is saved below an agent: few rows and many, in a plain session and in registered ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import ForeignKey, create_engine, func, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import register

WAYS: dict[str, dict[str, Any]] = {
    # asyncpg prepares a statement when it comes first, which some agents show too.
    "warm": {"mode": "off"},
    "plain": {"mode": "off"},
    "default": {},
    "always": {"reserve": "always"},
    "copy": {"copy_min_rows": 1},
}
FEW = ((1, 0), (3, 0), (1, 2), (2, 2), (1, 0))
MANY = ((1100, 0), (200, 2), (1, 0))


class Base(DeclarativeBase):
    pass


class Basket(Base):
    __tablename__ = "basket"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    eggs: Mapped[list[Egg]] = relationship()


class Egg(Base):
    __tablename__ = "egg"
    id: Mapped[int] = mapped_column(primary_key=True)
    basket_id: Mapped[int] = mapped_column(ForeignKey("basket.id"))


def _save(session: Session, batches: tuple[tuple[int, int], ...]) -> None:
    for baskets, eggs in batches:
        session.add_all(
            Basket(number=number, eggs=[Egg() for _ in range(eggs)]) for number in range(baskets)
        )
        session.commit()


def _save_a_way(
    session: Session,
    settings: dict[str, Any],
    request: Callable[[], AbstractContextManager[Any]],
) -> dict[str, Any]:
    session.execute(text("TRUNCATE basket, egg"))
    session.commit()
    register(session, **settings)
    with request() as few:
        _save(session, FEW)
    with request() as many:
        _save(session, MANY)
    rows = [session.scalar(select(func.count()).select_from(cls)) for cls in (Basket, Egg)]
    return {"few": few, "many": many, "rows": rows}


def save_each_way(
    driver: str, given: str, request: Callable[[], AbstractContextManager[Any]]
) -> dict[str, Any]:
    """What was recorded and stored of each way.

    :param request: what an agent records between its begin and its end is in its value then.
    """
    url = make_url(given).set(drivername=f"postgresql+{driver.removesuffix('_async')}")
    found: dict[str, Any] = {}

    async def in_async() -> None:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        for name, settings in WAYS.items():
            async with AsyncSession(engine) as session:
                found[name] = await session.run_sync(_save_a_way, settings, request)
        await engine.dispose()

    if driver in ("psycopg_async", "asyncpg"):
        asyncio.run(in_async())
        return found
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    for name, settings in WAYS.items():
        with Session(engine) as session:
            found[name] = _save_a_way(session, settings, request)
    engine.dispose()
    return found
