"""reserve_ids and assign_ids: the number of their statements, and the ids and their order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, ForeignKey, Identity, Sequence, String, select, text
from sqlalchemy.exc import ResourceClosedError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)

from sqla_seqreserve import ReservedIds, assign_ids, reserve_ids
from sqla_seqreserve.errors import ConfigurationError, SequenceNotFoundError
from sqla_seqreserve.testing import record_statements


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    title: Mapped[str | None]


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int | None] = mapped_column(ForeignKey(Order.id))
    order: Mapped[Order | None] = relationship()


class Step(Base):
    __tablename__ = "step"
    id: Mapped[int] = mapped_column(Sequence("step_seq", start=100, increment=10), primary_key=True)


class Country(Base):
    __tablename__ = "country"
    code: Mapped[str] = mapped_column(String(2), primary_key=True)


class Pair(Base):
    __tablename__ = "pair"
    a: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    b: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session on a database that has the tables."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session


def test_ids_come_in_nextval_order(session: Session) -> None:
    """A reservation gives as many ids as were asked for: distinct and ascending ints."""
    ids = reserve_ids(session, Order, 500)
    assert isinstance(ids, ReservedIds)
    assert len(ids) == len(set(ids)) == 500
    assert list(ids) == sorted(ids)
    assert {type(number) for number in ids} == {int}


def test_the_next_ids_are_beyond(session: Session, engine: Engine) -> None:
    """An id that was reserved, used or not, is given neither to a later reservation nor to a plain
    INSERT.
    """
    taken = set(reserve_ids(session, Order, 10))
    taken |= set(reserve_ids(session, Order, 10))
    session.rollback()
    with engine.begin() as connection:
        taken |= set(reserve_ids(connection, Order, 10))
        taken.add(connection.scalar(text("INSERT INTO orders DEFAULT VALUES RETURNING id")))
    assert len(taken) == 31


def test_one_class_costs_one_round_trip(session: Session, engine: Engine) -> None:
    """The first reservation in a database reads the catalogue; later ones take one statement."""
    with record_statements(engine) as first:
        reserve_ids(session, Order, 5)
    assert len(first) == 2
    with record_statements(engine) as then:
        reserve_ids(session, Order, 500)
    [statement] = then
    assert "nextval" in statement.sql
    assert "generate_series" in statement.sql


def test_several_classes_cost_one_round_trip(session: Session, engine: Engine) -> None:
    """One statement reserves ids for several classes; each class gets its own, in the order of the
    request.
    """
    reserve_ids(session, {Order: 1, Item: 1, Step: 1})
    with record_statements(engine) as statements:
        ids = reserve_ids(session, {Step: 3, Order: 50, Item: 20})
    assert len(statements) == 1
    assert list(ids) == [Step, Order, Item]
    assert {cls: len(found) for cls, found in ids.items()} == {Step: 3, Order: 50, Item: 20}
    assert all(list(found) == sorted(set(found)) for found in ids.values())
    assert all((number - 100) % 10 == 0 for number in ids[Step])


def test_no_ids_ask_nothing(session: Session, engine: Engine) -> None:
    """A reservation of no ids sends no statement and takes no value from the sequence."""
    reserve_ids(session, {Order: 1, Item: 1})
    nothing = ReservedIds()
    with record_statements(engine) as statements:
        assert reserve_ids(session, Order, 0) == nothing
        assert reserve_ids(session, {Order: 0, Item: 0}) == {Order: nothing, Item: nothing}
    assert statements == []
    mixed = reserve_ids(session, {Order: 0, Item: 2})
    assert (len(mixed[Order]), len(mixed[Item])) == (0, 2)


def test_every_kind_of_session_reserves(session: Session, engine: Engine) -> None:
    """reserve_ids takes a Session, a scoped_session and a Connection."""
    scoped = scoped_session(sessionmaker(engine))
    with engine.connect() as connection:
        ids = [
            *reserve_ids(session, Order, 2),
            *reserve_ids(scoped, Order, 2),
            *reserve_ids(connection, Order, 2),
        ]
    scoped.remove()
    assert len(set(ids)) == 6


@pytest.mark.parametrize(
    ("model", "reason"),
    [(Country, "no key column is generated"), (Pair, "no key column is generated")],
)
def test_a_class_without_a_sequence_is_refused(
    session: Session, model: type[Base], reason: str
) -> None:
    """If a class has no generated key, reserve_ids raises an error, and takes no ids for other
    classes either.
    """
    with pytest.raises(SequenceNotFoundError, match=f"{model.__name__}: {reason}"):
        reserve_ids(session, model, 1)
    before = session.scalar(text("SELECT last_value FROM orders_id_seq"))
    with pytest.raises(SequenceNotFoundError, match=model.__name__):
        reserve_ids(session, {Order: 5, model: 1})
    assert session.scalar(text("SELECT last_value FROM orders_id_seq")) == before


def test_a_missing_table_is_refused(engine: Engine) -> None:
    """If the table or the sequence is missing, the error says which; once it exists, the same
    engine finds it.
    """
    with Session(engine) as session:
        with pytest.raises(SequenceNotFoundError, match="Order: the database has no such table"):
            reserve_ids(session, Order, 1)
        session.execute(text("CREATE TABLE orders (id bigint PRIMARY KEY, title text)"))
        with pytest.raises(SequenceNotFoundError, match="no sequence for column id"):
            reserve_ids(session, Order, 1)
        session.execute(text("CREATE TABLE step (id bigint PRIMARY KEY)"))
        with pytest.raises(SequenceNotFoundError, match="Step: the database has no sequence step_"):
            reserve_ids(session, Step, 1)
        session.execute(text("CREATE SEQUENCE step_seq"))
        assert len(reserve_ids(session, Step, 3)) == 3


def test_a_closed_connection_is_refused(session: Session, engine: Engine) -> None:
    """With a closed connection reserve_ids raises SQLAlchemy's own error."""
    reserve_ids(session, Order, 1)
    connection = engine.connect()
    connection.close()
    with pytest.raises(ResourceClosedError):
        reserve_ids(connection, Order, 1)


