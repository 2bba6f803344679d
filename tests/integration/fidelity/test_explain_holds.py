"""``explain()`` says what the next flush does: compared with the report of that flush."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from fixtures.least_role import EVERYTHING, ROLE
from fixtures.least_role import role as role
from fixtures.sides import WAYS, Side, both
from sqlalchemy import Identity, String, func, text
from sqlalchemy import Sequence as DatabaseSequence
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import aio, register

COPY = WAYS[3]


class Base(DeclarativeBase):
    pass


class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class ByExpression(Base):
    __tablename__ = "by_expression"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(default=func.upper("computed"))


class ByServer(Base):
    __tablename__ = "by_server"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    name: Mapped[str | None]


class Declared(Base):
    __tablename__ = "declared"
    id: Mapped[int] = mapped_column(DatabaseSequence("declared_seq"), primary_key=True)
    name: Mapped[str | None]


class Always(Base):
    __tablename__ = "always"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    name: Mapped[str | None]


class Narrow(Base):
    __tablename__ = "narrow"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(3))


CHANGES: dict[str, tuple[type[Any], Sequence[str]]] = {
    "nothing": (Plain, ()),
    "SQL default": (ByExpression, ()),
    "keys of the server's": (ByServer, ()),
    "always": (Always, ()),
    "row security": (Plain, ["ALTER TABLE plain ENABLE ROW LEVEL SECURITY"]),
    "a rule": (Plain, ["CREATE RULE r AS ON INSERT TO plain DO ALSO NOTHING"]),
    "another type": (Plain, ["ALTER TABLE plain ALTER name TYPE bytea USING NULL"]),
    "another size": (Narrow, ["ALTER TABLE narrow ALTER name TYPE text"]),
    "a trigger": (
        Plain,
        [
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "CREATE TRIGGER t BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION keep()",
        ],
    ),
    "a table dropped": (Plain, ["DROP TABLE plain"]),
    "a sequence dropped": (Declared, ["DROP SEQUENCE declared_seq"]),
    "a sequence dropped with its default": (Plain, ["DROP SEQUENCE plain_id_seq CASCADE"]),
}


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("role")
def test_the_next_flush_is_told(twin_urls: tuple[str, str], change: str, warm: bool) -> None:
    """After a change explain() says what the next flush does, because it reads the facts again."""
    model, statements = CHANGES[change]

    def trial(side: Side) -> Any:
        if not side.registered:
            return None

        def save(session: Session) -> None:
            # explain() describes what an object leaves to a default.
            names = [{} if model is ByExpression else {"name": f"{i}"} for i in range(20)]
            session.add_all([model(**name) for name in names])
            session.commit()

        def ask(session: Session) -> Any:
            [told] = register(session, **side.way.settings).explain(session.connection(), [model])
            return told.path, told.reason

        if warm:
            side.run(save)
            side.run(ask)
        side.execute(*statements)
        side.reports.clear()
        path, reason = side.run(ask)
        try:
            side.run(save)
        except SQLAlchemyError:
            assert path != "copy" or reason, "explain() promised COPY, and the flush failed"
            return None
        [(writer, _)] = side.writers()
        assert (path == "copy") == (writer == "copy"), (path, reason, side.writers())
        return None

    # The owner of the tables is a superuser, to whom no policy applies.
    secured = {"ddl": EVERYTHING, "role": ROLE} if change == "row security" else {}
    both(twin_urls, Base, trial, way=COPY, **secured)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_an_async_engine_or_connection(twin_urls: tuple[str, str], driver: str) -> None:
    """aio.explain() takes an asynchronous engine or connection."""
    both(twin_urls, Base, lambda side: None)
    url = twin_urls[1].replace("+psycopg", f"+{driver}")
    engine = create_async_engine(url)
    registration = register(type("Mine", (Session,), {}), copy_min_rows=1)
    [of_engine] = await aio.explain(registration, engine, [Plain])
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        [of_connection] = await aio.explain(registration, connection, [Plain])
    await engine.dispose()
    assert of_engine == of_connection
    assert of_engine.model is Plain
