"""A chain of objects in a table that refers to itself, each the parent of the next: plain
SQLAlchemy inserts one after the other.
"""

from __future__ import annotations

from typing import Final

from ..data import node_values
from ..models import Node
from ..ways.session import add_ways
from ..work import PLAIN, Measure, Required, Work

__all__ = ["CHAIN"]


def _chain(length: int) -> list[Node]:
    nodes: list[Node] = []
    for number in range(length):
        nodes.append(Node(**node_values(number), parent=nodes[-1] if nodes else None))
    return nodes


CHAIN: Final = Work(
    "chain",
    "a chain of 300, by a Unix socket",
    300,
    (Node.__tablename__,),
    "SELECT n.number, n.name, p.number AS parent FROM bench_node n "
    "LEFT JOIN bench_node p ON p.id = n.parent_id",
    add_ways(_chain),
    (
        Measure("commit", "", (Required(PLAIN, 5, others=0.97),)),
        Measure("flush", "flush alone"),
    ),
    rounds=15,
    by_socket=True,
)
