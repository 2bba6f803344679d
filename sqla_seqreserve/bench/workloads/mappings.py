"""``bulk_insert`` of mappings, with ids or objects, beside SQLAlchemy's bulk statements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqla_seqreserve import bulk_insert

from ..data import payments
from ..models import Payment
from ..ways.clock import Clock
from ..work import Measure, Place, Required, Way, Work
from .one_table import (
    ASYNCPG,
    DJANGO,
    INSERT,
    INSERT_IDS,
    INSERT_OBJECTS,
    PAYMENTS,
    RAW_COPY,
)

__all__ = ["MAPPINGS", "OBJECTS"]

_IDS: Final = "sqla-seqreserve bulk_insert"
_OBJECTS: Final = 'sqla-seqreserve bulk_insert, returning="objects"'


def _ids(place: Place, objects: int) -> Mapping[str, float]:
    values = payments(objects)
    with place.stock() as session:
        clock = Clock()
        bulk_insert(session, Payment, values)
        session.commit()
        return {"commit": clock.seconds()}


def _objects(place: Place, objects: int) -> Mapping[str, float]:
    values = payments(objects)
    with place.stock() as session:
        clock = Clock()
        kept = bulk_insert(session, Payment, values, returning="objects")
        session.commit()
        seconds = clock.seconds()
        # Held until the clock has stopped: to free the objects is nobody's work here.
        del kept
        return {"commit": seconds}


MAPPINGS: Final = Work(
    "bulk-insert",
    "bulk_insert of mappings",
    100_000,
    (Payment.__tablename__,),
    PAYMENTS,
    (Way(_IDS, _ids), INSERT, INSERT_IDS, RAW_COPY, DJANGO, ASYNCPG),
    (
        Measure(
            "commit",
            "",
            (
                Required(INSERT.name, 5),
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
