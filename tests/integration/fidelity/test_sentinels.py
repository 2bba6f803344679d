"""A column made by ``insert_sentinel()`` holds the numbers that plain SQLAlchemy writes into it: it
counts the rows of each INSERT that returns keys.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from fixtures.sides import DRIVERS, SYNC_DRIVERS, WAYS, Side, Way, both
from sqlalchemy import Computed, ForeignKey, bindparam, event, insert, inspect
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    orm_insert_sentinel,
    relationship,
)

COPY, BULK = WAYS[3], WAYS[6]

Rows = Callable[[int], list[dict[str, Any]]]


class Base(DeclarativeBase):
    pass


class Keyed(Base):
    """As the models of Advanced Alchemy are: a key made in Python, and a sentinel."""

    __tablename__ = "keyed"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    sa_orm_sentinel: Mapped[int | None] = orm_insert_sentinel()
    name: Mapped[str]
    state: Mapped[str | None] = mapped_column(server_default="new")
    kind: Mapped[int] = mapped_column(default=7)


class Pair(Base):
    """A key of two columns, one of which the rows give."""

    __tablename__ = "pair"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    part: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    mark: Mapped[int | None] = orm_insert_sentinel()


class Node(Base):
    """A tree, whose rows SQLAlchemy writes generation by generation."""

    __tablename__ = "node"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    parent_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("node.id"))
    name: Mapped[str]
    mark: Mapped[int | None] = orm_insert_sentinel()
    parent: Mapped[Node | None] = relationship(remote_side=id)


class Animal(Base):
    """A hierarchy in one table, of whose classes one INSERT writes rows."""

    __tablename__ = "animal"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    type: Mapped[str]
    name: Mapped[str]
    mark: Mapped[int | None] = orm_insert_sentinel()
    __mapper_args__ = {"polymorphic_on": "type", "polymorphic_identity": "animal"}


class Cat(Animal):
    __mapper_args__ = {"polymorphic_identity": "cat"}


class Vehicle(Base):
    """A hierarchy in two tables, of which the second has the sentinel."""

    __tablename__ = "vehicle"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    type: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "type", "polymorphic_identity": "vehicle"}


class Car(Vehicle):
    __tablename__ = "car"
    id: Mapped[uuid.UUID] = mapped_column(ForeignKey("vehicle.id"), primary_key=True)
    name: Mapped[str]
    state: Mapped[str | None] = mapped_column(server_default="new")
    mark: Mapped[int | None] = orm_insert_sentinel()
    __mapper_args__ = {"polymorphic_identity": "car"}


class Versioned(Base):
    __tablename__ = "versioned"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str]
    version: Mapped[int] = mapped_column()
    mark: Mapped[int | None] = orm_insert_sentinel()
    __mapper_args__ = {"version_id_col": version}


class Doubled(Base):
    """A column that the database computes, which an INSERT returns."""

    __tablename__ = "doubled"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str]
    twice: Mapped[str] = mapped_column(Computed("name || name"))
    mark: Mapped[int | None] = orm_insert_sentinel()


def alike(rows: int) -> list[dict[str, Any]]:
    return [{"name": str(n)} for n in range(rows)]


def some_give_keys(rows: int) -> list[dict[str, Any]]:
    return [{**row, **({"id": uuid.UUID(int=n)} if n % 3 else {})} for n, row in _numbered(rows)]


def all_give_keys(rows: int) -> list[dict[str, Any]]:
    return [{**row, "id": uuid.UUID(int=n)} for n, row in _numbered(rows)]


def some_give_a_default(rows: int) -> list[dict[str, Any]]:
    return [{**row, **({"kind": 8} if n > rows // 2 else {})} for n, row in _numbered(rows)]


def some_give_what_the_server_fills(rows: int) -> list[dict[str, Any]]:
    return [{**row, **({"state": "old"} if n > rows // 2 else {})} for n, row in _numbered(rows)]


def all_give_all(rows: int) -> list[dict[str, Any]]:
    return [{**row, "state": "old", "kind": 8} for _, row in _numbered(rows)]


def _numbered(rows: int) -> list[tuple[int, dict[str, Any]]]:
    return list(enumerate(alike(rows)))


def marks(side: Side, model: type[Any]) -> list[tuple[Any, ...]]:
    [mark] = (c.name for c in inspect(model).local_table.c if c.name in {"mark", "sa_orm_sentinel"})
    return side.rows(f"SELECT name, {mark} FROM {model.__tablename__} ORDER BY name::int")


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(
    "rows_of",
    [
        alike,
        some_give_keys,
        all_give_keys,
        some_give_a_default,
        some_give_what_the_server_fills,
        all_give_all,
    ],
)
def test_sentinels_of_rows(
    twin_urls: tuple[str, str], rows_of: Rows, way: Way, driver: str
) -> None:
    """Whatever the rows give, they get the sentinels of plain SQLAlchemy's statements."""
    if way.as_mappings and rows_of is not alike:
        pytest.skip("plain SQLAlchemy groups mappings otherwise than objects")

    def trial(side: Side) -> Any:
        side.run(lambda s: (side.write(s, Keyed, rows_of(way.rows)), s.commit()))
        return marks(side, Keyed)

    both(twin_urls, Base, trial, way=way, driver=driver)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("model", [Keyed, Versioned, Doubled])
