"""Defaults in Python of rows that bulk functions stage, where INSERT must stage some of them."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, Numeric, literal, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_insert, bulk_update, bulk_upsert

CALLS: Counter[str] = Counter()


class Base(DeclarativeBase):
    pass


def numbered() -> int:
    CALLS["default"] += 1
    return CALLS["default"]


def changed() -> int:
    CALLS["onupdate"] += 1
    return CALLS["onupdate"]


class Part(Base):
    __tablename__ = "staged_part"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)
    weight: Mapped[Any] = mapped_column(Numeric)
    number: Mapped[int] = mapped_column(default=numbered)
    changes: Mapped[int | None] = mapped_column(onupdate=changed)


WEIGHTS = {
    "by COPY": [Decimal(1), Decimal(2), Decimal(3)],
    "of two types": [Decimal(1), 1.5, Decimal(3)],
    "one an expression": [Decimal(1), literal(1) + 1, Decimal(3)],
}


class Parent(Base):
    __tablename__ = "parent_of_parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    value: Mapped[int]
    changes: Mapped[int | None] = mapped_column(onupdate=changed)
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "parent"}


class Child(Parent):
    __tablename__ = "child_of_parts"
    id: Mapped[int] = mapped_column(ForeignKey(Parent.id), primary_key=True)
    other: Mapped[int]
    other_changes: Mapped[int | None] = mapped_column("changes", onupdate=changed)
    __mapper_args__ = {"polymorphic_identity": "child"}


@pytest.fixture
def session(engine: Engine) -> Any:
    Base.metadata.create_all(engine)
    CALLS.clear()
    with Session(engine) as session:
        yield session


@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_default_is_called_once_for_each_row(session: Session, kind: str) -> None:
    """A default is called once for each row, and each row keeps the value that it was given,
    whether COPY or INSERT stages the row.
    """
    rows = [{"code": f"c{n}", "weight": weight} for n, weight in enumerate(WEIGHTS[kind])]
    bulk_upsert(session, Part, rows, conflict="code")
    assert CALLS["default"] == len(rows)
    found = session.scalars(select(Part.number).order_by(Part.number)).all()
    assert found == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("kind", WEIGHTS)
def test_an_onupdate_is_called_once_for_each_row(session: Session, kind: str) -> None:
    """An ``onupdate`` is called once for each row, whether COPY or INSERT stages the row."""
    weights = WEIGHTS[kind]
    session.add_all([Part(code=f"c{n}", weight=0) for n in range(len(weights))])
    session.commit()
    CALLS.clear()
    rows = [{"code": f"c{n}", "weight": weight} for n, weight in enumerate(weights)]
    bulk_update(session, Part, rows, key="code")
    assert CALLS["onupdate"] == len(rows)
    found = session.scalars(select(Part.changes).order_by(Part.changes)).all()
    assert found == list(range(1, len(rows) + 1))


def test_tables_of_a_class_may_each_have_an_onupdate_of_one_name(session: Session) -> None:
    """bulk_update sets both columns if the parent's table and the child's have an ``onupdate``
    column of the same name.
    """
    keys = bulk_insert(session, Child, [{"value": n, "other": n} for n in range(3)])
    bulk_update(session, Child, [{"id": key, "value": 5, "other": 6} for key in keys])
    for child in session.scalars(select(Child)):
        assert (child.value, child.other) == (5, 6)
        assert child.changes
        assert child.other_changes
