"""Connections that the server has ended: the next save raises the error that plain SQLAlchemy
raises.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from fixtures.twins import Twins, describe_error, prepared
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

EACH_DRIVER = pytest.mark.parametrize("twins", ["psycopg", "psycopg2", "asyncpg"], indirect=True)


class Base(DeclarativeBase):
    pass


class Group(Base):
    __tablename__ = "group"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Member(Base):
    __tablename__ = "member"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


SAVED: list[Callable[[], list[Any]]] = [
    lambda: [Group(name="a")],
    lambda: [Group(name="a"), Member(name="a"), Member(name="b")],
    lambda: [Member(name=str(number)) for number in range(60)],
]


@EACH_DRIVER
def test_a_connection_that_the_server_has_ended(twins: Twins) -> None:
    """If the server has ended an idle connection, the next save raises the error with which the
    server said why, whether it writes new objects or changed ones.
    """

    def trial(engine: Engine, factory: sessionmaker[Session]) -> Any:
        found = []
        for make, changes in product(SAVED, (False, True)):
            with factory(expire_on_commit=False) as session:
                for _ in range(2):
                    kept = make()
                    session.add_all(kept)
                    session.commit()
                pid = session.scalar(text("SELECT pg_backend_pid()"))
                session.rollback()
                end(engine, pid)
                if changes:
                    for item in kept:
                        item.name = "changed"
                else:
                    session.add_all(make())
                with pytest.raises(DBAPIError) as ended:
                    session.commit()
                found.append(describe_error(ended.value))
        return found

    plain = trial(twins.plain, prepared(twins.plain, Base, None))
    for settings in ({}, {"copy_min_rows": 1}):
        assert trial(twins.ours, prepared(twins.ours, Base, settings)) == plain


def end(engine: Engine, pid: int) -> None:
    """End a backend, and wait until it is gone."""
    url = engine.url.set(drivername="postgresql+psycopg")
    with create_engine(url, poolclass=NullPool).connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
