"""Few objects a commit, where the fixed costs show: many commits, in small blocks that take
turns.
"""

from __future__ import annotations

from typing import Final

from ..models import Payment
from ..ways.session import add_in_ours, add_in_stock, add_with_ids_ahead
from ..work import OURS, STOCK, Measure, Required, Way, Work
from .one_table import DJANGO, PAYMENTS

__all__ = ["FIFTY", "ONE"]

_WAYS: Final = (
    Way(OURS, add_in_ours),
    Way(f"{OURS}, prefetch=100", add_with_ids_ahead),
    Way(STOCK, add_in_stock),
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
        Measure("commit", "", (Required(STOCK, 1.5),)),
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
        Measure("commit", "", (Required(STOCK, 0.95),)),
        Measure("flush", "flush alone"),
    ),
    rounds=61,
    repeat=25,
)
