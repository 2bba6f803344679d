"""Triggers that change or discard inserted rows: an object has the key of its row, or the flush
fails as in plain SQLAlchemy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
from fixtures.sides import WAYS, Side, Way, both, refusal
from sqlalchemy import ForeignKey, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class Parted(Base):
    """Its rows are stored in partitions, and the trigger is on one partition alone."""

    __tablename__ = "parted"
    __table_args__: ClassVar[Any] = {"postgresql_partition_by": "RANGE (id)"}
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class Animal(Base):
    __tablename__ = "animal"
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]


class Bird(Animal):
    """Its key comes from the table that it inherits from, which has the trigger."""

    __tablename__ = "bird"
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "bird"}
    id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    name: Mapped[str | None]


LEAVES = (
    "CREATE TABLE leaf PARTITION OF parted FOR VALUES FROM (0) TO (1000000)",
    "CREATE TABLE other PARTITION OF parted FOR VALUES FROM (1000000) TO (2000000)",
)
FUNCTIONS = (
    """CREATE FUNCTION renumber() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.id := NEW.id + 1000; RETURN NEW; END $$""",
    """CREATE FUNCTION renumber_some() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.id := NEW.id * 2 + (NEW.name ~ '[02468]$')::int; RETURN NEW; END $$""",
    """CREATE FUNCTION discard() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RETURN NULL; END $$""",
    """CREATE FUNCTION discard_some() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.name ~ '[02468]$' THEN RETURN NULL; END IF; RETURN NEW; END $$""",
    """CREATE FUNCTION shift() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN UPDATE plain SET id = id + 1000 WHERE id = NEW.id; RETURN NULL; END $$""",
)
ON = {Plain: "plain", Parted: "leaf", Bird: "animal"}


def trigger(function: str, table: str, when: str = "BEFORE") -> tuple[str, ...]:
    return (
        *LEAVES,
        *FUNCTIONS,
        f"CREATE TRIGGER t {when} INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {function}()",
    )


def saving(model: type[Any], table: str, *, warm: bool = False, discards: bool = False) -> Any:
    """A trial that writes rows and looks for each by the key of its object."""

    def trial(side: Side) -> Any:
        if discards and not side.registered:
            # Plain SQLAlchemy returns fewer keys than mappings, without an error.
            side.way = replace(side.way, as_mappings=False)
        rows = [{"name": f"n{i}"} for i in range(side.way.rows)]

        def save(session: Session) -> Any:
            try:
                keys = side.write(session, model, rows)
                found = [
                    session.scalar(text(f"SELECT name FROM {table} WHERE id = :id"), {"id": key})
                    for key in keys
                ]
                session.commit()
            except SQLAlchemyError as error:
                session.rollback()
                return refusal(error)[0]
            return found

        if warm:
            side.execute("ALTER TABLE plain DISABLE TRIGGER USER")
            side.run(save)
            side.execute("ALTER TABLE plain ENABLE TRIGGER USER")
        return side.run(save), side.rows(f"SELECT name FROM {table} ORDER BY id")

    return trial


CHANGES = [
    (Plain, "renumber"),
    (Plain, "renumber_some"),
    (Plain, "discard"),
    (Plain, "discard_some"),
    (Parted, "renumber"),
    (Parted, "discard_some"),
    (Bird, "renumber"),
    (Bird, "discard"),
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(("model", "function"), CHANGES)
def test_a_before_trigger_is_never_passed_over(
    twin_urls: tuple[str, str], model: type[Any], function: str, way: Way
) -> None:
    """With a BEFORE trigger each key leads to its row, or the flush fails with plain SQLAlchemy's
    exception and stores no row.
    """
    ddl = trigger(function, ON[model])
    trial = saving(model, model.__tablename__, discards="discard" in function)
    both(twin_urls, Base, trial, way=way, ddl=ddl)


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg"])
@pytest.mark.parametrize("way", [WAYS[1], WAYS[3], WAYS[6]], ids=str)
@pytest.mark.parametrize("function", ["renumber", "discard_some"])
def test_a_before_trigger_on_other_drivers(
    twin_urls: tuple[str, str], function: str, way: Way, driver: str
) -> None:
    """On every driver each key leads to its row under a BEFORE trigger, or the flush fails as in
    plain SQLAlchemy.
    """
    ddl = trigger(function, "plain")
    trial = saving(Plain, "plain", discards="discard" in function)
    both(twin_urls, Base, trial, way=way, ddl=ddl, driver=driver)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_trigger_enabled_later_is_noticed(twin_urls: tuple[str, str], way: Way) -> None:
    """A trigger that is enabled later is noticed, because the remembered facts of the table are
    compared.
    """
    both(
        twin_urls,
        Base,
        saving(Plain, "plain", warm=True),
        way=way,
        ddl=trigger("renumber", "plain"),
    )


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_after_trigger_that_moves_the_row(twin_urls: tuple[str, str], way: Way) -> None:
    """If an AFTER trigger changes a row's key, the object keeps the old key, as in plain
    SQLAlchemy.
    """
    both(twin_urls, Base, saving(Plain, "plain"), way=way, ddl=trigger("shift", "plain", "AFTER"))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_row_that_changes_its_partition(twin_urls: tuple[str, str], way: Way) -> None:
    """If a trigger sends a row to another partition, the results are plain SQLAlchemy's."""
    function = """CREATE FUNCTION far() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.id := NEW.id + 1000000; RETURN NEW; END $$"""
    both(
        twin_urls,
        Base,
        saving(Parted, "parted"),
        way=way,
        ddl=(function, *trigger("far", "parted")),
    )


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_rule_that_inserts_elsewhere(twin_urls: tuple[str, str], way: Way) -> None:
    """A rule that replaces the INSERT is applied in every way of writing, as in plain
    SQLAlchemy.
    """
    both(
        twin_urls,
        Base,
        saving(Plain, "plain"),
        way=way,
        ddl=(
            "CREATE TABLE aside (LIKE plain)",
            """CREATE RULE elsewhere AS ON INSERT TO plain DO INSTEAD
            INSERT INTO aside VALUES (NEW.id + 5, NEW.name) RETURNING aside.*""",
        ),
    )
