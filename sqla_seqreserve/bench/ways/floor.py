"""The lower limit: the time of the unit of work when its INSERT is a COPY written by hand for this
one class.

It has no options, no events, no handling of different errors, and only these types. No way that
keeps SQLAlchemy's unit of work can be much faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from sqlalchemy import event, inspect, text
from sqlalchemy.orm import Session, sessionmaker

from sqla_seqreserve._sqlalchemy.unit_of_work import SaveUpdateAll

from ..models import Payment
from ..place import Place
from ..sessions import PlainSessions, Sessions
from .copying import COPY_PAYMENTS, NEXT_IDS, PAYMENT_TYPES
from .session import add_payments

__all__ = ["add_all_at_the_floor"]

_insert_order = attrgetter("insert_order")
_next_ids = text(NEXT_IDS)


class _CopyPayments(SaveUpdateAll):
    __slots__ = ()

    def execute(self, uow: Any) -> None:
        states = sorted(
            uow.states_for_mapper_hierarchy(self.mapper, False, False), key=_insert_order
        )
        connection = uow.transaction.connection(self.mapper)
        ids = connection.scalars(_next_ids, {"count": len(states)}).all()
        with connection.connection.cursor() as cursor, cursor.copy(COPY_PAYMENTS) as copy:
            copy.set_types(PAYMENT_TYPES)
            write_row = copy.write_row
            for state, id_ in zip(states, ids, strict=True):
                row = state.dict
                row["id"] = id_
                write_row(
                    (
                        id_,
                        row["number"],
                        row["portfolio"],
                        row["kind"],
                        row["paid_at"],
                        row["amount"],
                        row["booked_at"],
                        row["note"],
                    )
                )


def _before_flush(_session: Session, uow: Any, _instances: Any) -> None:
    mapper = inspect(Payment)
    uow.postsort_actions[SaveUpdateAll, mapper] = _CopyPayments(uow, mapper)


def _sessions(place: Place) -> Sessions:
    sessions = sessionmaker(place.engine)
    event.listen(sessions, "before_flush", _before_flush)
    return PlainSessions(sessions)


def add_all_at_the_floor(place: Place, objects: int) -> Mapping[str, float]:
    """``add_all()`` and ``commit()`` with the flush written by hand."""
    return add_payments(place.keep(_sessions), Payment, objects)
