"""A dry run of bulk_sync in a READ ONLY transaction."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.bulk_keys import DRIVERS, OnDriver
from fixtures.bulk_keys import on_driver as on_driver
from sqlalchemy import JSON, Engine, Identity, text, true
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_insert, bulk_sync
from sqla_seqreserve.errors import ReadOnlyError


class Base(DeclarativeBase):
    pass


class Reading(Base):
    __tablename__ = "reading"
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    text: Mapped[str | None]
    data: Mapped[Any] = mapped_column(JSON, nullable=True)


def dry(session: Session, rows: Any, **options: Any) -> tuple[int, int, int, int]:
    would = bulk_sync(session, Reading, rows, key="number", scope=true(), dry_run=True, **options)
    return would.inserted, would.updated, would.unchanged, would.deleted


READ_ONLY = text("SET TRANSACTION READ ONLY")


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("many", [100, 5000])
def test_a_read_only_transaction_is_enough(
    on_driver: OnDriver[Any], engine: Engine, driver: str, many: int
) -> None:
    """In a READ ONLY transaction a dry run compares any number of rows of plain types, and counts
    what the call would do.
    """
    Base.metadata.create_all(engine)
    rows = [{"number": n, "text": "b" if n % 2 else None} for n in range(50, many)]

    def work(session: Session) -> Any:
        session.execute(READ_ONLY)
        return dry(session, rows)

    with Session(engine) as session, session.begin():
        bulk_insert(session, Reading, [{"number": n, "text": None} for n in range(80)])
    assert on_driver(driver, work) == (many - 80, 15, 15, 50)


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ([{"number": 1, "data": {}}], {}),
        ([{"number": n, "text": "x"} for n in range(300)], {"chunk_rows": 200}),
    ],
    ids=["a type that is not plain", "several chunks"],
)
def test_rows_that_need_a_temporary_table(
    engine: Engine, rows: Any, options: dict[str, Any]
) -> None:
    """Where a dry run needs a temporary table, the error in a READ ONLY transaction says so, and
    in any other transaction the rows are counted.
    """
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        assert dry(session, rows, **options) == (len(rows), 0, 0, 0)
        session.rollback()
        session.execute(READ_ONLY)
        with pytest.raises(ReadOnlyError, match="True.* needs a temporary table for these rows"):
            dry(session, rows, **options)
