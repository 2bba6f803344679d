"""pgvector's columns if numpy cannot be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from fixtures.zoo import need_extension

pytestmark = pytest.mark.zoo
pytest.importorskip("pgvector")

SAVE = """
import json
import sys

way, url = sys.argv[1:]


class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "numpy":
            raise ModuleNotFoundError(f"No module named {name!r}")


if way == "without numpy":
    sys.meta_path.insert(0, Without())

from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import register


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    whole: Mapped[list[float] | None] = mapped_column(VECTOR(3))
    half: Mapped[list[float] | None] = mapped_column(HALFVEC(3))


ROWS = [
    [1.0, 2.0, 3.0],
    [0.1, 1 / 3, -2.5],
    [0, 1, -0.0],
    [1 + 2**-23, 1 + 2**-11, 6e-5],
    [1e-40, 1e-8, -65504.0],
    None,
]
engine = create_engine(url)
Base.metadata.drop_all(engine)
Base.metadata.create_all(engine)
reports = []
with Session(engine) as session:
    if way != "plain":
        register(session, copy_min_rows=1).on_flush(reports.append)
    session.add_all([Item(whole=row, half=row) for row in ROWS])
    session.commit()
    stored = session.execute(text("SELECT whole::text, half::text FROM item ORDER BY id"))
    print(json.dumps([[list(row) for row in stored], [str(report) for report in reports]]))
Base.metadata.drop_all(engine)
engine.dispose()
assert way != "without numpy" or "numpy" not in sys.modules
"""


def saved(way: str, url: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", SAVE, way, url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_vectors_are_encoded_without_numpy(twin_urls: tuple[str, str]) -> None:
    """Without numpy vectors go by COPY too, and are stored as by plain SQLAlchemy and as with
    numpy.
    """
    need_extension(twin_urls, "vector")
    plain, _ = saved("plain", twin_urls[1])
    for way in ("with numpy", "without numpy"):
        stored, [report] = saved(way, twin_urls[1])
        assert stored == plain, way
        assert "copy" in report, way
