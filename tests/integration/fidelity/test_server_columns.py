"""Values that the database fills in, by COPY compared with plain SQLAlchemy: server defaults,
identities, sequences, partitions and triggers.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from fixtures.twins import Scenario, Twins, by_copy, written
from sqlalchemy import Computed, FetchedValue, ForeignKey, Identity, Sequence, text
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    sessionmaker,
)

from sqla_seqreserve import register
from sqla_seqreserve.testing import record_statements


class Base(DeclarativeBase):
    pass


class Lazily(Base):
    """Server defaults that stay expired after the flush."""

    __tablename__ = "lazily"
    __mapper_args__: ClassVar[Any] = {"eager_defaults": False}
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    state: Mapped[str | None] = mapped_column(server_default="new")
    doubled: Mapped[int | None] = mapped_column(Computed("id * 2"))


class Automatically(Base):
    __tablename__ = "automatically"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    state: Mapped[str | None] = mapped_column(server_default="new")
    doubled: Mapped[int | None] = mapped_column(Computed("id * 2"))


class Eagerly(Base):
    __tablename__ = "eagerly"
    __mapper_args__: ClassVar[Any] = {"eager_defaults": True}
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    state: Mapped[str | None] = mapped_column(server_default="new")
    stamp: Mapped[str | None] = mapped_column(
        server_default=text("'at ' || 'once'"), server_onupdate=FetchedValue()
    )


class Triggered(Base):
    """A column that a trigger fills, declared with FetchedValue."""

    __tablename__ = "triggered"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    filled: Mapped[str | None] = mapped_column(FetchedValue())


class Always(Base):
    __tablename__ = "always"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    name: Mapped[str]
    parts: Mapped[list[AlwaysPart]] = relationship()


class AlwaysPart(Base):
    __tablename__ = "always_part"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    always_id: Mapped[int] = mapped_column(ForeignKey("always.id"))


class IdentityBeside(Base):
    """A second identity column, which is not the key."""

    __tablename__ = "identity_beside"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(Identity(start=-100, increment=-5))


_declared = Sequence("declared_seq", start=50, increment=5, metadata=Base.metadata)


class WithSequence(Base):
    __tablename__ = "with_sequence"
    id: Mapped[int] = mapped_column(
        _declared, server_default=_declared.next_value(), primary_key=True
    )
    name: Mapped[str]


class Partitioned(Base):
    __tablename__ = "partitioned"
    __table_args__: ClassVar[Any] = {"postgresql_partition_by": "LIST (region)"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    region: Mapped[str] = mapped_column(primary_key=True)


PARTITIONS = (
    "CREATE TABLE partitioned_n PARTITION OF partitioned FOR VALUES IN ('n')",
    "CREATE TABLE partitioned_rest PARTITION OF partitioned DEFAULT",
)

FILLING_TRIGGER = (
    """CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.filled := upper(NEW.name); RETURN NEW; END $$""",
    "CREATE TRIGGER fill BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION fill()",
)


def server_defaults(model: type[Any]) -> Scenario:
    def scenario(session: Session) -> Any:
        items = [model(name=f"s{i}") for i in range(9)]
        items += [model(name="own", state="own"), model(name="none", state=None)]
        session.add_all(items)
        session.flush()
        return [(item.state, item.name) for item in items]

    scenario.__name__ = f"server_defaults_{model.__name__.lower()}"
    return scenario


def filled_by_a_trigger(session: Session) -> Any:
    items = [Triggered(name=f"t{i}") for i in range(9)]
    session.add_all(items)
    session.flush()
    return [item.filled for item in items]


def generated_always(session: Session) -> None:
    session.add_all([Always(name=f"a{i}", parts=[AlwaysPart(), AlwaysPart()]) for i in range(9)])
    session.flush()
    session.add(Always(name="one alone"))
    session.flush()


def identity_that_is_not_the_key(session: Session) -> None:
    session.add_all([IdentityBeside() for _ in range(9)])
    session.add(IdentityBeside(number=7))
    session.flush()


def declared_sequence(session: Session) -> None:
    session.add_all([WithSequence(name=f"w{i}") for i in range(9)])
    session.flush()


def partitions(session: Session) -> None:
    session.add_all([Partitioned(region=region) for region in "nsewnsewnsew"])
    session.flush()


BY_COPY: list[tuple[Scenario, tuple[type[Any], ...], tuple[str, ...]]] = [
    (server_defaults(Lazily), (Lazily,), ()),
    (server_defaults(Automatically), (Automatically,), ()),
    (server_defaults(Eagerly), (Eagerly,), ()),
    (generated_always, (Always, AlwaysPart), ()),
    (identity_that_is_not_the_key, (IdentityBeside,), ()),
    (declared_sequence, (WithSequence,), ()),
    (partitions, (Partitioned,), PARTITIONS),
]


@pytest.mark.parametrize(
    ("scenario", "models", "ddl"), BY_COPY, ids=[scenario.__name__ for scenario, _, _ in BY_COPY]
)
def test_goes_by_copy_and_nothing_differs(
    twins: Twins, scenario: Scenario, models: tuple[type[Any], ...], ddl: tuple[str, ...]
) -> None:
    """Rows, objects and events are those of plain SQLAlchemy, and every new object went by COPY."""
    # Without these partitions the table can store no row.
    assert written(twins.compare(Base, scenario, ddl=ddl)) == by_copy(*models)


def test_a_before_trigger_leaves_the_rows_to_sqlalchemy(twins: Twins) -> None:
    """Values that a BEFORE INSERT trigger fills in are read back by plain SQLAlchemy's own
    statements.
    """
    reason = "triggered has a BEFORE INSERT trigger, which may change or discard rows"
    outcome = twins.compare(Base, filled_by_a_trigger, ddl=FILLING_TRIGGER)
    assert written(outcome) == {("Triggered", "orm", reason)}


@pytest.mark.parametrize(("model", "read_backs"), [(Lazily, 0), (Automatically, 1), (Eagerly, 1)])
def test_server_defaults_come_back_in_one_query(
    twins: Twins, model: type[Any], read_backs: int
) -> None:
    """A flush takes one reservation, one COPY, and one query for server defaults if eager_defaults
    wants them.
    """
    with twins.ours.begin() as connection:
        Base.metadata.create_all(connection)
    factory = sessionmaker(twins.ours)
    register(factory, copy_min_rows=1)
    with factory() as session:
        session.add(model(name="warms the caches"))
        session.flush()
        session.add_all([model(name=f"m{i}") for i in range(100)])
        with record_statements(twins.ours) as statements:
            session.flush()
        assert [str(statement).split()[0] for statement in statements] == [
            "SELECT",
            "COPY",
            *["SELECT"] * read_backs,
        ]
        assert "nextval" in str(statements[0])
