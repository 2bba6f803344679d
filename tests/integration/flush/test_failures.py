"""Rollbacks and refusals: what is left of a session is what plain SQLAlchemy leaves.

Each scenario runs without us, with every mode, and the accounts that it gives are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from fixtures.shop import Customer, Order, Tag, customers
from sqlalchemy import Engine, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from sqla_seqreserve import register

Account = list[Any]
Look = Callable[[str], None]
Scenario = Callable[[Session, dict[str, Any], Look], None]

WAYS: list[dict[str, Any]] = [
    {"mode": "off"},
    {"mode": "reserve"},
    {"mode": "bulk", "copy_min_rows": 1},
    {"mode": "bulk"},
    {"mode": "bulk", "copy_min_rows": 1_000},
]


def describe(session: Session, objects: dict[str, Any]) -> Account:
    """The session and the objects, ids replaced by whether there is one: sequences do not roll
    back.
    """
    names = {id(item): name for name, item in objects.items()}

    def masked(key: str, value: Any) -> Any:
        if key == "id" or key.endswith("_id"):
            return None if value is None else "id"
        if isinstance(value, list):
            return [names.get(id(item), item) for item in value]
        if key == "created_at":
            return type(value)
        return names.get(id(value), value)

    states = {}
    for name, item in objects.items():
        state = inspect(item)
        flags = ("transient", "pending", "persistent", "deleted", "detached")
        states[name] = (
            [flag for flag in flags if getattr(state, flag)],
            state.key is not None,
            state.modified,
            state.expired,
            sorted(state.expired_attributes),
            {key: masked(key, value) for key, value in sorted(state.dict.items()) if key[0] != "_"},
            {
                key: [[masked(key, value) for value in part or ()] for part in attribute.history]
                for key, attribute in state.attrs.items()
                if key in state.dict
            },
        )
    members = {
        "new": sorted(names[id(item)] for item in session.new),
        "dirty": sorted(names[id(item)] for item in session.dirty),
        "deleted": sorted(names[id(item)] for item in session.deleted),
        "identity map": sorted(
            names[id(item)] for item in session.identity_map.values() if id(item) in names
        ),
    }
    return [session.is_active, session.in_transaction(), members, states]


def named(found: list[Customer]) -> dict[str, Any]:
    objects: dict[str, Any] = {}
    for number, customer in enumerate(found):
        objects[f"customer {number}"] = customer
        for position, order in enumerate(customer.orders):
            objects[f"order {number}.{position}"] = order
    return objects


def refused(session: Session, look: Look, act: Callable[[], None] | None = None) -> None:
    """Flush, note the exception's class, cause and state, look at the session, roll back, look."""
    with pytest.raises(SQLAlchemyError) as no:
        (act or session.flush)()
    look(f"{type(no.value).__module__}.{type(no.value).__name__}")
    assert isinstance(no.value, DBAPIError)
    look(f"{type(no.value.orig).__name__} {no.value.orig.sqlstate}")  # type: ignore[union-attr]  # psycopg's
    look(f"statement and parameters: {bool(no.value.statement)}")
    session.rollback()
    look("rolled back")


def unique_violation(session: Session, objects: dict[str, Any], look: Look) -> None:
    """The 17th of 30 is a duplicate of one among them."""
    found = customers(30, 1)
    found[17].email = found[3].email
    objects |= named(found)
    session.add_all(found)
    refused(session, look)
    found[17].email = "another"
    session.add_all(found)
    session.commit()
    look("mended and committed")


def children_refused(session: Session, objects: dict[str, Any], look: Look) -> None:
    """The parents are written when a child is refused, by a unique constraint over two columns."""
    found = customers(10)
    found[6].orders[1].number = 0
    objects |= named(found)
    session.add_all(found)
    refused(session, look)


def check_violation(session: Session, objects: dict[str, Any], look: Look) -> None:
    """A check constraint refuses one row."""
    found = customers(10)
    found[4].orders[1].total = Decimal(-1)
    objects |= named(found)
    session.add_all(found)
    refused(session, look, session.commit)