def test_the_library_does_not_commit(session: Session, engine: Engine) -> None:
    """reserve_ids leaves the caller's transaction open and the caller's changes uncommitted."""
    session.execute(text("INSERT INTO orders (title) VALUES ('mine')"))
    reserve_ids(session, Order, 5)
    assert session.in_transaction()
    session.rollback()
    assert session.scalars(select(Order)).all() == []


# assign_ids


def test_objects_get_their_keys_before_any_flush(session: Session, engine: Engine) -> None:
    """assign_ids numbers objects of several classes, transient or pending, in one round trip and in
    the given order; the flush inserts them with these keys.
    """
    reserve_ids(session, {Order: 1, Item: 1})
    orders = [Order(title=str(number)) for number in range(3)]
    items = [Item() for _ in range(4)]
    session.add(orders[0])
    with record_statements(engine) as statements:
        assign_ids(session, [items[1], *orders, items[0], *items[2:]])
    assert len(statements) == 1
    assert [order.id for order in orders] == sorted({order.id for order in orders})
    assert items[1].id < items[0].id < items[2].id < items[3].id
    for item in items:
        item.order_id = orders[-1].id
    keys = {order.id for order in orders}
    session.add_all([*orders, *items])
    session.commit()
    assert set(session.scalars(select(Order.id))) == keys
    assert {item.order_id for item in items} == {orders[-1].id}


def test_keys_that_are_set_stay(session: Session, engine: Engine) -> None:
    """assign_ids keeps a key that the user set, and takes no id for it."""
    reserve_ids(session, Order, 1)
    mine, none = Order(id=7_000), Order(id=None)
    assign_ids(session, [mine, none])
    assert mine.id == 7_000
    assert none.id is not None
    with record_statements(engine) as statements:
        assign_ids(session, [mine, none, Country(code="GB"), Pair(a=1, b=2)])
    assert statements == []


def test_an_object_with_a_row_is_refused(session: Session) -> None:
    """assign_ids refuses an object that has a row, persistent or detached: the error names it, and
    no object gets a key.
    """
    order = Order()
    session.add(order)
    session.flush()
    fresh = Order()
    with pytest.raises(ConfigurationError, match="Object 1, .* has its row"):
        assign_ids(session, [fresh, order])
    session.expunge(order)
    with pytest.raises(ConfigurationError, match="Object 0"):
        assign_ids(session, [order])
    assert fresh.id is None


def test_an_object_without_a_generated_key_is_refused(session: Session) -> None:
    """assign_ids refuses an object of a class whose key is not generated, and no object
    gets a key.
    """
    fresh = Order()
    with pytest.raises(SequenceNotFoundError, match="Country"):
        assign_ids(session, [fresh, Country()])
    assert fresh.id is None
