"""The memory that a stream of rows takes, as the operating system counts it.

::

    python tests/benchmarks/stream_memory.py 10000000
    python tests/benchmarks/stream_memory.py 10000000 postgresql+psycopg://...

Without a URL it starts a server of its own. It creates a table, inserts and upserts this many rows,
rolls back each time, and prints how far the largest resident memory is above that at the start. Ten
million rows take some 5 GB of disk and half an hour.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Identity, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_insert, bulk_upsert
from sqla_seqreserve.embedded import embedded_postgres


class Base(DeclarativeBase):
    pass


class Reading(Base):
    __tablename__ = "stream_memory_reading"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    sensor: Mapped[int] = mapped_column(unique=True)
    value: Mapped[float]
    note: Mapped[str | None]


def readings(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"sensor": number, "value": number / 7, "note": f"reading {number}"}


def largest() -> float:
    """The largest resident memory of the process until now, in megabytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage() also counts the memory of the parent before it started this program.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(url: str, count: int) -> None:
    engine = create_engine(url)
    with engine.connect() as connection, Session(connection) as session:
        Base.metadata.create_all(connection)
        bulk_insert(session, Reading, readings(100), returning=None)
        bulk_upsert(session, Reading, readings(100), conflict=["sensor"])
        session.rollback()
        Base.metadata.create_all(connection)
        start = largest()
        inserted = bulk_insert(session, Reading, readings(count), returning=None)
        session.rollback()
        print(f"{inserted} rows inserted: {largest() - start:.0f} MB", flush=True)
        Base.metadata.create_all(connection)
        upserted = bulk_upsert(session, Reading, readings(count), conflict=["sensor"])
        session.rollback()
        assert upserted.inserted + upserted.updated == inserted == count
        print(f"{count} rows: {largest() - start:.0f} MB")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        main(sys.argv[2], int(sys.argv[1]))
    else:
        with embedded_postgres() as server:
            main(server.url, int(sys.argv[1]))
