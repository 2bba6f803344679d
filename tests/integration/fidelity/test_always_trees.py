"""Small trees with a ``GENERATED ALWAYS`` key, and with values that INSERT casts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

import pytest
from fixtures.sides import DRIVERS, Side, Way, both, refusal
from sqlalchemy import ForeignKey, Identity, Integer, func, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

WAYS = (
    Way("default"),
    Way("copy", {"copy_min_rows": 1}),
    Way("always", {"reserve": "always"}),
    Way("copy of two, always", {"copy_min_rows": 2, "reserve": "always"}),
    Way("reserve", {"mode": "reserve"}),
    Way("prefetch", {"prefetch": 5, "copy_min_rows": 1}),
)


class Base(DeclarativeBase):
    pass


class Node(Base):
    __tablename__ = "node"
    __mapper_args__: ClassVar[Any] = {"polymorphic_on": "kind", "polymorphic_identity": "node"}
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    kind: Mapped[str]
    number: Mapped[Any] = mapped_column(Integer, nullable=True)
    up_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    up: Mapped[Node | None] = relationship(remote_side="Node.id")


class Leaf(Node):
    __tablename__ = "leaf"
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "leaf"}
    id: Mapped[int] = mapped_column(ForeignKey("node.id"), primary_key=True)
    more: Mapped[Any] = mapped_column(Integer, server_default="3", nullable=True)


CHAINS: list[list[Any]] = [
    ["5", 2],
    [5, "6"],
    [6, 7.0],
    [1, "2", 3],
    ["1", 2, "3"],
    [1, 2, 3.0, "4"],
    [1, Decimal(2), func.abs(-3), None, "4"],
    [1, 2, func.abs(-3), func.abs(-4), func.abs(-5)],
    [True, 1],
]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("classes", [(Node, Node), (Leaf, Leaf), (Node, Leaf)], ids=str)
def test_children_refer_to_their_parents(
    twin_urls: tuple[str, str], way: Way, driver: str, classes: tuple[type[Any], type[Any]]
) -> None:
    """Whichever rows of a chain go by INSERT because COPY refuses them, each refers to its
    parent.
    """

    def trial(side: Side) -> Any:
        def save(session: Session, numbers: list[Any], *, upwards: bool) -> Any:
            nodes: list[Any] = []
            for place, number in enumerate(numbers):
                up = nodes[-1] if nodes else None
                nodes.append(classes[place % 2](number=number, up=up))
                if place % 3 == 1 and isinstance(nodes[-1], Leaf):
                    nodes[-1].more = number
            session.add_all(nodes[::-1] if upwards else nodes)
            try:
                session.flush()
            except SQLAlchemyError as error:
                session.rollback()
                return refusal(error)
            fits = [node.up_id == (node.up and node.up.id) for node in nodes]
            rows = session.execute(
                text(
                    "SELECT n.number, l.more, u.number FROM node n LEFT JOIN node u ON u.id ="
                    " n.up_id LEFT JOIN leaf l ON l.id = n.id ORDER BY 1, 2, 3"
                )
            )
            found = [tuple(row) for row in rows]
            session.rollback()
            return fits, found

        return [
            side.run(lambda session, n=numbers, u=upwards: save(session, n, upwards=u))
            for numbers in CHAINS
            for upwards in (False, True)
        ]

    both(twin_urls, Base, trial, way=way, driver=driver)
