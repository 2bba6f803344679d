"""Changed rows of a table with a unique generated column: their order decides what the server
refuses.
"""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.sides import DRIVERS, Side, both
from sqlalchemy import Computed, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

ROWS = 60


class Base(DeclarativeBase):
    pass


class Price(Base):
    __tablename__ = "price_of_double"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[int]
    name: Mapped[str | None]
    double: Mapped[int] = mapped_column(Computed("price * 2", persisted=True), unique=True)


class Unmapped(DeclarativeBase):
    pass


class PriceAlone(Unmapped):
    __tablename__ = "price_of_double"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[int]
    name: Mapped[str | None]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("names", [False, True], ids=["one kind", "two kinds"])
@pytest.mark.parametrize("model", [Price, PriceAlone], ids=["mapped", "unmapped"])
def test_rows_are_changed_in_the_order_of_plain_sqlalchemy(
    twin_urls: tuple[str, str], driver: str, model: Any, names: bool
) -> None:
    """Objects whose generated values move into each other's places are saved as by plain
    SQLAlchemy, whether they all set the same columns or not.
    """

    def work(session: Session) -> None:
        # Stored in the order in which one UPDATE of all rows would collide.
        numbers = "generate_series(1, 60)" if names else "generate_series(60, 1, -1)"
        session.execute(
            text(f"INSERT INTO price_of_double (id, price) SELECT n, n FROM {numbers} n")
        )
        session.commit()
        items = session.scalars(select(model).order_by(model.id)).all()
        for item in items:
            item.price -= 1
            if names and item.id % 2 == 0:
                item.name = "even"
        session.commit()

    def run(side: Side) -> Any:
        return side.run(work), side.rows("SELECT id, price, double, name FROM price_of_double")

    _, rows = both(twin_urls, Base, run, driver=driver)
    assert [tuple(row)[1:3] for row in sorted(rows)] == [(n, 2 * n) for n in range(ROWS)]