def test_rows_without_keys_go_by_copy(
    twin_urls: tuple[str, str], model: type[Any], driver: str
) -> None:
    """Where one INSERT would count all rows, COPY writes them, and objects are left alike."""

    def trial(side: Side) -> Any:
        def writing(session: Session) -> list[Any]:
            items = [model(**row) for row in alike(20)]
            session.add_all(items)
            session.flush()
            left = [sorted(k for k in vars(item) if k[0] != "_") for item in items]
            session.commit()
            return left

        left = side.run(writing)
        if side.registered:
            assert side.writers() == {("copy", None)}
        return left, marks(side, model)

    _, found = both(twin_urls, Base, trial, driver=driver)
    assert found == [(str(n), n) for n in range(20)]


@pytest.mark.parametrize("driver", DRIVERS)
def test_mappings_without_keys_go_by_copy(twin_urls: tuple[str, str], driver: str) -> None:
    """``bulk_insert`` writes them by COPY, with the numbers of an INSERT that returns keys."""

    def trial(side: Side) -> Any:
        def writing(session: Session) -> list[str]:
            statements: list[str] = []
            event.listen(
                session.connection(), "before_cursor_execute", lambda *a: statements.append(a[2])
            )
            side.write(session, Keyed, alike(1200))
            session.commit()
            return statements

        statements = side.run(writing)
        if side.registered:
            assert any(statement.startswith("COPY keyed") for statement in statements)
        return marks(side, Keyed)

    both(twin_urls, Base, trial, way=BULK, driver=driver)


@pytest.mark.parametrize("driver", SYNC_DRIVERS)
def test_values_that_copy_refuses(twin_urls: tuple[str, str], driver: str) -> None:
    """If a value keeps COPY away, the INSERT in its place writes the same sentinels."""

    def trial(side: Side) -> Any:
        def writing(session: Session) -> None:
            session.add_all(Keyed(name=str(n), kind=n + 0.5) for n in range(20))
            session.commit()

        side.run(writing)
        if side.registered:
            [(writer, reason)] = side.writers()
            assert writer == "orm"
            assert reason is not None
            assert "kind" in reason
        return marks(side, Keyed)

    both(twin_urls, Base, trial, driver=driver)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", [WAYS[2], COPY], ids=str)
def test_sentinels_of_several_statements(twin_urls: tuple[str, str], way: Way, driver: str) -> None:
    """Rows that plain SQLAlchemy writes by several statements, or with rows of other classes, are
    counted as there.
    """

    def trial(side: Side) -> Any:
        def writing(session: Session) -> None:
            tops = [Node(name=str(n)) for n in range(20)]
            session.add_all([*tops, *(Node(name=str(n + 20), parent=tops[n]) for n in range(20))])
            kinds = [Animal, Cat, Cat]
            session.add_all(kinds[n % 3](name=str(n)) for n in range(40))
            session.add_all(Car(name=str(n)) for n in range(40))
            session.add_all(Pair(name=str(n), part=n) for n in range(40))
            session.flush()
            session.add_all(Keyed(name=str(n)) for n in range(20))
            session.commit()

        side.run(writing)
        return [marks(side, model) for model in (Node, Animal, Car, Pair, Keyed)]

    both(twin_urls, Base, trial, way=way, driver=driver)


@pytest.mark.parametrize("driver", DRIVERS)
def test_statements_of_the_application(twin_urls: tuple[str, str], driver: str) -> None:
    """INSERTs that the session executes with rows count as ever."""

    def trial(side: Side) -> Any:
        def writing(session: Session) -> None:
            session.execute(insert(Keyed), alike(20))
            session.execute(
                insert(Keyed).values(name=bindparam("name")).returning(Keyed.id),
                [{"name": str(n)} for n in range(20, 40)],
            )
            session.bulk_save_objects([Keyed(name=str(n)) for n in range(40, 60)])
            session.commit()

        side.run(writing)
        return marks(side, Keyed)

    both(twin_urls, Base, trial, driver=driver)
