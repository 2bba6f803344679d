"""Parents with children through a relationship."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy.orm import Session, sessionmaker

from ..data import account_values, posting_values
from ..models import Account, Posting
from ..ways.clock import Clock
from ..ways.with_django import bulk_create_accounts
from ..work import OURS, STOCK, Measure, Place, Required, Way, Work

__all__ = ["RELATIONSHIP"]

_CHILDREN: Final = 10


def _add(sessions: sessionmaker[Session], parents: int) -> Mapping[str, float]:
    values = [
        (account_values(parent), [posting_values(parent * _CHILDREN + i) for i in range(_CHILDREN)])
        for parent in range(parents)
    ]
    with sessions() as session:
        clock = Clock()
        session.add_all(
            [
                Account(**row, postings=[Posting(**child) for child in children])
                for row, children in values
            ]
        )
        flush = Clock()
        session.flush()
        flushed = flush.seconds()
        session.commit()
        return {"commit": clock.seconds(), "flush": flushed}


def _ours(place: Place, objects: int) -> Mapping[str, float]:
    return _add(place.ours, objects)


def _stock(place: Place, objects: int) -> Mapping[str, float]:
    return _add(place.stock, objects)


def _django(place: Place, objects: int) -> Mapping[str, float]:
    return bulk_create_accounts(place, objects, _CHILDREN)


RELATIONSHIP: Final = Work(
    "relationship",
    f"parents with {_CHILDREN} children each",
    2_000,
    (Account.__tablename__, Posting.__tablename__),
    "SELECT 1 AS kind, a.number, 0 AS parent, a.name, 0 AS amount FROM bench_account a UNION ALL "
    "SELECT 2, p.number, a.number, a.name, p.amount FROM bench_posting p "
    "JOIN bench_account a ON a.id = p.account_id",
    (Way(OURS, _ours), Way(STOCK, _stock), Way("Django bulk_create, twice", _django, "django")),
    (
        Measure("commit", "", (Required(STOCK, 1.6),)),
        Measure("flush", "flush alone"),
    ),
    rows=1 + _CHILDREN,
)
