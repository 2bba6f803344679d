"""``bulk_insert`` of mappings, with ids or objects, beside SQLAlchemy's bulk statements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from sqlalchemy.orm import Session

from sqla_seqreserve import bulk_insert

from ..data import payments
from ..models import Payment
from ..place import Place
from ..ways.clock import Clock
from ..work import Measure, Required, Way, Work
from .one_table import (
    ASYNCPG,
    DJANGO,
    INSERT,
    INSERT_IDS,
    INSERT_OBJECTS,
    PAYMENTS,
    RAW_COPY,
    TEXT_COPY,
)

__all__ = ["MAPPINGS", "OBJECTS"]

_IDS: Final = "sqla-seqreserve bulk_insert"
_OBJECTS: Final = 'sqla-seqreserve bulk_insert, returning="objects"'


def _ids(place: Place, objects: int) -> Mapping[str, float]:
    return _insert(place, objects, "ids")


def _objects(place: Place, objects: int) -> Mapping[str, float]:
    return _insert(place, objects, "objects")


def _insert(
    place: Place, objects: int, returning: Literal["ids", "objects"]
) -> Mapping[str, float]:
    values = payments(objects)

    def work(session: Session) -> Mapping[str, float]:
        clock = Clock()
        kept: Any = bulk_insert(session, Payment, values, returning=returning)
        session.commit()
        seconds = clock.seconds()
        # Held until the clock has stopped: freeing the objects is not part of any way's work.
        del kept
        return {"commit": seconds}

    return place.plain.run(work)


MAPPINGS: Final = Work(
    "bulk-insert",
    "bulk_insert of mappings",
    100_000,
    (Payment.__tablename__,),
    PAYMENTS,
    (Way(_IDS, _ids), INSERT, INSERT_IDS, RAW_COPY, TEXT_COPY, DJANGO, ASYNCPG),
    (
        Measure(
            "commit",
            "",
            (
                Required(INSERT.name, 5, others=3),
                Required(INSERT_IDS.name, 15),
                Required(RAW_COPY.name, 1.3, "at most"),
            ),
            ours=_IDS,
        ),
    ),
)

OBJECTS: Final = Work(
    "bulk-insert-objects",
    'bulk_insert(returning="objects")',
    20_000,
    (Payment.__tablename__,),
    PAYMENTS,
    (Way(_OBJECTS, _objects), INSERT_OBJECTS, DJANGO),
    (Measure("commit", "", (Required(INSERT_OBJECTS.name, 4),), ours=_OBJECTS),),
)
