"""``bulk_insert(returning=None)`` of a generator, in bounded memory, beside raw COPY of the same
generator and plain SQLAlchemy in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import insert
from sqlalchemy.orm import Session

from sqla_seqreserve import bulk_insert

from ..data import payment_values
from ..drivers import PSYCOPG
from ..models import PAYMENT_COLUMNS, Payment
from ..place import Place
from ..ways.clock import Clock
from ..ways.copying import PAYMENT_TYPES
from ..work import Measure, Required, Way, Work
from .one_table import PAYMENTS

__all__ = ["STREAM"]

_OURS: Final = "sqla-seqreserve bulk_insert(returning=None)"
_CHUNK: Final = 20_000
"""The number of rows that ``bulk_insert`` holds at once by default."""


def _rows(objects: int) -> Iterator[dict[str, Any]]:
    return map(payment_values, range(objects))


def _ours(place: Place, objects: int) -> Mapping[str, float]:
    def work(session: Session) -> Mapping[str, float]:
        clock = Clock()
        bulk_insert(session, Payment, _rows(objects), returning=None)
        session.commit()
        return {"commit": clock.seconds()}

    return place.plain.run(work)


def _plain(place: Place, objects: int) -> Mapping[str, float]:
    def work(session: Session) -> Mapping[str, float]:
        clock = Clock()
        rows = _rows(objects)
        while chunk := list(islice(rows, _CHUNK)):
            session.execute(insert(Payment), chunk, execution_options={"render_nulls": True})
        session.commit()
        return {"commit": clock.seconds()}

    return place.plain.run(work)


def _copy(place: Place, objects: int) -> Mapping[str, float]:
    statement = (
        f"COPY {Payment.__tablename__} ({', '.join(PAYMENT_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
    )
    with place.engine.connect() as connection:
        clock = Clock()
        driver: Any = connection.connection
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(PAYMENT_TYPES[1:])
            write_row = copy.write_row
            for row in map(itemgetter(*PAYMENT_COLUMNS), _rows(objects)):
                write_row(row)
        driver.commit()
        return {"commit": clock.seconds()}


_PLAIN: Final = Way("execute(insert(M), chunk) of chunks", _plain)
_COPY: Final = Way("psycopg binary COPY", _copy, drivers=(PSYCOPG,))

STREAM: Final = Work(
    "stream",
    "bulk_insert of a generator",
    200_000,
    (Payment.__tablename__,),
    PAYMENTS,
    (Way(_OURS, _ours), _PLAIN, _COPY),
    (
        Measure(
            "commit",
            "",
            (Required(_PLAIN.name, 3, others=2), Required(_COPY.name, 1.5, "at most")),
            ours=_OURS,
        ),
    ),
    rounds=5,
)
