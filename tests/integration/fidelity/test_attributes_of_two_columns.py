"""An attribute for a column of the parent's table and one of the child's."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from fixtures.sides import WAYS, Side, Way, both
from sqlalchemy import Column, ForeignKey, Integer
from sqlalchemy.orm import Session, column_property, declarative_base


@pytest.mark.parametrize("way", WAYS[:5], ids=str)
def test_a_default_of_both_columns_is_made_once(twin_urls: tuple[str, str], way: Way) -> None:
    """If an attribute has a column in two tables, both get the value that the parent's default
    made.
    """
    numbers = count()
    base: Any = declarative_base()

    class Parent(base):  # type: ignore[misc]
        __tablename__ = "parent"
        id = Column(Integer, primary_key=True)
        made = Column(Integer, default=lambda: next(numbers))

    class Child(Parent):
        __tablename__ = "child"
        id = Column(Integer, ForeignKey("parent.id"), primary_key=True)

        made = column_property(
            Column(Integer, default=lambda: next(numbers)), Parent.__table__.c.made
        )

    def trial(side: Side) -> Any:
        def act(session: Session) -> None:
            session.add_all([Child() for _ in range(way.rows)])
            session.commit()

        side.run(act)
        return side.rows(
            "SELECT count(*) FROM parent p JOIN child c USING (id) WHERE p.made = c.made"
        )

    assert both(twin_urls, base, trial, way=way) == [(way.rows,)]
