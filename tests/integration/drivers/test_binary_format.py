"""Plain values beside encoded ones on psycopg2, which has no binary format of its own."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures.twins import Twins, differences
from sqlalchemy import BigInteger, Float, LargeBinary, SmallInteger, String, Text, Uuid, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import UserDefinedType

from sqla_seqreserve import register
from sqla_seqreserve.copy_codecs import CopyColumn, Encode, register_codec
from sqla_seqreserve.testing import record_statements

pytestmark = pytest.mark.parametrize("twins", ["psycopg2"], indirect=True)


class Number(UserDefinedType[int]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "integer"


class NumberCodec:
    def binary(self, column: CopyColumn) -> Encode | None:
        if not isinstance(column.type, Number):
            return None
        return lambda values: [None if v is None else struct.pack(">i", v) for v in values]

    def text(self, column: CopyColumn) -> Encode | None:
        if not isinstance(column.type, Number):
            return None
        return lambda values: [None if v is None else str(v) for v in values]


@pytest.fixture(autouse=True)
def _codec() -> Iterator[None]:
    remove = register_codec(NumberCodec())
    yield
    remove()


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[Any] = mapped_column(Number)
    small: Mapped[Any] = mapped_column(SmallInteger, nullable=True)
    big: Mapped[Any] = mapped_column(BigInteger, nullable=True)
    double: Mapped[Any] = mapped_column(Float, nullable=True)
    flag: Mapped[bool | None]
    key: Mapped[Any] = mapped_column(Uuid, nullable=True)
    name: Mapped[Any] = mapped_column(Text, nullable=True)
    code: Mapped[Any] = mapped_column(String(3), nullable=True)
    data: Mapped[Any] = mapped_column(LargeBinary, nullable=True)


ROWS: dict[str, list[dict[str, Any]]] = {
    "numbers": [
        {"small": -1, "big": 2**63 - 1, "double": -0.0},
        {"small": 2**15 - 1, "big": -(2**63), "double": 1e-320},
        {"double": float("nan")},
        {"double": float("-inf"), "flag": False},
    ],
    "texts": [{"name": "ü€😀\t\\N\n", "code": "ab"}, {"name": "", "flag": True}],
    "keys": [{"key": uuid.UUID(int=7)}, {}],
    "bytes": [{"data": b"\x00\xff"}, {}],
    "a text with NUL": [{"name": "a\0b"}],
    "a text that is too long": [{"code": "abcd"}],
}


@pytest.mark.parametrize("encoding", ["utf8", "latin1"])
@pytest.mark.parametrize("rows", ROWS)
def test_values_are_what_insert_stores(twins: Twins, rows: str, encoding: str) -> None:
    """Numbers, texts, truth values and UUIDs in binary format are those of an INSERT."""
    outcomes = []
    for engine, settings in ((twins.plain, None), (twins.ours, {"copy_min_rows": 1})):
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        with Session(engine) as session, record_statements(engine) as statements:
            if settings is not None:
                register(session, **settings)
            if encoding != "utf8":
                connection: Any = session.connection().connection
                connection.driver_connection.set_client_encoding(encoding)
            try:
                session.add_all([Row(number=7, **row) for row in ROWS[rows]])
                session.flush()
                outcomes.append(list(session.scalars(text("SELECT row::text FROM row"))))
            except (DBAPIError, ValueError, UnicodeError) as error:
                outcomes.append([type(error).__name__, str(getattr(error, "orig", error))[:40]])
            session.rollback()
        engine.dispose()
    assert not differences(rows, outcomes[1], outcomes[0])
    copied = [each.sql for each in statements if each.sql.startswith("COPY")]
    # psycopg2 wraps bytes, and writes what is wrapped as text.
    assert ["FORMAT BINARY" in sql for sql in copied] == [rows != "bytes"]
    Base.metadata.drop_all(twins.ours)
    Base.metadata.drop_all(twins.plain)
