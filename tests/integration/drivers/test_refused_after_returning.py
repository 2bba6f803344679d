"""An INSERT is refused after others have returned values: the error is the database's, as usual."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from fixtures.sides import DRIVERS, Side, Way, both, refusal
from sqlalchemy import CheckConstraint, Identity, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

WAYS = (Way("default"), Way("always", {"reserve": "always"}), Way("copy", {"copy_min_rows": 3}))


class Base(DeclarativeBase):
    pass


class Order(Base):
    """Values that its table computes are returned by each INSERT that does not give them."""

    __tablename__ = "order"
    __table_args__ = (CheckConstraint("amount > 0"),)
    __mapper_args__: ClassVar[Any] = {"eager_defaults": True}
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    tag: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="new")
    amount: Mapped[int | None] = mapped_column(unique=True)
    note: Mapped[str | None]


class Stranger:
    """A value that no driver can write."""


REFUSED: dict[str, dict[str, Any]] = {
    "check": {"amount": -1},
    "unique": {"amount": 1},
    "not null": {"tag": None},
    "type": {"amount": "many"},
    "no such value": {"note": Stranger()},
}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("refused", REFUSED)
def test_the_error_is_that_of_the_refused_insert(
    twin_urls: tuple[str, str], driver: str, refused: str
) -> None:
    """The class of the error is plain SQLAlchemy's, whatever came back of the rows before, and the
    session goes on after a rollback.
    """

    def trial(side: Side) -> Any:
        def save(session: Session) -> Any:
            before = Order(tag="a", amount=1)
            last = Order(**{"tag": "b", "state": "given", **REFUSED[refused]})
            session.add_all([before, last])
            found = None
            try:
                session.flush()
            except SQLAlchemyError as error:
                found = refusal(error)
            session.rollback()
            states = [inspect(item).transient for item in (before, last)]
            session.add(Order(tag="c"))
            session.commit()
            return found, states

        return side.run(save), side.rows('SELECT tag FROM "order"')

    for way in WAYS:
        (found, _), _ = both(twin_urls, Base, trial, way=way, driver=driver)
        assert found is not None
