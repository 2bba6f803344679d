"""Codecs of an application: COPY sends the values that they make, and INSERT writes those that they
refuse.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.twins import Twins
from fixtures.type_cases import Case, Side
from sqlalchemy import CHAR, Integer, text, type_coerce
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import TypeDecorator

from sqla_seqreserve import CopyCodec, bulk_insert, bulk_upsert, register
from sqla_seqreserve.copy_codecs import CopyColumn, Encode, _choice, register_codec
from sqla_seqreserve.testing import record_statements

DRIVERS = pytest.mark.parametrize("twins", ["psycopg", "psycopg2", "asyncpg"], indirect=True)


class Shifted(TypeDecorator[int]):
    """A number to which INSERT adds a thousand, in SQL."""

    impl = Integer
    cache_ok = True

    def bind_expression(self, bindvalue: Any) -> Any:
        return type_coerce(bindvalue, Integer) + 1000


class Unchanged(TypeDecorator[str]):
    """A type with a bind_expression that returns its argument unchanged."""

    impl = CHAR
    cache_ok = True

    def bind_expression(self, bindvalue: Any) -> Any:
        return bindvalue


class ShiftedCodec:
    """Adds the thousand in Python, and refuses negative numbers."""

    def __init__(self, *formats: str) -> None:
        self.formats = formats
        self.asked: list[CopyColumn] = []

    def binary(self, column: CopyColumn) -> Encode | None:
        if not isinstance(column.type, Shifted) or "binary" not in self.formats:
            return None
        return lambda values: [v if v is None else struct.pack(">i", self.of(v)) for v in values]

    def text(self, column: CopyColumn) -> Encode | None:
        self.asked.append(column)
        if not isinstance(column.type, Shifted) or "text" not in self.formats:
            return None
        return lambda values: [v if v is None else str(self.of(v)) for v in values]

    def of(self, value: int) -> int:
        if value < 0:
            raise ValueError(f"{value} is negative")
        return value + 1000


@pytest.fixture(params=[("binary",), ("text",), ("binary", "text")], ids="+".join)
def codec(request: pytest.FixtureRequest) -> Iterator[ShiftedCodec]:
    """A registered codec that has these formats."""
    codec = ShiftedCodec(*request.param)
    remove = register_codec(codec)
    try:
        yield codec
    finally:
        remove()


ITEM = Case("shifted", Shifted(), ())


@DRIVERS
def test_a_codec_writes_what_insert_stores(twins: Twins, codec: ShiftedCodec) -> None:
    """Rows with a codec go by COPY, binary if the codec has that format, and INSERT would store the
    same.
    """
    plain, ours = Side(twins.plain, ITEM, None), Side(twins.ours, ITEM, {"copy_min_rows": 1})
    with plain.session, ours.session:
        expected, _ = plain.flush([1, None, 2**20])
        with record_statements(twins.ours) as statements:
            actual, writers = ours.flush([1, None, 2**20])
    assert actual == expected
    copied = [each.sql for each in statements if each.sql.startswith("COPY")]
    assert writers == {"copy"}
    assert ["FORMAT BINARY" in sql for sql in copied] == ["binary" in codec.formats]
    [column] = {
        (one.name, one.stored, one.dialect.driver) for one in codec.asked if one.name == "value"
    }
    assert column == ("value", "int4", twins.ours.driver)


@DRIVERS
def test_a_codec_goes_as_text_beside_a_column_without_binary_format(
    twins: Twins, codec: ShiftedCodec
) -> None:
    """A COPY has one format for all columns; a codec without it leaves the rows to INSERT."""
    plain = Side(twins.plain, ITEM, None, as_text=True)
    ours = Side(twins.ours, ITEM, {"copy_min_rows": 1}, as_text=True)
    with plain.session, ours.session:
        expected, _ = plain.flush([1, None, 7])
        actual, writers = ours.flush([1, None, 7])
    assert actual == expected
    assert (writers == {"copy"}) == ("text" in codec.formats)


@DRIVERS
def test_what_a_codec_refuses_is_written_by_insert(twins: Twins, codec: ShiftedCodec) -> None:
    """If a codec refuses a value, SQLAlchemy writes the rows, and the report contains the codec's
    reason.
    """
    plain, ours = Side(twins.plain, ITEM, None), Side(twins.ours, ITEM, {"copy_min_rows": 1})
    with plain.session, ours.session:
        expected, _ = plain.flush([1, -5])
        actual, writers = ours.flush([1, -5])
    assert actual == expected
    assert writers == {"orm: the CopyCodec of value refuses a value (ValueError: -5 is negative)"}


@pytest.mark.parametrize("made", [[b"1"], ["1", "2"], "12"], ids=repr)
def test_a_codec_that_makes_something_else_is_not_believed(twins: Twins, made: Any) -> None:
    """If a codec returns another number of values, or values of a wrong type, they are
    never sent.
    """

    class Careless(ShiftedCodec):
        def binary(self, column: CopyColumn) -> Encode | None:
            return (lambda values: made) if isinstance(column.type, Shifted) else None

    remove = register_codec(Careless())
    try:
        ours = Side(twins.ours, ITEM, {"copy_min_rows": 1})
        with ours.session:
            stored, writers = ours.flush([1, 2])
    finally:
        remove()
    assert stored[2] == ["1001", "1002"]
    [writer] = writers
    assert writer.startswith("orm: the CopyCodec of value refuses a value (it must return bytes")


def test_a_codec_is_noticed_and_forgotten(twins: Twins) -> None:
    """After a codec is registered or removed the next flush of a class uses the change."""
    ours = Side(twins.ours, ITEM, {"copy_min_rows": 1})
    with ours.session:
        _, before = ours.flush([1, 2])
        remove = register_codec(ShiftedCodec("binary"))
        _, during = ours.flush([1, 2])
        remove()
        _, after = ours.flush([1, 2])
    assert during == {"copy"}
    assert before == after == {"orm: the type of value wraps its values in SQL"}


def test_the_last_codec_is_asked_first(twins: Twins) -> None:
    """Of two codecs for a column the one that was registered later decides."""
    removes = [register_codec(ShiftedCodec("text")), register_codec(ShiftedCodec("binary"))]
    try:
        ours = Side(twins.ours, ITEM, {"copy_min_rows": 1})
        with ours.session, record_statements(twins.ours) as statements:
            ours.flush([1, 2])
    finally:
        for remove in removes:
            remove()
    assert any("FORMAT BINARY" in each.sql for each in statements)


def test_a_codec_of_an_entry_point_is_found(
    twins: Twins,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A package's codec is loaded from its entry point; one that fails to load is only logged."""
    (tmp_path / "shifting.py").write_text(MODULE)
    metadata = tmp_path / "shifting-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shifting\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[sqla_seqreserve.copy_codecs]\nbroken = shifting:missing\nshifted = shifting:Codec\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    _choice._installed.cache_clear()
    try:
        ours = Side(twins.ours, ITEM, {"copy_min_rows": 1})
        with ours.session:
            stored, writers = ours.flush([1, 2])
    finally:
        _choice._installed.cache_clear()
    assert writers == {"copy"}
    assert stored[2] == ["1001", "1002"]
    assert [record.getMessage() for record in caplog.records] == [
        "entry point broken of sqla_seqreserve.copy_codecs cannot be loaded"
    ]


