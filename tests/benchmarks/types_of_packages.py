"""The speed of writing columns of other packages' types: plain SQLAlchemy and a registered session
take turns, and the ratio of their medians is printed.

    python tests/benchmarks/types_of_packages.py postgresql+psycopg://... [rounds] [work ...]

Without a URL (``-`` in its place) it starts a server of its own, which has no PostGIS. Types that
the server does not have are left out, with one line each.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from geoalchemy2 import Geometry
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import Engine, create_engine, insert, make_url, text
from sqlalchemy.dialects.postgresql import CITEXT, HSTORE, TSVECTOR
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.util import greenlet_spawn

from sqla_seqreserve import bulk_insert, register
from sqla_seqreserve.embedded import embedded_postgres

DRIVERS = ("psycopg", "psycopg2", "asyncpg")
DIMENSIONS = 768


class Base(DeclarativeBase):
    pass


class Document(Base):
    __tablename__ = "bench_document"
    id: Mapped[int] = mapped_column(primary_key=True)
    embedding: Mapped[Any] = mapped_column(VECTOR(DIMENSIONS))


class Place(Base):
    __tablename__ = "bench_place"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[Any] = mapped_column(Geometry("POINT", 4326, spatial_index=False))


class Word(Base):
    __tablename__ = "bench_word"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(CITEXT)
    tags: Mapped[Any] = mapped_column(HSTORE)
    found: Mapped[Any] = mapped_column(TSVECTOR)


def vectors(count: int) -> list[dict[str, Any]]:
    return [
        {"embedding": [(row * 31 + place) % 1000 / 997 for place in range(DIMENSIONS)]}
        for row in range(count)
    ]


def points(count: int) -> list[dict[str, Any]]:
    return [{"at": f"SRID=4326;POINT({n % 180} {n % 90}.5)"} for n in range(count)]


def words(count: int) -> list[dict[str, Any]]:
    return [
        {"word": f"Word {n}", "tags": {"a": str(n), "b": None}, "found": f"word:{n % 100 + 1}"}
        for n in range(count)
    ]


Timed = Callable[[Session, type[Any], list[dict[str, Any]]], float]


def add_all_and_commit(session: Session, model: type[Any], rows: list[dict[str, Any]]) -> float:
    items = [model(**row) for row in rows]
    started = time.perf_counter()
    session.add_all(items)
    session.commit()
    return time.perf_counter() - started


def flush(session: Session, model: type[Any], rows: list[dict[str, Any]]) -> float:
    session.connection()
    session.add_all([model(**row) for row in rows])
    started = time.perf_counter()
    session.flush()
    return time.perf_counter() - started


def execute(session: Session, model: type[Any], rows: list[dict[str, Any]]) -> float:
    started = time.perf_counter()
    session.execute(insert(model), rows)
    session.commit()
    return time.perf_counter() - started


def by_bulk_insert(session: Session, model: type[Any], rows: list[dict[str, Any]]) -> float:
    started = time.perf_counter()
    bulk_insert(session, model, rows, returning=None)
    session.commit()
    return time.perf_counter() - started


@dataclass(frozen=True)
class Work:
    name: str
    model: type[Any]
    rows: Callable[[int], list[dict[str, Any]]]
    count: int
    plain: Timed
    ours: Timed
    extensions: Sequence[str]
    drivers: Sequence[str] = DRIVERS


WORKS = (
    Work("vectors", Document, vectors, 5_000, add_all_and_commit, add_all_and_commit, ["vector"]),
    Work("bulk", Document, vectors, 5_000, execute, by_bulk_insert, ["vector"]),
    Work("points", Place, points, 20_000, flush, flush, ["postgis"]),
    Work("words", Word, words, 20_000, flush, flush, ["citext", "hstore"]),
)


def lacks(engine: Engine, names: Sequence[str]) -> list[str]:
    """The extensions that the server does not have; the others are created."""
    missing = []
    with engine.begin() as connection:
        for name in names:
            query = text("SELECT count(*) FROM pg_available_extensions WHERE name = :name")
            if connection.scalar(query, {"name": name}):
                connection.exec_driver_sql(f"CREATE EXTENSION IF NOT EXISTS {name}")
            else:
                missing.append(name)
    return missing


def once(engine: Engine, work: Work, rows: list[dict[str, Any]], *, registered: bool) -> float:
    with Session(engine) as session:
        session.execute(text(f"TRUNCATE {work.model.__tablename__}"))
        session.commit()
        if registered:
            register(session)
        return (work.ours if registered else work.plain)(session, work.model, rows)


def measure(url: Any, driver: str, work: Work, rounds: int) -> tuple[float, float]:
    """The median seconds of plain SQLAlchemy and of a registered session."""
    rows = work.rows(work.count)
    target = make_url(url).set(drivername=f"postgresql+{driver}")

    def run(engine: Engine) -> tuple[float, float]:
        found: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(rounds + 1):
            for registered in (bool(turn % 2), not turn % 2):
                seconds = once(engine, work, rows, registered=registered)
                if turn:
                    found[registered].append(seconds)
        engine.dispose()
        return statistics.median(found[False]), statistics.median(found[True])

    if driver == "asyncpg":
        return asyncio.run(greenlet_spawn(run, create_async_engine(target).sync_engine))
    return run(create_engine(target))


def main(url: str | None, rounds: int, names: Sequence[str]) -> None:
    with ExitStack() as stack:
        if url is None:
            url = str(stack.enter_context(embedded_postgres()).url)
        owner = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        print(f"{'work':10}{'driver':10}{'plain s':>10}{'ours s':>10}{'plain / ours':>14}")
        for work in WORKS:
            if names and work.name not in names:
                continue
            missing = lacks(owner, work.extensions)
            if missing:
                print(f"{work.name:10}the server has no extension {', '.join(missing)}")
                continue
            work.model.__table__.drop(owner, checkfirst=True)
            work.model.__table__.create(owner)
            for driver in work.drivers:
                plain, ours = measure(url, driver, work, rounds)
                print(f"{work.name:10}{driver:10}{plain:10.3f}{ours:10.3f}{plain / ours:14.2f}")
            work.model.__table__.drop(owner)
        owner.dispose()


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        given[0] if given and given[0] != "-" else None,
        int(given[1]) if len(given) > 1 else 5,
        given[2:],
    )
