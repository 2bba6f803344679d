"""An environment with one driver, which is not psycopg: a slim image."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import make_url

BLOCKED = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""

SAVE = """
import asyncio
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqla_seqreserve import bulk_insert, check_sequences, register, repair_sequences

class Base(DeclarativeBase):
    pass

class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

def work(connection):
    Base.metadata.create_all(connection)
    with Session(connection) as session:
        register(session, copy_min_rows=1).on_flush(lambda report: print(report.entries[0].writer))
        session.add_all([Item(name="a"), Item(name="b")])
        session.flush()
        bulk_insert(session, Item, [{{"name": "c"}}])
        assert check_sequences(session, Base).healthy
        repair_sequences(session, Base)
        session.commit()

async def main():
    async with create_async_engine({url!r}).begin() as connection:
        await connection.run_sync(work)

if "asyncpg" in {url!r}:
    asyncio.run(main())
else:
    with create_engine({url!r}).begin() as connection:
        work(connection)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg2"])
def test_one_driver_is_enough(database_url: str, driver: str) -> None:
    """COPY and health checks work without psycopg and other libraries that use libpq."""
    url = make_url(database_url).set(drivername=f"postgresql+{driver}")
    absent = {"psycopg", "psycopg_binary", "psycopg_c", "asyncpg", "psycopg2"} - {driver}
    code = BLOCKED.format(absent=absent) + SAVE.format(url=url.render_as_string(False))
    done = run(code)
    assert (done.returncode, done.stdout) == (0, "copy\n"), done.stderr


def test_importing_needs_no_driver() -> None:
    """The package, except for its command line, can be imported without any driver."""
    absent = {"psycopg", "psycopg_binary", "psycopg_c", "asyncpg", "psycopg2"}
    code = BLOCKED.format(absent=absent) + "import sqla_seqreserve, sqla_seqreserve.health\n"
    done = run(code)
    assert done.returncode == 0, done.stderr
