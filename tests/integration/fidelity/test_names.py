"""Other schemas, schema_translate_map, search_path, and names that need quotes."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from fixtures.twins import Scenario, Twins, by_copy, written
from sqlalchemy import Column, ForeignKey, Identity, Integer, MetaData, Sequence, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Quoted(Base):
    __tablename__ = 'Weird "Table" %name'
    key: Mapped[int] = mapped_column("The Key", primary_key=True)
    select: Mapped[str] = mapped_column("select")
    percent: Mapped[str | None] = mapped_column("100%")
    quote: Mapped[str | None] = mapped_column('double"quote')
    colon: Mapped[str | None] = mapped_column("co:lon(x)", server_default="d")
    camel: Mapped[int | None] = mapped_column("camelCase")
    umlaut: Mapped[str | None] = mapped_column("größe")


class User(Base):
    """A reserved word as name, in a schema whose name needs quotes too."""

    __tablename__ = "user"
    __table_args__: ClassVar[Any] = {"schema": "Other Schema"}
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    orders: Mapped[list[Order]] = relationship(back_populates="user")


class Order(Base):
    __tablename__ = "order"
    __table_args__: ClassVar[Any] = {"schema": "other"}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("Other Schema.user.id"))
    user: Mapped[User] = relationship(back_populates="orders")


class Numbered(Base):
    """Its sequence is in another schema than its table."""

    __tablename__ = "numbered"
    id: Mapped[int] = mapped_column(
        Sequence("My Seq", schema="other", start=10, increment=3), primary_key=True
    )
    word: Mapped[str]


class Tenant(DeclarativeBase):
    metadata = MetaData(schema="tenant")


class Thing(Tenant):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(10))
    up_id: Mapped[int | None] = mapped_column(ForeignKey("tenant.thing.id"))


SCHEMAS = ('CREATE SCHEMA "Other Schema"', "CREATE SCHEMA other")


def quoted(session: Session) -> None:
    session.add_all(
        [Quoted(select=f"s{i}", percent="%s" if i % 2 else None, camel=i) for i in range(9)]
    )
    session.add(Quoted(select="%(x)s", quote='"', colon=":x", umlaut="ß"))
    session.flush()


def schemas(session: Session) -> None:
    session.add_all([User(name=f"u{i}", orders=[Order(), Order()]) for i in range(9)])
    session.flush()


def sequence_elsewhere(session: Session) -> None:
    session.add_all([Numbered(word=f"w{i}") for i in range(9)])
    session.flush()


def things(session: Session) -> None:
    session.add_all([Thing(name=f"t{i}") for i in range(9)])
    session.flush()


@pytest.mark.parametrize(
    ("scenario", "models"),
    [(quoted, (Quoted,)), (schemas, (User, Order)), (sequence_elsewhere, (Numbered,))],
)
def test_goes_by_copy_and_nothing_differs(
    twins: Twins, scenario: Scenario, models: tuple[type[Any], ...]
) -> None:
    """Rows, objects and events are those of plain SQLAlchemy, and every new object went by COPY."""
    outcome = twins.compare(Base, scenario, before=SCHEMAS)
    assert written(outcome) == by_copy(*models)


@pytest.mark.parametrize("schema", ["one", 'Two "Q"'])
def test_schema_translate_map(twins: Twins, schema: str) -> None:
    """The rows are stored in the schema that the connection's map names, with ids from that
    schema's sequence.
    """
    quoted_schema = '"' + schema.replace('"', '""') + '"'
    options = {"schema_translate_map": {"tenant": schema}}
    translated = Twins(
        twins.plain.execution_options(**options), twins.ours.execution_options(**options)
    )
    outcome = translated.compare(Tenant, things, before=[f"CREATE SCHEMA {quoted_schema}"])
    assert written(outcome) == by_copy(Thing)
    assert [len(rows) for name, rows in outcome.rows.items() if "thing" in name] == [9]


def test_two_tenants_through_one_engine(twins: Twins) -> None:
    """On one engine the same class in two schemas gets ids from two sequences."""

    def scenario(session: Session) -> Any:
        found = []
        for schema, count in (("one", 3), ("two", 2), ("one", 2)):
            session.connection(execution_options={"schema_translate_map": {"tenant": schema}})
            added = [Thing(name=f"{schema}{i}") for i in range(count)]
            session.add_all(added)
            session.commit()
            session.expunge_all()
        return found

    statements = [
        statement
        for schema in ("one", "two")
        for statement in (
            f"CREATE SCHEMA {schema}",
            f"CREATE TABLE {schema}.thing (id serial primary key, name varchar(10), up_id integer)",
        )
    ]
    outcome = twins.compare(Tenant, scenario, before=["CREATE SCHEMA tenant", *statements])
    assert written(outcome) == by_copy(Thing)
    assert outcome.rows["one.thing"] == [
        f"({n + 1},one{i},)" for n, i in enumerate((0, 1, 2, 0, 1))
    ]
    assert outcome.rows["two.thing"] == ["(1,two0,)", "(2,two1,)"]


def test_the_search_path_decides(twins: Twins) -> None:
    """A table without a schema is the one that search_path finds, whatever was cached before."""

    class Local(DeclarativeBase):
        pass

    class Widget(Local):
        __tablename__ = "widget"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    def scenario(session: Session) -> None:
        for schema in ("public", "alt", "public"):
            session.connection().exec_driver_sql(f"SET LOCAL search_path = {schema}")
            session.add_all([Widget(name=f"{schema}{i}") for i in range(3)])
            session.commit()
            session.expunge_all()

    outcome = twins.compare(
        Local,
        scenario,
        keys={"id"},  # those that were reserved by the old facts are not used
        before=[
            "CREATE SCHEMA alt",
            "CREATE TABLE alt.widget (name text)",
            "ALTER TABLE alt.widget ADD id int GENERATED BY DEFAULT AS IDENTITY (START 70)",
        ],
    )
    assert written(outcome) == by_copy(Widget)
    names = [row.split(",")[0] for row in outcome.rows["alt.widget"]]
    assert names == ["(alt0", "(alt1", "(alt2"]
    assert len(outcome.rows["public.widget"]) == 6


def test_a_table_altered_while_the_application_runs(twins: Twins) -> None:
    """If a column's type changes between two flushes, values are written for the new type."""

    class Local(DeclarativeBase):
        pass

    class Gauge(Local):
        __table__ = Table(
            "gauge",
            Local.metadata,
            Column("id", Integer, primary_key=True),
            Column("value", Integer),
        )

    def scenario(session: Session) -> None:
        session.add_all([Gauge(value=i) for i in range(9)])
        session.commit()
        for type_ in ("bigint", "smallint"):
            session.connection().exec_driver_sql(f"ALTER TABLE gauge ALTER value TYPE {type_}")
            session.commit()
            session.add_all([Gauge(value=i) for i in range(9)])
            session.commit()

    assert written(twins.compare(Local, scenario)) == by_copy(Gauge)
