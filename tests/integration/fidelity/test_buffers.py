"""Objects with a buffer for a ``bytea`` column: the row, or the error, is plain SQLAlchemy's."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import pytest
from fixtures.sides import DRIVERS, Side, Way, both, refusal
from sqlalchemy import LargeBinary, text
from sqlalchemy.dialects.postgresql import ARRAY, INT4RANGE
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

WAYS = (
    Way("default"),
    Way("copy", {"copy_min_rows": 1}),
    Way("reserve", {"mode": "reserve"}),
    Way("always", {"reserve": "always"}),
)


class Base(DeclarativeBase):
    pass


class Page(Base):
    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes | None]


def released() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


BUFFERS: dict[str, Callable[[], Any]] = {
    "bytearray": lambda: bytearray(b"abc"),
    "view": lambda: memoryview(b"abc"),
    "slice": lambda: memoryview(b"abcdef")[1:3],
    "with a step": lambda: memoryview(b"abcdef")[::2],
    "backwards": lambda: memoryview(b"abcdef")[::-1],
    "empty, with a step": lambda: memoryview(b"")[::2],
    "of integers": lambda: memoryview(array("i", [1, 2])),
    "of two dimensions": lambda: memoryview(bytes(6)).cast("B", (2, 3)),
    "array": lambda: array("B", [1, 2]),
    "released": released,
}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_buffer_is_stored_or_refused_as_by_insert(
    twin_urls: tuple[str, str], driver: str, way: Way
) -> None:
    """Each kind of buffer is stored or refused as in plain SQLAlchemy, alone and among others, and
    after an error session and connection can be used for the next flush.
    """

    def trial(side: Side) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def save(session: Session, make: Callable[[], Any], before: int) -> Any:
            pages = [Page(content=b"before") for _ in range(before)] + [Page(content=make())]
            session.add_all(pages)
            try:
                session.flush()
            except Exception as error:
                outcome: Any = refusal(error)
                session.rollback()
            else:
                session.expire_all()
                outcome = [page.content for page in pages]
            session.add(Page(content=b"after"))
            session.commit()
            return outcome

        for name, make in BUFFERS.items():
            for before in (0, 2):
                found[f"{name} after {before}"] = side.run(
                    lambda session, make=make, before=before: save(session, make, before)
                )
        return found

    both(twin_urls, Base, trial, way=way, driver=driver)


class Sheet(Base):
    """A range from its text goes by COPY in text format."""

    __tablename__ = "sheet"
    id: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes | None]
    parts: Mapped[list[bytes] | None] = mapped_column(ARRAY(LargeBinary))
    lines: Mapped[Any] = mapped_column(INT4RANGE)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "psycopg2"])
def test_bytes_where_backslashes_escape(twin_urls: tuple[str, str], driver: str) -> None:
    """Bytes are stored as they are, also in a session whose string literals know backslash escapes,
    and if another column goes as text.
    """

    def save(session: Session) -> None:
        session.execute(text("SET standard_conforming_strings = off"))
        for content in (b"\0\x01a\\'", bytearray(b"\\\0"), None):
            # psycopg2 adapts no bytes within a list.
            parts = None if driver == "psycopg2" else [b"\0\\", None]
            session.add_all(Sheet(content=content, parts=parts, lines=f"[{n},9]") for n in range(3))
            session.flush()
        session.commit()

    def trial(side: Side) -> Any:
        if side.rows("SHOW server_version_num")[0][0] >= "190000":
            pytest.skip("the server knows no other literals")
        side.run(save)
        return side.rows("SELECT content, parts, lines::text FROM sheet ORDER BY id")

    both(twin_urls, Base, trial, way=WAYS[1], driver=driver)
