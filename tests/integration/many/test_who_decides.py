"""Which registration decides whether statements for many rows travel as one statement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from sqla_seqreserve import register

ROWS = 500


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item_of_many"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[int]


@pytest.fixture
def items(engine: Engine) -> Iterator[Engine]:
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            text(f"INSERT INTO item_of_many SELECT n, 0 FROM generate_series(1, {ROWS}) n")
        )
    return engine


def travels_together(session: Session, engine: Engine) -> bool:
    """Execute an UPDATE for many rows; return whether the server got one statement for them."""
    session.execute(update(Item), [{"id": n, "price": n} for n in range(1, ROWS + 1)])
    driver: Any = session.connection().connection.dbapi_connection
    query = text("SELECT query FROM pg_stat_activity WHERE pid = :pid")
    with engine.connect() as other:
        last = other.scalar(query, {"pid": driver.info.backend_pid})
    session.rollback()
    return "unnest" in str(last)


@pytest.mark.parametrize("factory_first", [False, True])
@pytest.mark.parametrize("mode", ["off", "reserve"])
def test_the_most_specific_registration_decides(
    items: Engine, mode: Any, factory_first: bool
) -> None:
    """Of a factory and the class of its sessions the factory decides, and of a factory and a
    session the session, in whatever order they were registered.
    """
    for less, more in (("bulk", mode), (mode, "bulk")):
        own = type("OwnSession", (Session,), {})
        factory = sessionmaker(items, class_=own)
        targets: list[tuple[Any, Any]] = [(own, less), (factory, more)]
        for target, its in reversed(targets) if factory_first else targets:
            register(target, mode=its)
        with factory() as session:
            assert travels_together(session, items) is (more == "bulk")
            with session.begin_nested():
                pass
            assert travels_together(session, items) is (more == "bulk")
        with factory() as session:
            register(session, mode=less)
            assert travels_together(session, items) is (less == "bulk")


def test_a_connection_that_is_kept_is_left_alone(items: Engine) -> None:
    """After unregister(), a plain session on the same Connection is not concerned."""
    factory = sessionmaker()
    registration = register(factory)
    with items.connect() as connection:
        with factory(bind=connection) as session:
            assert travels_together(session, items)
        registration.unregister()
        assert registration.mode == "off"
        with Session(connection) as session:
            assert not travels_together(session, items)


def test_a_registry_and_its_factory_are_one_target(items: Engine) -> None:
    """Registering a scoped session and its factory gives one registration, with the new
    settings.
    """
    factory = sessionmaker(items)
    registration = register(factory)
    assert register(scoped_session(factory), mode="off") is registration
    assert registration.mode == "off"
    with factory() as session:
        assert not travels_together(session, items)
