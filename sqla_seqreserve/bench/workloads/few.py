"""Few objects per commit, where fixed costs matter most: many commits, in small blocks that take
turns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ..models import Payment
from ..ways.session import add_in_ours, add_in_plain, add_with_ids_ahead
from ..work import OURS, PLAIN, Measure, Required, Way, Work
from .one_table import DJANGO, PAYMENTS

__all__ = ["FIFTY", "ONE", "ONE_FAR"]

_WAYS: Final = (
    Way(OURS, add_in_ours),
    Way(f"{OURS}, prefetch=100", add_with_ids_ahead),
    Way(PLAIN, add_in_plain),
    DJANGO,
)

FIFTY: Final = Work(
    "fifty",
    "50 objects a commit",
    50,
    (Payment.__tablename__,),
    PAYMENTS,
    _WAYS,
    (
        Measure("commit", "", (Required(PLAIN, 1.5, others=0.97),)),
        Measure("flush", "flush alone"),
    ),
    rounds=41,
    repeat=10,
)

ONE: Final = Work(
    "one",
    "1 object a commit",
    1,
    (Payment.__tablename__,),
    PAYMENTS,
    _WAYS,
    (
        Measure("commit", "", (Required(PLAIN, 1.1, others=0.97),)),
        Measure("flush", "flush alone", (Required(PLAIN, 1.3, others=0.97),)),
    ),
    rounds=61,
    repeat=25,
)

ONE_FAR: Final = replace(
    ONE,
    name="one-far",
    title="1 object a commit, 5 ms away",
    ways=tuple(way for way in _WAYS if way is not DJANGO),
    measures=(
        Measure("commit", "", (Required(PLAIN, 1.35, others=0.97),)),
        Measure("flush", "flush alone"),
    ),
    rounds=15,
    repeat=5,
    round_trip_ms=5,
)
