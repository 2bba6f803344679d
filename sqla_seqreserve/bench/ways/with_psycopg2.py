"""psycopg2's ``copy_expert()`` with text written by hand, ids reserved."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, create_engine

from ..data import payments
from ..models import PAYMENT_COLUMNS
from ..place import Place
from .clock import Clock

__all__ = ["copy_by_psycopg2"]

_NEXT_IDS = "SELECT nextval('bench_payment_id_seq') FROM generate_series(1, %s)"
_NULL = r"\N"
_COPY = f"COPY bench_payment (id, {', '.join(PAYMENT_COLUMNS)}) FROM STDIN"


def _engine(place: Place) -> Engine:
    engine = create_engine(place.url.set(drivername="postgresql+psycopg2"))
    place.closing.callback(engine.dispose)
    return engine


def copy_by_psycopg2(place: Place, objects: int) -> Mapping[str, float]:
    """Reserve ids and copy mappings: no objects, nothing checked, nothing escaped."""
    values = payments(objects)
    with place.keep(_engine).connect() as connection:
        driver: Any = connection.connection
        clock = Clock()
        with driver.cursor() as cursor:
            cursor.execute(_NEXT_IDS, [objects])
            ids = cursor.fetchall()
            lines = io.StringIO()
            for (id_,), row in zip(ids, values, strict=True):
                note = row["note"]
                lines.write(
                    f"{id_}\t{row['number']}\t{row['portfolio']}\t{row['kind']}\t{row['paid_at']}\t"
                    f"{row['amount']}\t{row['booked_at']}\t{_NULL if note is None else note}\n"
                )
            lines.seek(0)
            cursor.copy_expert(_COPY, lines)
        driver.commit()
        return {"commit": clock.seconds()}
