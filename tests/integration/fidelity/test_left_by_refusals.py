"""After a refused flush, objects that were not written are as plain SQLAlchemy leaves them."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.sides import DRIVERS, Side, Way, both
from sqlalchemy import ForeignKey, Identity, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

WAYS = (Way("default"), Way("copy", {"copy_min_rows": 1}), Way("reserve", {"mode": "reserve"}))


class Base(DeclarativeBase):
    pass


class Animal(Base):
    __tablename__ = "animal"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    legs: Mapped[int] = mapped_column(default=4)


class Dog(Animal):
    __tablename__ = "dog"
    id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
    trick: Mapped[str]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_nothing_given_looks_unchanged_and_no_key_looks_changed(
    twin_urls: tuple[str, str], driver: str, way: Way
) -> None:
    """After a refusal in the second table, given values are still marked as changed, and a key is
    marked only if the object has one, as in plain SQLAlchemy.
    """

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            dogs = [Dog(trick="sit", legs=3), Dog(trick="roll"), Dog()]
            session.add_all(dogs)
            with pytest.raises(SQLAlchemyError):
                session.flush()
            session.rollback()
            states: list[Any] = [inspect(dog) for dog in dogs]
            return [
                (
                    state.dict.get("legs"),
                    "legs" in state.committed_state,
                    "id" in state.committed_state and "id" not in state.dict,
                )
                for state in states
            ]

        return side.run(save)

    both(twin_urls, Base, trial, way=way, driver=driver)
