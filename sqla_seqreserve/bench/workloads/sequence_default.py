"""The same with a ``Sequence`` that is also the server default, for which plain SQLAlchemy sends
one INSERT per row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..models import PAYMENT_COLUMNS, PaymentOfSequence
from ..place import Place
from ..ways.session import add_payments
from ..work import OURS, PLAIN, Measure, Required, Way, Work

__all__ = ["SEQUENCE_DEFAULT"]


def _ours(place: Place, objects: int) -> Mapping[str, float]:
    return add_payments(place.ours, PaymentOfSequence, objects)


def _plain(place: Place, objects: int) -> Mapping[str, float]:
    return add_payments(place.plain, PaymentOfSequence, objects)


SEQUENCE_DEFAULT: Final = Work(
    "sequence-default",
    "add_all + commit, Sequence as server_default",
    20_000,
    (PaymentOfSequence.__tablename__,),
    f"SELECT {', '.join(PAYMENT_COLUMNS)} FROM {PaymentOfSequence.__tablename__}",  # noqa: S608  # names of ours
    (Way(OURS, _ours), Way(PLAIN, _plain)),
    (
        Measure("commit", "", (Required(PLAIN, 5),)),
        Measure("flush", "flush alone", (Required(PLAIN, 9),)),
    ),
)
