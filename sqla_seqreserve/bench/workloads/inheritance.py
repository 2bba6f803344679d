"""Joined inheritance: two tables per object. Django's ``bulk_create`` refuses such models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..data import bond_values
from ..models import Bond, Instrument
from ..place import Place
from ..sessions import Sessions
from ..ways.session import add_and_commit
from ..work import OURS, PLAIN, Measure, Required, Way, Work

__all__ = ["JOINED"]


def _add(sessions: Sessions, objects: int) -> Mapping[str, float]:
    values = [bond_values(number) for number in range(objects)]
    return add_and_commit(sessions, lambda: [Bond(**row) for row in values])


def _ours(place: Place, objects: int) -> Mapping[str, float]:
    return _add(place.ours, objects)


def _plain(place: Place, objects: int) -> Mapping[str, float]:
    return _add(place.plain, objects)


JOINED: Final = Work(
    "joined",
    "joined inheritance",
    20_000,
    (Instrument.__tablename__, Bond.__tablename__),
    "SELECT i.kind, i.number, i.name, b.coupon, b.issued_at "
    "FROM bench_instrument i JOIN bench_bond b USING (id)",
    (Way(OURS, _ours), Way(PLAIN, _plain)),
    (
        Measure("commit", "", (Required(PLAIN, 2.5),)),
        Measure("flush", "flush alone"),
    ),
)
