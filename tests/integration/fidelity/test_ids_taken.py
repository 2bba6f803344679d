"""The number of ids that a save takes from its sequences: one for each row, whatever its values are
and however its tables were altered.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from fixtures.sides import Side, Way, prepared
from sqlalchemy import Float, ForeignKey, Integer, Uuid, literal, text
from sqlalchemy.dialects.postgresql import BIT, OID
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_insert

DRIVERS = ["psycopg", "psycopg2", "asyncpg"]
FRESH = text("gen_random_uuid()")
COPY = Way("copy", {"copy_min_rows": 1})


class Base(DeclarativeBase):
    pass


class Vehicle(Base):
    __tablename__ = "vehicle"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str | None]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}


class Car(Vehicle):
    __tablename__ = "car"
    id: Mapped[int] = mapped_column(ForeignKey("vehicle.id"), primary_key=True)
    seats: Mapped[int | None]
    __mapper_args__ = {"polymorphic_identity": "car"}


class Badge(Base):
    """Its key comes from a default that is evaluated beforehand."""

    __tablename__ = "badge"
    id: Mapped[Any] = mapped_column(
        Uuid, primary_key=True, server_default=text("gen_random_uuid()")
    )
    name: Mapped[str | None]


class Number(Base):
    __tablename__ = "number"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Valued(Base):
    """Columns with values that COPY cannot write."""

    __tablename__ = "valued"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    number: Mapped[Any] = mapped_column(Integer, nullable=True)
    ratio: Mapped[Any] = mapped_column(Float, nullable=True)
    oid: Mapped[Any] = mapped_column(OID, nullable=True)
    bits: Mapped[Any] = mapped_column(BIT(3), nullable=True)
    state: Mapped[str | None] = mapped_column(server_default="new")


VALUES = {
    "enumerated": {"number": Level.HIGH},
    "bool": {"number": True},
    "decimal": {"number": Decimal(3)},
    "float": {"number": 3.0},
    "half": {"number": 1.5},
    "bits": {"bits": "1"},
    "ratio": {"ratio": Decimal("0.5")},
    "oid": {"oid": 70_000},
    "expression": {"number": literal(3)},
}


REFUSED = {"float", "half", "decimal", "bool", "enumerated", "ratio", "bits"}
"""Values that plain SQLAlchemy refuses on some of the drivers."""


@pytest.fixture(params=DRIVERS)
def side(request: pytest.FixtureRequest, twin_urls: tuple[str, str]) -> Iterator[Side]:
    """One database through each driver, with COPY even for one row."""
    with prepared(
        twin_urls[1], COPY, Base, [], registered=True, driver=request.param
    ) as registered:
        yield registered


def save(side: Side, *models: type[Any], count: int = 2) -> list[list[Any]]:
    """Save objects of these classes in one flush, and return the keys of each class."""

    def saving(session: Session) -> list[list[Any]]:
        items = [[model(name=str(n)) for n in range(count)] for model in models]
        session.add_all(item for some in items for item in some)
        session.flush()
        keys = [[item.id for item in some] for some in items]
        session.commit()
        return keys

    return side.run(saving)


def last_ids(side: Side, *tables: str) -> Sequence[int]:
    return [side.rows(f"SELECT last_value FROM {table}_id_seq")[0][0] for table in tables]


@pytest.mark.parametrize("anew", [[], ["car"], ["car", "vehicle"]], ids=len)
def test_tables_of_a_hierarchy_that_were_made_anew(side: Side, anew: list[str]) -> None:
    """The first save into a joined hierarchy takes one id per row, whichever of its tables were
    dropped and created again before one got another column.
    """
    first = 1 if "vehicle" in anew else 3
    save(side, Car)
    side.execute(*(f"DROP TABLE {table}" for table in anew))
    with side.beside() as connection:
        Base.metadata.create_all(connection)
        connection.commit()
    side.execute("ALTER TABLE car ADD more int")
    assert save(side, Car) == [[first, first + 1]]
    assert last_ids(side, "vehicle") == [first + 1]
    assert side.writers() == {("copy", None)}


@pytest.mark.parametrize("altered", ["number", "vehicle", "badge"])
def test_one_of_several_tables_was_altered(side: Side, altered: str) -> None:
    """If one table of a flush has been altered, no other class loses ids."""
    save(side, Number, Vehicle, Badge)
    side.execute(f"ALTER TABLE {altered} ADD more int")
    assert save(side, Number, Vehicle, Badge)[:2] == [[3, 4], [3, 4]]
    assert last_ids(side, "number", "vehicle") == [4, 4]
    assert side.writers() == {("copy", None)}


def test_the_key_of_one_of_several_tables_was_altered(side: Side) -> None:
    """If only keys are reserved, and one key's column has been altered, no other class
    loses ids.
    """
    side.way = Way("reserve", {"mode": "reserve"})
    save(side, Number, Vehicle)
    side.execute("ALTER TABLE number ALTER id TYPE bigint")
    assert save(side, Number, Vehicle) == [[3, 4], [3, 4]]
    assert last_ids(side, "number", "vehicle") == [4, 4]


@pytest.mark.parametrize("rows", [1, 20, 300])
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("settings", [{"copy_min_rows": 1}, {}, {"reserve": "always"}], ids=str)
def test_values_that_copy_does_not_take(
    side: Side, settings: dict[str, Any], values: str, rows: int
) -> None:
    """Whatever values objects have, a save takes one id for each object."""
    side.way = Way("settings", settings)

    def saving(session: Session) -> list[int]:
        items = [Valued(name=str(n), **VALUES[values]) for n in range(rows)]
        session.add_all(items)
        session.flush()
        keys = [item.id for item in items]
        session.commit()
        return keys

    try:
        keys = side.run(saving)
    except DBAPIError:
        assert values in REFUSED, "plain refuses it too"
        return
    assert keys == list(range(1, rows + 1))
    assert last_ids(side, "valued") == [rows]


@pytest.mark.parametrize("values", VALUES)
def test_mappings_with_values_that_copy_does_not_take(side: Side, values: str) -> None:
    """Whatever values the rows or columns of bulk_insert have, it takes one id for each row."""
    rows = [{"name": str(n), **VALUES[values]} for n in range(20)]

    def writing(session: Session) -> list[int]:
        keys = list(bulk_insert(session, Valued, rows))
        session.commit()
        return keys

    try:
        keys = side.run(writing)
    except DBAPIError:
        assert values in REFUSED, "plain refuses it too"
        return
    assert keys == list(range(1, 21))
    assert last_ids(side, "valued") == [20]


def test_one_value_among_many_that_copy_does_not_take(side: Side) -> None:
    """If one of many objects has a value that COPY cannot write, ids are lost once and
    never again.
    """

    def saving(session: Session) -> list[int]:
        items = [Valued(name=str(n), number=n) for n in range(300)]
        items[201].number = Level.HIGH
        session.add_all(items)
        session.flush()
        keys = [item.id for item in items]
        session.commit()
        return keys

    side.run(saving)
    [before] = last_ids(side, "valued")
    assert side.run(saving) == list(range(before + 1, before + 301))
    assert last_ids(side, "valued") == [before + 300]
