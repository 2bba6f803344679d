"""``add_all()`` and ``commit()`` of one table of eight columns, by every way there is."""

from __future__ import annotations

from typing import Final

from ..drivers import PSYCOPG
from ..models import PAYMENT_COLUMNS, Payment
from ..ways.copying import copy_by_psycopg
from ..ways.floor import add_all_at_the_floor
from ..ways.session import (
    add_in_ours,
    add_in_plain,
    insert_mappings,
    insert_returning_ids,
    insert_returning_objects,
)
from ..ways.with_asyncpg import copy_by_asyncpg
from ..ways.with_django import bulk_create_payments
from ..ways.with_psycopg2 import copy_by_psycopg2
from ..work import OURS, PLAIN, Measure, Required, Way, Work

__all__ = [
    "ADD_ALL",
    "ASYNCPG",
    "DJANGO",
    "FLOOR",
    "INSERT",
    "INSERT_IDS",
    "INSERT_OBJECTS",
    "PAYMENTS",
    "RAW_COPY",
    "TEXT_COPY",
]

PAYMENTS: Final = f"SELECT {', '.join(PAYMENT_COLUMNS)} FROM {Payment.__tablename__}"  # noqa: S608  # names of ours

FLOOR: Final = Way("reserve + COPY by hand in the flush", add_all_at_the_floor, drivers=(PSYCOPG,))
INSERT: Final = Way("execute(insert(M), rows)", insert_mappings)
INSERT_IDS: Final = Way("execute(insert(M).returning(M.id, sorted), rows)", insert_returning_ids)
INSERT_OBJECTS: Final = Way("scalars(insert(M).returning(M), rows)", insert_returning_objects)
RAW_COPY: Final = Way("psycopg binary COPY, ids reserved", copy_by_psycopg, drivers=(PSYCOPG,))
TEXT_COPY: Final = Way(
    "psycopg2 text COPY, ids reserved", copy_by_psycopg2, needs="psycopg2", drivers=("psycopg2",)
)
DJANGO: Final = Way("Django bulk_create", bulk_create_payments, needs="django", drivers=(PSYCOPG,))
ASYNCPG: Final = Way(
    "asyncpg copy_records_to_table",
    copy_by_asyncpg,
    needs="asyncpg",
    drivers=(PSYCOPG, "asyncpg"),
)

ADD_ALL: Final = Work(
    "add-all",
    "add_all + commit, one table",
    20_000,
    (Payment.__tablename__,),
    PAYMENTS,
    (
        Way(OURS, add_in_ours),
        Way(PLAIN, add_in_plain),
        FLOOR,
        DJANGO,
        INSERT_OBJECTS,
        INSERT_IDS,
        INSERT,
        RAW_COPY,
        TEXT_COPY,
        ASYNCPG,
    ),
    (
        Measure(
            "commit", "", (Required(PLAIN, 3.5, others=2.5), Required(FLOOR.name, 1.15, "at most"))
        ),
        Measure("flush", "flush alone", (Required(PLAIN, 6, others=4),)),
    ),
    rounds=9,
)
