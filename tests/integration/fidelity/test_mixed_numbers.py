"""Whole numbers, floats and decimals in one column, by COPY and by SQLAlchemy's own INSERT."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import REAL, Double, Engine, Float, Numeric, create_engine, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import FlushReport, register


class Base(DeclarativeBase):
    pass


class Measure(Base):
    __tablename__ = "measure"
    id: Mapped[int] = mapped_column(primary_key=True)
    float: Mapped[Any] = mapped_column(Float, nullable=True)
    double: Mapped[Any] = mapped_column(Double, nullable=True)
    real: Mapped[Any] = mapped_column(REAL, nullable=True)
    short: Mapped[Any] = mapped_column(Float(24), nullable=True)
    numeric: Mapped[Any] = mapped_column(Numeric, nullable=True)
    scaled: Mapped[Any] = mapped_column(Numeric(20, 3), nullable=True)


COLUMNS = ("float", "double", "real", "short", "numeric", "scaled")

VALUES: dict[str, list[Any]] = {
    "whole numbers": [0, 1, -7, 2**31, 16_777_217],
    "large whole numbers": [2**53 + 1, 2**63 - 1, -(2**53) - 1, 9_007_199_791_611_905],
    "whole numbers and floats": [1, 2.5, -3, 0.1, None, 16_777_217],
    "with what is no number": [1, 2.5, float("nan"), 3],
    "infinite": [1, float("inf"), float("-inf"), 2.5],
    "decimals and whole numbers": [Decimal("1.5"), 2, Decimal("-0.001")],
    "decimals and floats": [Decimal("1.5"), 2.25, 0.1],
    "truth values": [True, 2, 1.5],
}


@pytest.fixture(params=["psycopg", "psycopg2"])
def numbers(request: pytest.FixtureRequest, database_url: str) -> Any:
    engine = create_engine(
        database_url.replace("postgresql+psycopg:", f"postgresql+{request.param}:")
    )
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def stored(engine: Engine, column: str, values: list[Any], ours: bool) -> tuple[Any, set[str]]:
    """What a flush of these values stored, or the error's class, and the writers of its rows."""
    reports: list[FlushReport] = []
    with Session(engine) as session:
        if ours:
            register(session, copy_min_rows=1).on_flush(reports.append)
        session.add_all(Measure(**{column: value}) for value in values)
        try:
            session.flush()
            found: Any = [
                repr(value)
                for value in session.scalars(
                    select(Measure.__table__.c[column]).order_by(Measure.__table__.c.id)
                )
            ]
        except SQLAlchemyError as error:
            found = type(error)
        session.rollback()
    return found, {entry.writer for report in reports for entry in report.entries}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("kind", VALUES)
def test_numbers_of_several_types_are_stored_as_by_insert(
    numbers: Engine, column: str, kind: str
) -> None:
    """Each number in a mixture of types is stored as SQLAlchemy's INSERT stores it."""
    plain, _ = stored(numbers, column, VALUES[kind], ours=False)
    ours, _ = stored(numbers, column, VALUES[kind], ours=True)
    assert ours == plain


@pytest.mark.parametrize("kind", ["whole numbers", "whole numbers and floats"])
@pytest.mark.parametrize("column", ["float", "double"])
def test_whole_numbers_in_a_float_column_go_by_copy(
    numbers: Engine, column: str, kind: str
) -> None:
    """Whole numbers in a float column go by COPY on each driver, alone and beside floats."""
    _, writers = stored(numbers, column, VALUES[kind], ours=True)
    assert writers == {"copy"}
