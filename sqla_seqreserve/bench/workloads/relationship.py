"""Parents with children through a relationship."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..data import account_values, posting_values
from ..drivers import PSYCOPG
from ..models import Account, Posting
from ..place import Place
from ..sessions import Sessions
from ..ways.session import add_and_commit
from ..ways.with_django import bulk_create_accounts
from ..work import OURS, PLAIN, Measure, Required, Way, Work

__all__ = ["RELATIONSHIP"]

_CHILDREN: Final = 10


def _add(sessions: Sessions, parents: int) -> Mapping[str, float]:
    values = [
        (account_values(parent), [posting_values(parent * _CHILDREN + i) for i in range(_CHILDREN)])
        for parent in range(parents)
    ]
    return add_and_commit(
        sessions,
        lambda: [
            Account(**row, postings=[Posting(**child) for child in children])
            for row, children in values
        ],
    )


def _ours(place: Place, objects: int) -> Mapping[str, float]:
    return _add(place.ours, objects)


def _plain(place: Place, objects: int) -> Mapping[str, float]:
    return _add(place.plain, objects)


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
    (
        Way(OURS, _ours),
        Way(PLAIN, _plain),
        Way("Django bulk_create, twice", _django, "django", drivers=(PSYCOPG,)),
    ),
    (
        Measure("commit", "", (Required(PLAIN, 2.2),)),
        Measure("flush", "flush alone"),
    ),
    rows=1 + _CHILDREN,
)
