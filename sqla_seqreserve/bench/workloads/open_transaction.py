"""A flush of few rows of several tables in a transaction that is open already, to a server that is
far away: the number of round trips decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from ..data import payment_values
from ..models import PAYMENT_COLUMNS, Charge, Payment, Refund
from ..place import Place
from ..sessions import Sessions
from ..ways.clock import Clock
from ..work import OURS, PLAIN, Measure, Required, Way, Work

__all__ = ["OPEN_TRANSACTION"]

_MODELS: Final = (Payment, Refund, Charge)
_COLUMNS: Final = ", ".join(PAYMENT_COLUMNS)


def _add(sessions: Sessions, objects: int) -> Mapping[str, float]:
    values = [payment_values(number) for number in range(objects)]

    def work(session: Session) -> Mapping[str, float]:
        session.execute(text("SELECT 1"))
        clock = Clock()
        session.add_all(
            [_MODELS[number % len(_MODELS)](**row) for number, row in enumerate(values)]
        )
        session.flush()
        flushed = clock.seconds()
        session.commit()
        return {"flush": flushed}

    return sessions.run(work)


def _ours(place: Place, objects: int) -> Mapping[str, float]:
    return _add(place.ours, objects)


def _plain(place: Place, objects: int) -> Mapping[str, float]:
    return _add(place.plain, objects)


OPEN_TRANSACTION: Final = Work(
    "open-transaction",
    "50 rows of 3 tables in an open transaction, 5 ms away",
    50,
    tuple(model.__tablename__ for model in _MODELS),
    " UNION ALL ".join(
        f"SELECT '{model.__tablename__}' AS name, {_COLUMNS} FROM {model.__tablename__}"  # noqa: S608  # names of ours
        for model in _MODELS
    ),
    (Way(OURS, _ours), Way(PLAIN, _plain)),
    (Measure("flush", "add_all + flush", (Required(PLAIN, 1.5, others=0.97),)),),
    rounds=15,
    repeat=3,
    round_trip_ms=5,
)
