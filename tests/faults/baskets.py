"""The data that is saved while faults strike: each basket stores the number of its items, so that a
row that is lost, written twice or written alone shows afterwards.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Engine,
    ForeignKey,
    Identity,
    create_engine,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqla_seqreserve import check_sequences, register

__all__ = ["DRIVERS", "SIZES", "Base", "Basket", "Client", "Item", "Ledger", "Verdict", "judge"]

DRIVERS: Final = ("psycopg", "psycopg2", "asyncpg")
SIZES: Final = (1, 3, 60, 600)


class Base(DeclarativeBase):
    pass


class Basket(Base):
    """One transaction. Its number is not unique in the database, so that a basket that was saved
    twice shows.
    """

    __tablename__ = "basket"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    number: Mapped[int]
    size: Mapped[int]
    items: Mapped[list[Item]] = relationship()


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    basket_id: Mapped[int] = mapped_column(ForeignKey(Basket.id))
    position: Mapped[int]
    filling: Mapped[str]


@dataclass(slots=True)
class Ledger:
    """The saves that the clients of one fault tried, and their results."""

    attempted: int = 0
    rows: int = 0
    struck: int = 0
    saved: set[int] = field(default_factory=set)
    duplicate_keys: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def note(self, error: BaseException) -> None:
        """Count an error that a transaction failed with; an existing key counts as a
        duplicate too.
        """
        origin = getattr(error, "orig", None) or error
        code = getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)
        self.duplicate_keys += code == "23505"
        self.errors[f"{type(error).__name__} {code}" if code else type(error).__name__] += 1


class Client:
    """Saves baskets through one driver, on one connection of a pool, as an application would.

    :param chance: decides the number of rows and whether they go by COPY.
    :param settings: the settings for ``register()``.
    """

    def __init__(
        self, url: str, driver: str, chance: random.Random, ledger: Ledger, **settings: Any
    ) -> None:
        self._url = make_url(url).set(drivername=f"postgresql+{driver}")
        self.driver = driver
        self.ledger = ledger
        self._chance = chance
        self._settings = settings
        self._runner: asyncio.Runner | None = None
        self._async_engine: AsyncEngine | None = None
        self._engine: Engine | None = None
        if driver == "asyncpg":
            self._runner = asyncio.Runner()
            self._async_engine = create_async_engine(self._url, pool_size=1)
        else:
            self._engine = create_engine(self._url, pool_size=1)

    def basket(self, number: int, size: int | None = None) -> Basket:
        """Make a basket to save, and count it as attempted."""
        size = self._chance.choice(SIZES) if size is None else size
        self.ledger.attempted += 1
        self.ledger.rows += size + 1
        items = [Item(position=position, filling="x" * 50) for position in range(size)]
        return Basket(number=number, size=size, items=items)

    def save(self, number: int, size: int | None = None, first: str | None = None) -> None:
        """Save a basket in a transaction of its own, and note that it was committed.

        :param first: a statement to send first in the transaction.
        """
        basket = self.basket(number, size)
        settings = {"copy_min_rows": self._chance.choice((None, 1))} | self._settings
        if self._runner is not None:
            self._runner.run(self._save_async(basket, settings, first))
        else:
            with Session(self._engine) as session:
                register(session, **settings)
                if first is not None:
                    session.execute(text(first))
                session.add(basket)
                session.commit()
        self.ledger.saved.add(number)

    def try_to_save(self, number: int, size: int | None = None, first: str | None = None) -> bool:
        """Save a basket, and return whether it was committed; an error of the database or the
        driver is noted.
        """
        try:
            self.save(number, size, first)
        except (DBAPIError, OSError, asyncio.CancelledError) as error:
            self.ledger.note(error)
            if isinstance(error, DBAPIError) and error.statement is None:
                # A COMMIT that fails before it ends its transaction leaves the connection in the
                # transaction, and the pool lends the connection in that state
                # (findings/connection-after-failed-commit.sh).
                self.reconnect()
            return False
        return True

    async def _save_async(self, basket: Basket, settings: Any, first: str | None) -> None:
        async with AsyncSession(self._async_engine) as session:
            register(session, **settings)
            if first is not None:
                await session.execute(text(first))
            session.add(basket)
            await session.commit()

    def scalar(self, statement: str) -> Any:
        """Execute a query on the connection that the next save will use."""
        if self._engine is not None:
            with self._engine.connect() as connection:
                return connection.scalar(text(statement))
        assert self._runner is not None
        return self._runner.run(self._scalar_async(statement))

    async def _scalar_async(self, statement: str) -> Any:
        assert self._async_engine is not None
        async with self._async_engine.connect() as connection:
            return await connection.scalar(text(statement))

    def reconnect(self) -> None:
        """Close the connection, so that the next save opens another."""
        if self._engine is not None:
            self._engine.dispose()
        if self._runner is not None and self._async_engine is not None:
            self._runner.run(self._async_engine.dispose())

    def leave_to_the_parent(self) -> None:
        """In a forked process: forget the connections, which belong to the parent."""
        assert self._engine is not None
        self._engine.dispose(close=False)

    def close(self) -> None:
        self.reconnect()
        if self._runner is not None:
            self._runner.close()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The differences between the database and the results that the clients got."""

    lost: int
    duplicate: int
    half_written: int


def judge(url: str, ledger: Ledger) -> Verdict:
    """Wait until the clients' transactions have ended, and count the differences."""
    engine = create_engine(url)
    with Session(engine) as session:
        others = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            " AND state <> 'idle'"
        )
        for _ in itertools.takewhile(lambda _: session.scalar(text(others)), range(1000)):
            session.execute(text("SELECT pg_sleep(0.02)"))
            session.rollback()
        held = session.execute(
            select(
                Basket.number,
                Basket.size,
                func.count(Item.id),
                func.count(Item.position.distinct()),
            )
            .outerjoin(Item)
            .group_by(Basket.id)
        ).all()
        assert check_sequences(session, Base).healthy
    engine.dispose()
    numbers = Counter(number for number, _, _, _ in held)
    return Verdict(
        lost=len(ledger.saved - set(numbers)),
        duplicate=ledger.duplicate_keys
        + sum(times - 1 for times in numbers.values())
        + sum(rows - distinct for _, _, rows, distinct in held),
        half_written=sum(rows != size for _, size, rows, _ in held),
    )