def missing_value(session: Session, objects: dict[str, Any], look: Look) -> None:
    """A NOT NULL column has no value."""
    found = customers(10)
    found[4].email = None  # type: ignore[assignment]  # what the scenario is about
    objects |= named(found)
    session.add_all(found)
    refused(session, look)


def missing_parent(session: Session, objects: dict[str, Any], look: Look) -> None:
    """A foreign key leads nowhere."""
    orders = [Order(customer_id=4_711, number=number) for number in range(10)]
    objects |= {f"order {order.number}": order for order in orders}
    session.add_all(orders)
    refused(session, look)


def too_long(session: Session, objects: dict[str, Any], look: Look) -> None:
    """A text is too long for its column."""
    tags = [Tag(word=str(number) * (40 if number == 5 else 4)) for number in range(10)]
    objects |= {f"tag {number}": tag for number, tag in enumerate(tags)}
    session.add_all(tags)
    refused(session, look)


def with_dirty_and_deleted(session: Session, objects: dict[str, Any], look: Look) -> None:
    """A flush that also updates and deletes is refused: these are dirty and deleted no more."""
    old = customers(3, 1)
    session.add_all(old)
    session.commit()
    new = customers(10, 1)
    for number, customer in enumerate(new):
        customer.email = f"new {number}"
    new[9].email = old[1].email
    objects |= {f"old {name}": item for name, item in named(old).items()}
    objects |= named(new)
    old[0].email = "changed"
    session.delete(old[2])
    session.add_all(new)
    refused(session, look)


def plain_rollback(session: Session, objects: dict[str, Any], look: Look) -> None:
    """Rows that were written go back: the objects are transient, and may be added again."""
    found = customers(10)
    objects |= named(found)
    session.add_all(found)
    session.flush()
    look("flushed")
    found[1].email = "changed"
    session.rollback()
    look("rolled back")
    session.add_all(found)
    session.commit()
    look("committed")


def savepoint_rollback(session: Session, objects: dict[str, Any], look: Look) -> None:
    """What was added since the savepoint goes; what was there before stays."""
    before, after = customers(10, 1), customers(10, 1)
    for number, customer in enumerate(after):
        customer.email = f"after {number}"
    objects |= {f"before {name}": item for name, item in named(before).items()}
    objects |= {f"after {name}": item for name, item in named(after).items()}
    session.add_all(before)
    session.flush()
    savepoint = session.begin_nested()
    session.add_all(after)
    before[0].email = "changed"
    session.flush()
    look("flushed in the savepoint")
    savepoint.rollback()
    look("rolled back")
    session.commit()
    look("committed")


def refused_in_savepoint(session: Session, objects: dict[str, Any], look: Look) -> None:
    """A refusal inside a savepoint takes the savepoint alone; the transaction goes on."""
    before, after = customers(10, 1), customers(10, 1)
    objects |= {f"before {name}": item for name, item in named(before).items()}
    objects |= {f"after {name}": item for name, item in named(after).items()}
    session.add_all(before)
    session.flush()

    def within_savepoint() -> None:
        with session.begin_nested():
            session.add_all(after)
            session.flush()

    with pytest.raises(SQLAlchemyError) as no:
        within_savepoint()
    look(type(no.value).__name__)
    for number, customer in enumerate(after):
        customer.email = f"after {number}"
    session.add_all(after)
    session.commit()
    look("mended and committed")


def released_savepoint(session: Session, objects: dict[str, Any], look: Look) -> None:
    """A savepoint released and the outer transaction rolled back: nothing is left."""
    found = customers(10, 1)
    objects |= named(found)
    with session.begin_nested():
        session.add_all(found)
    look("released")
    session.rollback()
    look("rolled back")


def refused_at_commit(session: Session, objects: dict[str, Any], look: Look) -> None:
    """A deferred constraint refuses at COMMIT, when the flush is long over."""
    session.execute(text("SET CONSTRAINTS ALL DEFERRED"))
    tags = [Tag(word="late") for _ in range(10)]
    objects |= {f"tag {number}": tag for number, tag in enumerate(tags)}
    session.add_all(tags)
    session.flush()
    look("flushed")
    refused(session, look, session.commit)


