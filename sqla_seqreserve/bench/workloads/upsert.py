"""``bulk_upsert`` of rows of which every second exists already, compared with the ``ON CONFLICT``
statements of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import insert, text
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session

from sqla_seqreserve import bulk_upsert

from ..data import payments
from ..drivers import PSYCOPG
from ..models import PAYMENT_COLUMNS, Receipt
from ..place import Place
from ..ways.clock import Clock
from ..ways.with_django import bulk_create_receipts
from ..work import Measure, Required, Way, Work

__all__ = ["UPSERT"]

_OURS: Final = "sqla-seqreserve bulk_upsert"
_UPDATED: Final = tuple(name for name in PAYMENT_COLUMNS if name != "number")


def _half_there(place: Place, objects: int) -> list[dict[str, Any]]:
    """The rows, after every second was stored with another amount; this is not part of the time."""
    values = payments(objects)
    with place.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(insert(Receipt), [{**row, "amount": 0} for row in values[::2]])
        connection.execute(text(f"VACUUM ANALYZE {Receipt.__tablename__}"))
    return values


def _ours(place: Place, objects: int) -> Mapping[str, float]:
    values = _half_there(place, objects)

    def work(session: Session) -> Mapping[str, float]:
        clock = Clock()
        bulk_upsert(session, Receipt, values, conflict=["number"])
        session.commit()
        return {"commit": clock.seconds()}

    return place.plain.run(work)


def _plain(place: Place, objects: int) -> Mapping[str, float]:
    return _execute(place, objects, {})


def _plain_at_its_best(place: Place, objects: int) -> Mapping[str, float]:
    """Without ``render_nulls`` each run of rows with the same columns is a statement."""
    return _execute(place, objects, {"render_nulls": True})


def _execute(place: Place, objects: int, options: Mapping[str, Any]) -> Mapping[str, float]:
    values = _half_there(place, objects)
    statement = pg_insert(Receipt)
    statement = statement.on_conflict_do_update(
        index_elements=["number"], set_={name: statement.excluded[name] for name in _UPDATED}
    )

    def work(session: Session) -> Mapping[str, float]:
        clock = Clock()
        session.execute(statement, values, execution_options=options)
        session.commit()
        return {"commit": clock.seconds()}

    return place.plain.run(work)


def _psycopg(place: Place, objects: int) -> Mapping[str, float]:
    values = _half_there(place, objects)
    marks = ", ".join(f"%({name})s" for name in PAYMENT_COLUMNS)
    updated = ", ".join(f"{name} = excluded.{name}" for name in _UPDATED)
    statement = (
        f"INSERT INTO {Receipt.__tablename__} ({', '.join(PAYMENT_COLUMNS)}) VALUES ({marks}) "  # noqa: S608  # names of ours
        f"ON CONFLICT (number) DO UPDATE SET {updated}"
    )
    with place.engine.connect() as connection:
        clock = Clock()
        driver: Any = connection.connection
        with driver.cursor() as cursor:
            cursor.executemany(statement, values)
        driver.commit()
        return {"commit": clock.seconds()}


def _django(place: Place, objects: int) -> Mapping[str, float]:
    values: Sequence[Mapping[str, Any]] = _half_there(place, objects)
    return bulk_create_receipts(place, values)


_PLAIN: Final = Way("execute(insert(M).on_conflict_do_update(), rows)", _plain)
_BEST: Final = Way(f"{_PLAIN.name}, render_nulls", _plain_at_its_best)

UPSERT: Final = Work(
    "upsert",
    "bulk_upsert, half of the rows present",
    100_000,
    (Receipt.__tablename__,),
    f"SELECT {', '.join(PAYMENT_COLUMNS)} FROM {Receipt.__tablename__}",  # noqa: S608  # names of ours
    (
        Way(_OURS, _ours),
        _PLAIN,
        _BEST,
        Way("psycopg executemany", _psycopg, drivers=(PSYCOPG,)),
        Way(
            "Django bulk_create(update_conflicts=True)",
            _django,
            needs="django",
            drivers=(PSYCOPG,),
        ),
    ),
    (Measure("commit", "", (Required(_PLAIN.name, 5), Required(_BEST.name, 2.5)), ours=_OURS),),
    rounds=5,
)
