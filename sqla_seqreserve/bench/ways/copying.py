"""Binary COPY by hand, through psycopg, with reserved ids: the time of server and driver alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import text

from ..data import payments
from ..models import PAYMENT_COLUMNS
from ..place import Place
from .clock import Clock

__all__ = ["COPY_PAYMENTS", "NEXT_IDS", "PAYMENT_TYPES", "copy_by_psycopg"]

NEXT_IDS: Final = (
    "SELECT nextval('bench_payment_id_seq') FROM generate_series(1, CAST(:count AS bigint))"
)
COPY_PAYMENTS: Final = (
    f"COPY bench_payment (id, {', '.join(PAYMENT_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
)
PAYMENT_TYPES: Final = (
    "int8",
    "int4",
    "int4",
    "varchar",
    "timestamptz",
    "numeric",
    "timestamptz",
    "varchar",
)


def copy_by_psycopg(place: Place, objects: int) -> Mapping[str, float]:
    """Reserve ids and copy mappings: no objects, nothing checked."""
    values = payments(objects)
    with place.engine.connect() as connection:
        clock = Clock()
        ids = connection.scalars(text(NEXT_IDS), {"count": objects}).all()
        driver: Any = connection.connection
        with driver.cursor() as cursor, cursor.copy(COPY_PAYMENTS) as copy:
            copy.set_types(PAYMENT_TYPES)
            write_row = copy.write_row
            for id_, row in zip(ids, values, strict=True):
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
        connection.commit()
        return {"commit": clock.seconds()}