def closed_in_between(session: Session, objects: dict[str, Any], look: Look) -> None:
    """close() after a flush detaches nothing that was never committed."""
    found = customers(10, 1)
    objects |= named(found)
    session.add_all(found)
    session.flush()
    session.expunge(found[0])
    look("expunged")
    session.close()
    look("closed")


SCENARIOS: list[Scenario] = [
    unique_violation,
    children_refused,
    check_violation,
    missing_value,
    missing_parent,
    too_long,
    with_dirty_and_deleted,
    plain_rollback,
    savepoint_rollback,
    refused_in_savepoint,
    released_savepoint,
    refused_at_commit,
    closed_in_between,
]


@pytest.fixture
def with_deferred_constraint(shop: Engine) -> Iterator[Engine]:
    """A constraint of the tags that can be deferred."""
    with shop.begin() as connection:
        connection.execute(
            text("ALTER TABLE tag ADD CONSTRAINT late UNIQUE (word) DEFERRABLE INITIALLY IMMEDIATE")
        )
    yield shop
    with shop.begin() as connection:
        connection.execute(text("TRUNCATE customer, orders, tag, tagged"))
        connection.execute(text("ALTER TABLE tag DROP CONSTRAINT late"))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_what_is_left_is_what_plain_leaves(
    with_deferred_constraint: Engine, scenario: Scenario
) -> None:
    """After a rollback or an error, session, objects, histories, exceptions and rows are those of
    plain SQLAlchemy.
    """
    accounts = []
    for settings in [None, *WAYS]:
        with with_deferred_constraint.begin() as connection:
            connection.execute(text("TRUNCATE customer, orders, tag, tagged RESTART IDENTITY"))
        account: Account = []
        objects: dict[str, Any] = {}
        with Session(with_deferred_constraint) as session:
            if settings is not None:
                register(session, **settings)

            def look(at: str, session: Session = session) -> None:
                account.append((at, describe(session, objects)))  # noqa: B023  # called in this turn

            scenario(session, objects, look)
        with with_deferred_constraint.connect() as connection:
            for model in (Customer, Order, Tag):
                account.append(connection.scalar(select(func.count()).select_from(model)))
        accounts.append(account)
    for settings, account in zip(WAYS, accounts[1:], strict=True):
        for ours, plain in zip(account, accounts[0], strict=True):
            assert_same(ours, plain, settings)


def assert_same(ours: Any, plain: Any, where: Any) -> None:
    """Compare piece by piece, so that a failure shows the piece."""
    if type(ours) is type(plain) and isinstance(ours, dict) and ours.keys() == plain.keys():
        for key in plain:
            assert_same(ours[key], plain[key], (where, key))
    elif type(ours) is type(plain) and isinstance(ours, tuple | list) and len(ours) == len(plain):
        for mine, theirs in zip(ours, plain, strict=True):
            assert_same(mine, theirs, where)
    else:
        assert ours == plain, where


@pytest.mark.parametrize("position", [0, 17, 29])
def test_the_error_names_the_object(shop: Engine, position: int) -> None:
    """The exception of a refused row has a note with the object's position, class and
    reserved key.
    """
    with Session(shop) as session:
        session.add(Customer(email="taken"))
        session.commit()
        register(session, copy_min_rows=1)
        found = customers(30, 0)
        found[position].email = "taken"
        session.add_all(found)
        with pytest.raises(SQLAlchemyError) as no:
            session.flush()
        [note] = no.value.__notes__
        assert f"object {position} of the 30 Customer objects" in note


def test_reserved_ids_are_not_given_again(shop: Engine) -> None:
    """After a rollback the sequence goes on; the next objects get other ids."""
    with Session(shop) as session:
        register(session, copy_min_rows=1)
        first = [Tag(word="a") for _ in range(10)]
        session.add_all(first)
        session.flush()
        ids = {tag.id for tag in first}
        session.rollback()
        second = [Tag(word="b") for _ in range(10)]
        session.add_all(second)
        session.commit()
        assert ids.isdisjoint(tag.id for tag in second)