MODULE = """
class Codec:
    def binary(self, column):
        return None

    def text(self, column):
        if type(column.type).__name__ == "Shifted":
            return lambda values: [str(value + 1000) for value in values]
"""


@pytest.mark.parametrize("given", [ShiftedCodec, object(), None], ids=["class", "object", "none"])
def test_only_a_codec_is_registered(given: Any) -> None:
    """register_codec() refuses a class, or an object without a codec's methods."""
    assert isinstance(ShiftedCodec("text"), CopyCodec)
    with pytest.raises(TypeError, match="expected an object with the methods of CopyCodec"):
        register_codec(given)


def test_a_type_that_wraps_nothing_goes_by_copy(twins: Twins) -> None:
    """If a ``bind_expression`` returns its argument unchanged, rows go by COPY."""
    item = Case("unchanged", Unchanged(3), ())
    plain, ours = Side(twins.plain, item, None), Side(twins.ours, item, {"copy_min_rows": 1})
    with plain.session, ours.session:
        expected, _ = plain.flush(["abc", "d", None])
        actual, writers = ours.flush(["abc", "d", None])
    assert actual == expected
    assert writers == {"copy"}


class Base(DeclarativeBase):
    pass


class Measure(Base):
    __tablename__ = "measure"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[int] = mapped_column(unique=True)
    value: Mapped[int] = mapped_column(Shifted)
    made: Mapped[int] = mapped_column(Shifted, default=lambda: 5)


@DRIVERS
@pytest.mark.parametrize("count", [3, 300])
def test_bulk_functions_ask_codecs(twins: Twins, codec: ShiftedCodec, count: int) -> None:
    """bulk_insert and bulk_upsert with a codec store what INSERT stores, defaults too, for few rows
    and many.
    """
    Base.metadata.drop_all(twins.ours)
    Base.metadata.create_all(twins.ours)
    with Session(twins.ours) as session:
        register(session, copy_min_rows=1)
        bulk_insert(session, Measure, [{"code": n, "value": n} for n in range(count)])
        rows = [{"code": n, "value": n - count} for n in range(2 * count)]
        result = bulk_upsert(session, Measure, rows, conflict=["code"])
        assert (result.inserted, result.updated) == (count, count)
        stored = session.execute(text("SELECT code, value, made FROM measure ORDER BY code")).all()
        session.rollback()
    assert [tuple(row) for row in stored] == [(n, n - count + 1000, 1005) for n in range(2 * count)]
    Base.metadata.drop_all(twins.ours)
