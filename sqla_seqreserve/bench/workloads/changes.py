"""Flushes of changed and deleted objects, and of link rows.

The rows exist, and the objects are loaded, before the clock starts; only the flush is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import insert, select
from sqlalchemy.orm import Session, selectinload

from ..data import payments
from ..models import (
    PAYMENT_COLUMNS,
    Document,
    Folder,
    Payment,
    VersionedPayment,
    folder_document,
)
from ..place import Place
from ..sessions import Sessions
from ..ways.clock import Clock
from ..work import PLAIN, Measure, Required, Work, beside
from .one_table import PAYMENTS
from .there import analyze, fill, ids_of

__all__ = [
    "CHANGED",
    "CHANGED_FAR",
    "CHANGED_HERE_AND_THERE",
    "DELETED",
    "LINKED",
    "TEN_CHANGED_FAR",
    "UNLINKED",
    "VERSIONED",
]

_DOCUMENTS: Final = 100


def _timed(sessions: Sessions, prepare: Callable[[Session], object]) -> Mapping[str, float]:
    """Time the flush of what ``prepare`` does to the objects of a session."""

    def work(session: Session) -> Mapping[str, float]:
        kept = prepare(session)
        clock = Clock()
        session.flush()
        seconds = clock.seconds()
        session.commit()
        del kept
        return {"flush": seconds}

    return sessions.run(work)


def _flush(*required: Required) -> tuple[Measure, ...]:
    return (Measure("flush", "flush alone", required),)


# Changed and deleted objects


def _change(model: Any, *, both: bool = True) -> Any:
    """Change two columns of each object; or one or both, so that neighbours differ."""

    def change(sessions: Sessions, place: Place, objects: int) -> Mapping[str, float]:
        fill(place, model, payments(objects))

        def prepare(session: Session) -> object:
            found = session.scalars(select(model).order_by(model.number)).all()
            for each in found:
                if both or each.number % 3 != 1:
                    each.portfolio += 1
                if both or each.number % 3 != 2:
                    each.amount += Decimal("0.01")
            return found

        return _timed(sessions, prepare)

    return change


def _delete(sessions: Sessions, place: Place, objects: int) -> Mapping[str, float]:
    fill(place, Payment, payments(2 * objects))

    def prepare(session: Session) -> object:
        found = session.scalars(select(Payment).where(Payment.number % 2 == 0)).all()
        for each in found:
            session.delete(each)
        return found

    return _timed(sessions, prepare)


CHANGED: Final = Work(
    "changed",
    "changed objects",
    2_000,
    (Payment.__tablename__,),
    PAYMENTS,
    beside(_change(Payment)),
    _flush(Required(PLAIN, 2.2, others={"psycopg2": 5, "asyncpg": 1.6})),
    rounds=21,
)

CHANGED_FAR: Final = replace(
    CHANGED,
    name="changed-far",
    title="changed objects, 1 ms away",
    objects=1_000,
    measures=_flush(Required(PLAIN, 0.97, others={"psycopg2": 60, "asyncpg": 0.97})),
    rounds=7,
    round_trip_ms=1,
)

TEN_CHANGED_FAR: Final = replace(
    CHANGED_FAR,
    name="ten-changed-far",
    title="10 changed objects, 1 ms away",
    objects=10,
    measures=_flush(Required(PLAIN, 0.97, others={"psycopg2": 5, "asyncpg": 0.97})),
    rounds=15,
)

CHANGED_HERE_AND_THERE: Final = replace(
    CHANGED,
    name="changed-here-and-there",
    title="changed objects, each in other columns than the one before",
    ways=beside(_change(Payment, both=False)),
    measures=_flush(Required(PLAIN, 5, others={"psycopg2": 5, "asyncpg": 5})),
    rounds=11,
)

VERSIONED: Final = replace(
    CHANGED,
    name="versioned",
    title="changed objects that count versions",
    tables=(VersionedPayment.__tablename__,),
    contents=(
        f"SELECT {', '.join(PAYMENT_COLUMNS)}, version FROM {VersionedPayment.__tablename__}"  # noqa: S608  # names of ours
    ),
    ways=beside(_change(VersionedPayment)),
    measures=_flush(Required(PLAIN, 5, others={"psycopg2": 5, "asyncpg": 4})),
    rounds=11,
)

DELETED: Final = replace(
    CHANGED,
    name="deleted",
    title="deleted objects",
    ways=beside(_delete),
    measures=_flush(Required(PLAIN, 2.5, others={"psycopg2": 6, "asyncpg": 1.6})),
)


# Link rows


def _link(sessions: Sessions, place: Place, objects: int) -> Mapping[str, float]:
    _fill_folders(place, objects, linked=0)

    def prepare(session: Session) -> object:
        documents = session.scalars(select(Document).order_by(Document.number)).all()
        folders = _folders(session)
        for number in range(objects):
            folder, document = divmod(number, _DOCUMENTS)
            folders[folder].documents.append(documents[document])
        return folders

    return _timed(sessions, prepare)


def _unlink(sessions: Sessions, place: Place, objects: int) -> Mapping[str, float]:
    _fill_folders(place, 2 * objects, linked=2 * objects)

    def prepare(session: Session) -> object:
        folders = _folders(session)
        for folder in folders:
            for document in folder.documents[1::2]:
                folder.documents.remove(document)
        return folders

    return _timed(sessions, prepare)


def _folders(session: Session) -> list[Folder]:
    statement = select(Folder).order_by(Folder.number).options(selectinload(Folder.documents))
    return list(session.scalars(statement))


def _fill_folders(place: Place, objects: int, linked: int) -> None:
    fill(place, Document, [{"number": number} for number in range(min(objects, _DOCUMENTS))])
    fill(place, Folder, [{"number": number} for number in range(-(-objects // _DOCUMENTS))])
    if not linked:
        return
    folders, documents = ids_of(place, Folder), ids_of(place, Document)
    rows = [
        {"folder_id": folders[folder], "document_id": documents[document]}
        for folder, document in (divmod(number, _DOCUMENTS) for number in range(linked))
    ]
    with place.engine.begin() as connection:
        connection.execute(insert(folder_document), rows)
    analyze(place, folder_document.name)


_LINKS: Final = (
    "SELECT f.number AS folder, d.number AS document FROM bench_folder_document l "
    "JOIN bench_folder f ON f.id = l.folder_id JOIN bench_document d ON d.id = l.document_id"
)

LINKED: Final = replace(
    CHANGED,
    name="linked",
    title="link rows added",
    tables=(Document.__tablename__, Folder.__tablename__, folder_document.name),
    contents=_LINKS,
    ways=beside(_link),
    measures=_flush(Required(PLAIN, 1.8, others=0.97)),
)

UNLINKED: Final = replace(
    LINKED,
    name="unlinked",
    title="link rows removed",
    ways=beside(_unlink),
    measures=_flush(Required(PLAIN, 2, others={"psycopg2": 4, "asyncpg": 0.97})),
)
