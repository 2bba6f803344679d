"""bulk_insert of a class whose key has a part that the database fills, though the model does not
declare that.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import BigInteger, create_engine, select, text
from sqlalchemy.exc import SAWarning
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sqla_seqreserve import bulk_insert


class Base(DeclarativeBase):
    pass


class Reading(Base):
    __tablename__ = "reading"
    tenant: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    value: Mapped[int]


class Sensed(Base):
    __tablename__ = "sensed"
    tenant: Mapped[int] = mapped_column(primary_key=True, server_default=text("7"))
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    value: Mapped[int]


@pytest.mark.parametrize("count", [1, 3, 300])
@pytest.mark.parametrize("returning", ["ids", "objects", None])
@pytest.mark.parametrize("model", [Reading, Sensed])
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_the_database_fills_in_what_the_model_does_not_declare(
    database_url: str, driver: str, model: Any, returning: Any, count: int
) -> None:
    """Rows that lack such a part of their key are stored as by add_all(), and each gets its own
    key.
    """
    engine = create_engine(database_url.replace("postgresql+psycopg:", f"postgresql+{driver}:"))
    assert engine.driver == driver
    with engine.begin() as connection:
        for name in ("reading", "sensed"):
            connection.execute(
                text(
                    f"CREATE TABLE {name} (tenant int DEFAULT 7, id bigserial, value int, "
                    "PRIMARY KEY (tenant, id))"
                )
            )
    rows = [{"tenant": number + 1, "value": number} for number in range(count)]
    with Session(engine) as session:
        # SQLAlchemy warns of such a model, as it does for add_all().
        with pytest.warns(SAWarning, match="no Python-side or server-side default"):
            found = bulk_insert(session, model, rows, returning=returning)
        stored = session.execute(select(model.tenant, model.id, model.value)).all()
        assert sorted(row.value for row in stored) == list(range(count))
        by_value = {row.value: (row.tenant, row.id) for row in stored}
        if returning == "ids":
            assert list(found) == [by_value[number] for number in range(count)]
        elif returning == "objects":
            assert [(one.tenant, one.id) for one in found] == [
                by_value[number] for number in range(count)
            ]
        else:
            assert found == count
    engine.dispose()
